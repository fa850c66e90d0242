"""An API behind a gateway, and an agent that uses it: `.venv/bin/python examples/gateway/run.py`.

Starts a platform of its own in a temporary directory and leaves nothing behind. With OPENAI_API_KEY
and OPENAI_MODEL set the agent thinks with that model, else with a scripted stand-in.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import library

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))

from demo import DIM, FREEHOLD, RESET, Platform, step  # noqa: E402

QUESTION = "Who wrote the book about sailing?"


@contextlib.contextmanager
def model_environment() -> Iterator[dict[str, str]]:
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        yield {}
        return
    from freehold.testing.scripted_model import Rule, Script, ScriptedModel, ScriptedToolCall

    print("Model: a scripted stand-in. Set OPENAI_API_KEY and OPENAI_MODEL for a real one.")
    call = ScriptedToolCall(name="library___findBooks", arguments={"words": "sailing"})
    tells = Rule(role="tool", when=r'"author": "(\w+)"', reply=r"It was \1, says the library.")
    script = Script(rules=(Rule(when="sailing", tool_call=call), tells))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    model = ScriptedModel(script)
    asyncio.run_coroutine_threadsafe(model.__aenter__(), loop).result(20)
    try:
        yield {"OPENAI_BASE_URL": model.base_url, "OPENAI_MODEL": "freehold-scripted"}
    finally:
        asyncio.run_coroutine_threadsafe(model.__aexit__(None, None, None), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


@contextlib.contextmanager
def library_server() -> Iterator[None]:
    server = library.serve()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def freehold(*words: str) -> None:
    print(f"{DIM}$ freehold {' '.join(words)}{RESET}", flush=True)
    subprocess.run([*FREEHOLD, *words], check=True)


def told(*words: str) -> dict[str, str]:
    done = subprocess.run([*FREEHOLD, *words, "--json"], check=True, stdout=subprocess.PIPE)
    document: dict[str, str] = json.loads(done.stdout)
    return document


def run(platform: Platform, scratch: Path) -> None:
    os.environ.update(platform.environment)
    os.environ["FREEHOLD_STATE"] = str(platform.state)
    step("1. What a gateway can make of the API's own document")
    freehold("gateway", "check", str(HERE / "library.yaml"))
    step("2. The API behind a gateway, its key into the vault")
    freehold("gateway", "create", "tools", "--search", "--tool-access", "deny")
    os.environ["FREEHOLD_API_KEY"] = library.KEY
    key = ("--api-key", "--header", "X-Library-Key")
    document = str(HERE / "library.yaml")
    freehold("gateway", "target", "add", "tools", "library", "--openapi", document, *key)
    del os.environ["FREEHOLD_API_KEY"]
    step("3. An agent that may find and read books, and lend none")
    agent = scratch / "agent"
    shutil.copytree(HERE / "agent", agent)
    gateway_id = told("gateway", "show", "tools")["gatewayId"]
    runtime = f"PYTHON_3_{sys.version_info.minor}"
    (agent / "freehold.toml").write_text(
        f'name = "librarian"\nruntime = "{runtime}"\n\n[environment]\nGATEWAY_ID = "{gateway_id}"\n'
    )
    print(f"{DIM}$ freehold deploy {agent}{RESET}", flush=True)
    arn = told("deploy", str(agent))["arn"]
    tools = ("--tool", "library___find*", "--tool", "library___get*")
    freehold("gateway", "groups", "set", "tools", "readers", "--who", arn, *tools)
    step("4. It is asked, and asks the library: the key was never in its sandbox")
    freehold("invoke", "librarian", QUESTION)
    step("5. Who did that, through what")
    freehold("audit", "--operation", "InvokeGateway", "--limit", "3")


def main() -> None:
    scratch = Path(tempfile.mkdtemp(prefix="freehold-demo-"))
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(model_environment())
        stack.enter_context(library_server())
        environment["FREEHOLD_OUTBOUND_PRIVATE_HOSTS"] = "127.0.0.1:8765"
        scratch.chmod(0o711)
        platform = Platform(scratch / "state", environment, 0)
        try:
            run(platform, scratch)
        finally:
            platform.stop()
            shutil.rmtree(scratch, ignore_errors=True)
    step("Stopped, and nothing is left running.")


if __name__ == "__main__":
    main()
