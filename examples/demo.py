"""`make demo`: deploy an agent with nothing but boto3, talk to it in two sessions, see the bill.

Starts a platform of its own in a temporary directory and leaves nothing behind, unless --keep.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BOLD, DIM, RESET = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")
FREEHOLD = [sys.executable, "-m", "freehold.cli"]


def step(text: str) -> None:
    print(f"\n{BOLD}{text}{RESET}", flush=True)


@contextlib.contextmanager
def model_environment() -> Iterator[dict[str, str]]:
    """A real model when the usual variables name one, else the scripted one; says which."""
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        name = os.environ.get("OPENAI_MODEL", "the provider's default")
        print(f"Model: {name}, as OPENAI_* in your environment says.")
        yield {}
        return
    from freehold.testing.scripted_model import ScriptedModel

    print(
        "Model: freehold-scripted, a stand-in that only repeats words: set OPENAI_API_KEY and "
        "OPENAI_MODEL for a real one."
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    model = ScriptedModel(before_piece=lambda _: asyncio.sleep(0.04))
    asyncio.run_coroutine_threadsafe(model.__aenter__(), loop).result(20)
    try:
        yield {"OPENAI_BASE_URL": model.base_url, "OPENAI_MODEL": "freehold-scripted"}
    finally:
        asyncio.run_coroutine_threadsafe(model.__aexit__(None, None, None), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


class Platform:
    """`freehold up`, in a temporary state directory."""

    def __init__(self, state: Path, environment: dict[str, str], port: int) -> None:
        arguments = [*FREEHOLD, "up", "--state", str(state), "--port", str(port), "--json"]
        if not shutil.which("bwrap"):
            print(
                "bubblewrap is missing (sudo apt-get install bubblewrap): going on in the process "
                "tier, which isolates nothing."
            )
            arguments += ["--tier", "process", "--allow-process-tier"]
        self.process = subprocess.Popen(
            arguments, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"freehold up did not start (exit code {self.process.wait()})")
        self.facts: dict[str, Any] = json.loads(line)
        self.state = state
        connection = json.loads((state / "connection.json").read_text())
        self.environment = {
            "AWS_ENDPOINT_URL": connection["endpoint"],
            "AWS_ENDPOINT_URL_S3": connection["endpoint"] + "/_s3",
            "AWS_ACCESS_KEY_ID": connection["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": connection["secret_access_key"],
            "AWS_DEFAULT_REGION": connection["region"],
        }
        self.account = connection["account"]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def deploy(platform: Platform) -> str:
    import boto3

    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as archive:
        for file in ("main.py", "requirements.txt"):
            archive.write(HERE / "hello" / file, file)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="demo-code")
    s3.put_object(Bucket="demo-code", Key="hello.zip", Body=bundle.getvalue())
    control = boto3.client("bedrock-agentcore-control")
    began = time.perf_counter()
    runtime = control.create_agent_runtime(
        agentRuntimeName="hello",
        agentRuntimeArtifact={
            "codeConfiguration": {
                "code": {"s3": {"bucket": "demo-code", "prefix": "hello.zip"}},
                "runtime": f"PYTHON_3_{sys.version_info.minor}",
                "entryPoint": ["main.py"],
            }
        },
        roleArn=f"arn:aws:iam::{platform.account}:role/demo",
        networkConfiguration={"networkMode": "PUBLIC"},
    )
    while True:
        seen = control.get_agent_runtime(agentRuntimeId=runtime["agentRuntimeId"])
        if seen["status"] == "READY":
            break
        if seen["status"] != "CREATING":
            sys.exit(f"{seen['status']}: {seen.get('failureReason')}")
        time.sleep(0.2)
    print(f"{runtime['agentRuntimeArn']}\nREADY after {time.perf_counter() - began:.1f} s")
    return str(runtime["agentRuntimeArn"])


class Session:
    """One conversation with the agent, shown line by line under its own letter."""

    def __init__(self, letter: str, arn: str, printing: threading.Lock) -> None:
        self.letter, self.arn, self._printing = letter, arn, printing
        self.id = str(uuid.uuid4())
        self.facts: dict[str, Any] = {}

    def ask(self, prompt: str) -> None:
        import boto3

        client = boto3.client("bedrock-agentcore")
        began = time.perf_counter()
        answer = client.invoke_agent_runtime(
            agentRuntimeArn=self.arn,
            runtimeSessionId=self.id,
            payload=json.dumps({"prompt": prompt}).encode(),
        )
        self._show(began, f"> {prompt}")
        for line in answer["response"].iter_lines(chunk_size=1):
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            if "text" in event:
                self._show(began, event["text"])
            else:
                self.facts.update(event)

    def _show(self, began: float, text: str) -> None:
        with self._printing:
            seconds = time.perf_counter() - began
            print(f"  {self.letter} {DIM}{seconds:6.3f} s{RESET}  {text}", flush=True)


def together(*calls: tuple[Session, str]) -> None:
    threads = [threading.Thread(target=session.ask, args=(prompt,)) for session, prompt in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)


def show_apart(a: Session, b: Session) -> None:
    for session in (a, b):
        print(f"  {session.letter}: was told {session.facts.get('told')}")
        print(f"     process and home at its last turn: {session.facts.get('session')}")
    told_a, told_b = set(a.facts.get("told", [])), set(b.facts.get("told", []))
    if not told_a or not told_b or told_a & told_b:
        sys.exit("The sessions are not apart. That is a bug: please report it.")
    print("  Nothing of one is in the other.")


def cli(platform: Platform, *arguments: str) -> None:
    print(f"{DIM}$ freehold {' '.join(arguments)}{RESET}", flush=True)
    subprocess.run([*FREEHOLD, *arguments, "--state", str(platform.state)], check=True)


def run(platform: Platform) -> None:
    os.environ.update(platform.environment)
    facts = platform.facts
    print(f"{facts['endpoint']}, sessions in the {facts['tier']} tier")
    step("2. boto3 uploads a bundle and creates an agent runtime")
    arn = deploy(platform)
    step("3. Two sessions side by side, streamed as the agent speaks")
    printing = threading.Lock()
    a, b = Session("A", arn, printing), Session("B", arn, printing)
    together((a, "My favourite colour is green."), (b, "I have a cat called Ada."))
    together((a, "What do you know of me?"), (b, "And of me?"))
    step("4. They are apart")
    show_apart(a, b)
    step("5. What ran, and what it cost")
    import boto3

    client = boto3.client("bedrock-agentcore")
    for session in (a, b):
        client.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session.id)
    cli(platform, "sessions", "--all")
    cli(platform, "costs", "--by", "agent")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the platform running")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    options = parser.parse_args()
    state = Path(tempfile.mkdtemp(prefix="freehold-demo-"))
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(model_environment())
        step("1. freehold up")
        platform = Platform(state, environment, options.port)
        try:
            run(platform)
            if options.keep:
                step("The platform stays up until Ctrl-C")
                print(f'In another shell: eval "$(.venv/bin/freehold env --state {state})"')
                with contextlib.suppress(KeyboardInterrupt):
                    platform.process.wait()
        finally:
            platform.stop()
            shutil.rmtree(state, ignore_errors=True)
    step("Stopped, and nothing is left running.")


if __name__ == "__main__":
    main()
