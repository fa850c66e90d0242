"""`freehold dev` runs an agent here, again at each change, and leaves nothing behind."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_doubles import Run

from freehold.cli.create import rendered

WAIT_SECONDS = 40

Started = Callable[..., "Dev"]


class Dev:
    """`freehold dev --json` in a process of its own; its events as they come."""

    def __init__(self, folder: Path, port: int, **environment: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "freehold.cli"),
                *("dev", str(folder), "--port", str(port), "--json"),
            ],
            env={**os.environ, "FREEHOLD_STATE": "/nonexistent", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._port = port
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.said: list[str] = []
        for read in (self._read_events, self._read_rest):
            threading.Thread(target=read, daemon=True).start()

    def event(self, name: str) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no event {name}; it said {self.said}") from None
            if event["event"] == name:
                return event

    def listening(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
        raise AssertionError(f"nothing listens; it said {self.said}")

    def ask(self, document: Any) -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/invocations",
            data=json.dumps(document).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
            data: bytes = answer.read()
            return data

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._events.put(json.loads(line))

    def _read_rest(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, text in rendered("plain", "greeter").items():
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.fixture
def dev(folder: Path, free_port: int) -> Iterator[Started]:
    made: list[Dev] = []

    def start(**environment: str) -> Dev:
        made.append(Dev(folder, free_port, **environment))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.end(signal.SIGTERM)
        for stream in (one.process.stdout, one.process.stderr):
            assert stream is not None
            stream.close()


def _ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_new_agent_answers_and_a_change_starts_it_again(dev: Started, folder: Path) -> None:
    agent = dev()
    first = agent.event("started")
    agent.listening()
    assert b'"Hello!"' in agent.ask({"prompt": "Hi"})
    text = (folder / "freehold.toml").read_text()
    (folder / "freehold.toml").write_text(text.replace("# GREETING", "GREETING"))
    assert agent.event("changed")["files"] == ["freehold.toml"]
    second = agent.event("started")
    assert second["pid"] != first["pid"]
    assert _ended(first["pid"])
    agent.listening()
    assert b'"Good"' in agent.ask({"prompt": "Hi"})


def test_an_instrumented_agent_runs_here_without_it(dev: Started, folder: Path) -> None:
    file = folder / "freehold.toml"
    wrapped = 'entry_point = ["opentelemetry-instrument", "main.py"]'
    file.write_text(file.read_text().replace('entry_point = "main.py"', wrapped))
    assert wrapped in file.read_text()
    agent = dev()
    agent.event("started")
    agent.listening()
    assert b'"Hello!"' in agent.ask({"prompt": "Hi"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_agent_too_and_says_nothing(dev: Started, number: int) -> None:
    agent = dev()
    pid = agent.event("started")["pid"]
    agent.listening()
    assert agent.end(number) == 130
    assert _ended(pid)
    assert "Traceback" not in "".join(agent.said)


def test_an_agent_that_ends_is_told_and_starts_again_once_mended(
    dev: Started, folder: Path
) -> None:
    whole = (folder / "main.py").read_text()
    (folder / "main.py").write_text("raise SystemExit(3)")
    agent = dev()
    assert agent.event("ended")["exitCode"] == 3
    (folder / "main.py").write_text(whole)
    agent.event("started")
    agent.listening()


def test_a_half_edited_project_file_leaves_the_agent_running(dev: Started, folder: Path) -> None:
    agent = dev()
    agent.event("started")
    agent.listening()
    (folder / "freehold.toml").write_text('name = "greeter')
    assert "freehold.toml" in agent.event("invalid")["message"]
    assert agent.ask({"prompt": "Hi", "stream": False})


def test_caches_and_environments_start_nothing_again(dev: Started, folder: Path) -> None:
    agent = dev()
    agent.event("started")
    agent.listening()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "main.pyc").write_text("x")
    (folder / "other.py").write_text("")
    assert agent.event("changed")["files"] == ["other.py"]


def test_the_agent_is_pointed_at_a_platform_that_listens(dev: Started, folder: Path) -> None:
    (folder / "main.py").write_text(
        "import os, sys\n"
        "print(os.environ.get('AWS_ENDPOINT_URL_BEDROCK_AGENTCORE'), file=sys.stderr)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as platform:
        endpoint = f"http://127.0.0.1:{platform.getsockname()[1]}"
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        agent = dev(FREEHOLD_ENDPOINT=endpoint, **keys)
        agent.event("ended")
    agent.end(signal.SIGTERM)
    assert f"{endpoint}\n" in agent.said


def test_a_port_that_is_taken_is_refused_before_anything_starts(run: Run, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("dev", folder, "--port", port)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: Port {port} cannot be used")
    assert "--port" in result.stderr


def test_a_folder_without_an_agent_says_how_to_make_one(run: Run, tmp_path: Path) -> None:
    result = run("dev", tmp_path / "empty")
    assert result.exit_code == 1
    assert "freehold create" in result.stderr
