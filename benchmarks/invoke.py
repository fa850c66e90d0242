"""What InvokeAgentRuntime costs on a warm session, beside two limits in the same run.

    .venv/bin/python benchmarks/invoke.py [--calls 2000] [--rounds 3]

direct: the agent's own port. pass-through: bare ASGI + aiohttp before the same agent (no
signature). freehold: SigV4 verified, governed, into the session's sandbox. CPU is what the
platform's processes (or the pass-through) spent, from /proc; the agent's own is in none of them.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from platform_under_test import (
    AGENT,
    PlatformUnderTest,
    cpu_seconds,
    free_port,
    platform,
    until_listening,
)
from yarl import URL

KINDS = {"JSON": {"prompt": "x" * 900}, "SSE, 50 events": {"stream": True}}


class Target(NamedTuple):
    name: str
    url: str
    sign: Callable[[bytes], dict[str, str]]
    pids: tuple[int, ...]


class Figures(NamedTuple):
    p50_ms: float
    rate: float
    cpu_us: float


def signer(under_test: PlatformUnderTest, url: str, session_id: str) -> Any:
    c = under_test.connection
    auth = SigV4Auth(
        Credentials(c["access_key_id"], c["secret_access_key"]), "bedrock-agentcore", c["region"]
    )

    def sign(body: bytes) -> dict[str, str]:
        request = AWSRequest("POST", url, data=body, headers={
            "Content-Type": "application/json",
            "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": session_id,
        })  # fmt: skip
        auth.add_auth(request)
        return dict(request.headers.items())

    return sign


async def measure(target: Target, body: bytes, calls: int, at_once: int) -> Figures:
    url = URL(target.url, encoded=True)
    left = calls
    times: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def one() -> None:
            headers = target.sign(body)
            began = time.perf_counter()
            async with client.post(url, data=body, headers=headers) as answer:
                data = await answer.read()
            times.append(time.perf_counter() - began)
            assert answer.status == 200, data

        async def many() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await one()

        await one()
        before = [cpu_seconds(pid) for pid in target.pids]
        times.clear()
        began = time.perf_counter()
        await asyncio.gather(*(many() for _ in range(at_once)))
        wall = time.perf_counter() - began
        cpu = sum(cpu_seconds(p) for p in target.pids) - sum(before)
    return Figures(statistics.median(times) * 1e3, calls / wall, cpu / calls * 1e6)


def start(*words: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def table(title: str, rows: dict[str, list[Figures]]) -> None:
    print(
        f"\n{title}\n\n| system | p50 ms | requests/s | CPU us a call | CPU against pass-through |"
    )
    print("|---|---|---|---|---|")
    middle = {
        name: Figures(*(statistics.median(column) for column in zip(*figures, strict=True)))
        for name, figures in rows.items()
    }
    base = middle["pass-through"].cpu_us
    for name, f in middle.items():
        cpu = f"{f.cpu_us:.0f}" if name != "direct" else "-"
        ratio = f"{f.cpu_us / base:.2f}" if name != "direct" else "-"
        print(f"| {name} | {f.p50_ms:.2f} | {f.rate:.0f} | {cpu} | {ratio} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    agent_port, pass_port = free_port(), free_port()
    children = [
        start(AGENT / "main.py", agent_port),
        start(Path(__file__).parent / "passthrough.py", pass_port, agent_port),
    ]
    try:
        with platform() as under_test:
            arn = under_test.deploy("bench")
            session_id = str(uuid.uuid4())
            quoted = arn.replace(":", "%3A").replace("/", "%2F")
            url = f"{under_test.endpoint}/runtimes/{quoted}/invocations"
            until_listening(agent_port)
            until_listening(pass_port)
            pids = under_test.processes()
            plain = lambda _: {"Content-Type": "application/json"}  # noqa: E731
            targets = [
                Target("direct", f"http://127.0.0.1:{agent_port}/invocations", plain, ()),
                Target(
                    "pass-through", f"http://127.0.0.1:{pass_port}/invocations", plain,
                    (children[1].pid,),
                ),
                Target(
                    "freehold", url, signer(under_test, url, session_id),
                    (pids["api"], pids["node"]),
                ),
            ]  # fmt: skip
            print(f"tier {under_test.facts['tier']}, {options.calls} calls, "
                  f"medians of {options.rounds} interleaved rounds")  # fmt: skip
            for at_once in (1, 16):
                for kind, payload in KINDS.items():
                    rows: dict[str, list[Figures]] = {t.name: [] for t in targets}
                    calls = options.calls if kind == "JSON" else options.calls // 4
                    for _ in range(options.rounds):
                        for target in targets:
                            body = json.dumps(payload).encode()
                            rows[target.name].append(
                                asyncio.run(measure(target, body, calls, at_once))
                            )
                    table(f"{kind}, {at_once} at once", rows)
            large_body(under_test, arn, pids["api"])
    finally:
        for child in children:
            child.terminate()
            child.wait(10)


def large_body(under_test: PlatformUnderTest, arn: str, api: int) -> None:
    """Peak memory of the API worker while 100 MB pass through it."""
    client = under_test.client("bedrock-agentcore")
    payload = b'{"size": "' + b"x" * (100_000_000 - 13) + b'"}'
    before = resident_mib(api)
    began = time.perf_counter()
    client.invoke_agent_runtime(
        agentRuntimeArn=arn, runtimeSessionId=str(uuid.uuid4()), payload=payload
    )["response"].read()
    seconds, peak = time.perf_counter() - began, peak_mib(api)
    print(
        f"\n100 MB body: {seconds:.1f} s; API worker {before:.0f} MiB, at its peak {peak:.0f} MiB"
    )


def resident_mib(pid: int) -> float:
    return _status(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    return _status(pid, "VmHWM")


def _status(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


if __name__ == "__main__":
    main()
