"""The state directory: one platform at a time, and what an earlier one left is outlived."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freehold import state as state_files
from freehold.state import (
    AlreadyRunning,
    Connection,
    ProcessLock,
    StateLock,
    end_earlier_run,
    node_name,
    run_directory,
)

HOLDER = """
import sys, time
from pathlib import Path
from freehold.state import ProcessLock
lock = ProcessLock(Path(sys.argv[1]), sys.argv[2])
print("held", flush=True)
time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state_files.prepare(tmp_path)
    return tmp_path


def holder(state: Path, name: str, seconds: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state), name, str(seconds)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.stdout.close()
    return process


def test_only_one_holds_a_state(state: Path) -> None:
    first = StateLock(state)
    with pytest.raises(AlreadyRunning, match=r"process \d+"):
        StateLock(state)
    assert state_files.holder(state) is not None
    first.release()
    assert state_files.holder(state) is None
    StateLock(state).release()


def test_a_process_that_lives_keeps_its_place(state: Path) -> None:
    process = holder(state, "node", 60)
    with pytest.raises(BlockingIOError):
        ProcessLock(state, "node")
    ProcessLock(state, "api-1")
    process.kill()
    process.wait()
    ProcessLock(state, "node")


async def test_processes_of_an_earlier_run_may_end_by_themselves(state: Path) -> None:
    processes = [holder(state, "node", 0.4), holder(state, "api-1", 0.2)]
    assert await end_earlier_run(state, seconds_max=10) == ["api-1", "node"]
    assert [process.wait(5) for process in processes] == [0, 0]
    assert await end_earlier_run(state, seconds_max=10) == []


async def test_a_process_of_an_earlier_run_that_does_not_end_is_killed(state: Path) -> None:
    process = holder(state, "node", 60)
    began = time.monotonic()
    assert await end_earlier_run(state, seconds_max=0.2) == ["node"]
    assert time.monotonic() - began < 5
    assert await asyncio.to_thread(process.wait, 5) == -9


def test_a_node_keeps_its_name_and_no_other_has_it(tmp_path: Path) -> None:
    names = set()
    for place in (tmp_path / "one", tmp_path / "two"):
        place.mkdir()
        state_files.prepare(place)
        assert node_name(place) == node_name(place)
        names.add(node_name(place))
    assert len(names) == 2


def test_sockets_of_a_long_path_lie_elsewhere_and_are_removed(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    first = run_directory(long)
    assert len(str(first)) < 90
    assert first.stat().st_mode & 0o777 == 0o700
    (first / "node.sock").touch()
    second = run_directory(long)  # after a kill: the old one is found by its link
    assert not first.exists()
    state_files.discard_run_directory(long)
    assert not second.exists()
    assert list(long.iterdir()) == []


def test_the_connection_is_private_and_replaced_whole(state: Path) -> None:
    assert state_files.read_connection(state) is None
    for number in range(2):
        made = Connection(
            endpoint=f"http://127.0.0.1:{number}", region="us-east-1", account="1" * 12,
            access_key_id="id", secret_access_key="hidden",
        )  # fmt: skip
        path = state_files.write_connection(state, made)
        assert path.stat().st_mode & 0o777 == 0o600
        assert state_files.read_connection(state) == made
        assert "hidden" not in repr(made)
    (state / "connection.json").write_text("{ cut off")
    assert state_files.read_connection(state) is None
