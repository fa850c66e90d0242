"""Fixtures of the command line's tests: a way to run it, and something that answers it."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_doubles import ACCESS_KEY_ID, Answering, Command, Run
from click.testing import CliRunner, Result

from freehold.cli.root import root


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `freehold ...` in this process, with no platform in its environment."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "FREEHOLD_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FREEHOLD_STATE", str(tmp_path / "no-state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*words: object, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(root, [str(word) for word in words], input=stdin)

    return invoke


@pytest.fixture
def answering(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    """A server with prepared answers, named by the environment that `run` uses."""
    server = Answering()
    monkeypatch.setenv("FREEHOLD_ENDPOINT", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-no-answer-shows")
    yield server
    server.close()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def freehold(request: pytest.FixtureRequest) -> Command:
    """The real command, against the real platform of this test run."""
    try:
        platform = request.getfixturevalue("platform")
    except pytest.FixtureLookupError:
        pytest.skip("no fixture `platform` in this test run")
    return Command(
        FREEHOLD_ENDPOINT=platform.endpoint,
        AWS_REGION=platform.region,
        AWS_ACCESS_KEY_ID=platform.access_key_id,
        AWS_SECRET_ACCESS_KEY=platform.secret_access_key,
    )
