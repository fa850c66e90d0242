"""The templates' agents really run: the unmodified SDK, streaming, and turns kept by session."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from freehold.cli.answer import events
from freehold.cli.create import rendered
from freehold.testing.scripted_model import ScriptedModel

WAIT_SECONDS = 60
SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"


@contextmanager
def running(folder: Path, python: str, port: int, **environment: str) -> Iterator[None]:
    """The agent of this folder, run as it is, until the end of the `with`."""
    process = subprocess.Popen(
        [python, "main.py"],
        cwd=folder,
        env={**os.environ, "PORT": str(port), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.communicate()[1].decode()
        yield
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_SECONDS)


def make(folder: Path, template: str) -> None:
    for path, text in rendered(template, "greeter").items():
        (folder / path).write_text(text)


def ask(port: int, session: str, **payload: Any) -> tuple[str, bytes]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        data=json.dumps(payload).encode(),
        headers={"Content-Type": "application/json", SESSION_HEADER: session},
    )
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
        return answer.headers["Content-Type"], answer.read()


def streamed(port: int, session: str, **payload: Any) -> list[Any]:
    kind, data = ask(port, session, **payload)
    assert kind.startswith("text/event-stream")
    return [json.loads(event) for event in events([data])]


def test_plain_streams_word_by_word_and_keeps_sessions_apart(
    tmp_path: Path, free_port: int
) -> None:
    make(tmp_path, "plain")
    with running(tmp_path, sys.executable, free_port, GREETING="Welcome"):
        first = streamed(free_port, "one", prompt="a rose")
        assert first == ["Welcome!", " You", " said:", " a", " rose", " (turn", " 1)"]
        assert "".join(streamed(free_port, "one", prompt="x")).endswith("(turn 2)")
        assert "".join(streamed(free_port, "two", prompt="x")).endswith("(turn 1)")
        kind, data = ask(free_port, "one", prompt="y", stream=False)
        assert kind == "application/json"
        assert json.loads(data)["before"] == ["a rose", "x"]
        ping = urllib.request.urlopen(f"http://127.0.0.1:{free_port}/ping", timeout=WAIT_SECONDS)
        assert json.load(ping)["status"] == "Healthy"


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("template", ["strands", "langgraph"])
async def test_a_framework_installs_as_pinned_and_streams_what_the_model_says(
    tmp_path: Path, free_port: int, model: ScriptedModel, template: str
) -> None:
    make(tmp_path, template)

    def talk() -> list[Any]:
        venv.create(tmp_path / ".venv", with_pip=True)
        python = str(tmp_path / ".venv" / "bin" / "python")
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "-r", "requirements.txt"],
            cwd=tmp_path,
            check=True,
            timeout=600,
        )
        with running(tmp_path, python, free_port, OPENAI_BASE_URL=f"{model.base_url}/v1"):
            streamed(free_port, "one", prompt="first words")
            return streamed(free_port, "one", prompt="more words")

    answer = await asyncio.to_thread(talk)
    assert len(answer) > 1
    assert "You said: more words" in "".join(answer)
    assert "first words" in str(model.requests[-1].document["messages"])
