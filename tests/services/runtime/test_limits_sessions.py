"""What a session may use: who exceeds it is told which limit it was, and nobody else notices."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from egress_ground import run

import agents
from running import Agent, Refusal, RunningPlatform, new_session, refusal, until

pytestmark = pytest.mark.timeout(300)

ANSWER_SECONDS_MAX = 60
"""Of a neighbour, on a machine that others use as well."""


@pytest.fixture(scope="module")
def bounded(open_directory: Path, platform: RunningPlatform) -> Iterator[RunningPlatform]:
    state = open_directory / "bounded"
    state.mkdir()
    (state / "builds").symlink_to(platform.state / "builds")
    with RunningPlatform(state, session_memory_mib_max=512, session_memory_mib=256) as running:
        yield running


SMALL = {
    "memory-mib": "256",
    "cpus": "0.5",
    "processes": "24",
    "open-files": "128",
    "scratch-mib": "16",
}

Deploy = Callable[[str], Agent]


@pytest.fixture(scope="module")
def deploy(bounded: RunningPlatform) -> Deploy:
    known: dict[str, Agent] = {}

    def agent(tier: str) -> Agent:
        if tier not in known:
            tags = {f"freehold:{name}": value for name, value in SMALL.items()}
            known[tier] = bounded.deploy(agents.obeying(), tags={**tags, "freehold:tier": tier})
        return known[tier]

    return agent


@pytest.fixture(params=["container", pytest.param("gvisor", marks=pytest.mark.slow)])
def small(request: pytest.FixtureRequest, deploy: Deploy) -> Agent:
    return deploy(request.param)


@contextlib.contextmanager
def neighbour(agent: Agent) -> Iterator[None]:
    """Another session of the same agent, which answers all the while."""
    session = new_session()
    run(agent, "kept['mine'] = 1; answer = 0", session)
    over, failures = threading.Event(), []

    def ask() -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                assert run(agent, "answer = kept['mine']", session) == 1
            except Exception as error:  # noqa: BLE001 - told to the test, whatever it is
                failures.append(repr(error))
                return
            if (took := time.monotonic() - began) > ANSWER_SECONDS_MAX:
                failures.append(f"an answer took {took:.1f} s")
                return
            over.wait(0.2)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join(60)
    assert failures == []


def failing(agent: Agent, source: str, session: str | None = None) -> Refusal:
    found = refusal(lambda: run(agent, source, session))
    assert (found.status, found.code) == (424, "RuntimeClientError"), found
    return found


EAT_MEMORY = """
eaten = []
while True:
    eaten.append(b"x" * 1_000_000)
"""
EAT_PROCESSES = """
import os, signal, time
children = []
try:
    while True:
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
        children.append(child)
        if len(children) > 1000:
            raise SystemExit
finally:
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
"""
EAT_THREADS = """
import threading
over = threading.Event()
threads = []
try:
    while len(threads) < 1000:
        thread = threading.Thread(target=over.wait)
        thread.start()
        threads.append(thread)
finally:
    over.set()
"""
EAT_DISK = """
import os
try:
    with open("/tmp/big", "wb") as file:
        for _ in range(200):
            file.write(b"x" * 1_000_000)
finally:
    os.unlink("/tmp/big")
"""
EAT_FILES = """
import os
held = []
try:
    while len(held) < 10_000:
        held.append(os.open("/dev/null", os.O_RDONLY))
finally:
    for each in held:
        os.close(each)
"""


def test_memory(small: Agent) -> None:
    session = new_session()
    with neighbour(small):
        found = failing(small, EAT_MEMORY, session)
    assert "ran out of memory (limit 256 MiB)" in found.message or "MemoryError" in found.message
    assert "tag freehold:memory-mib" in found.message
    assert run(small, "answer = 'again'", session) == "again"


@pytest.mark.parametrize("source", [EAT_PROCESSES, EAT_THREADS], ids=["processes", "threads"])
def test_processes(small: Agent, source: str) -> None:
    session = new_session()
    with neighbour(small):
        found = failing(small, source, session)
    tags = ["processes"]
    if small.platform.session(session)["tier"] == "gvisor":
        tags.append("memory-mib")  # a forked process costs memory of its own there
    assert any(f"tag freehold:{tag}" in found.message for tag in tags), found
    until(lambda: run(small, "answer = 'again'", session) == "again")


def test_a_fork_bomb_ends_with_its_session(small: Agent) -> None:
    """At the latest: it may run out of memory before. What counts is that nobody else notices."""
    bomb = """
import os, threading
def explode():
    if os.fork() == 0:
        while True:
            try:
                os.fork()
            except OSError:
                pass
threading.Thread(target=explode).start()
answer = "lit"
"""
    session = new_session()
    with neighbour(small):
        assert run(small, bomb, session) == "lit"
        time.sleep(1)  # for the bomb to do what it can
        with contextlib.suppress(ClientError):  # where it has ended itself
            small.stop(session)
    reason = small.platform.ended(session)
    assert "StopRuntimeSession was called" in reason or "ran out of memory" in reason


def test_disk(small: Agent) -> None:
    with neighbour(small):
        found = failing(small, EAT_DISK)
    assert "No space left on device" in found.message
    assert "tag freehold:scratch-mib" in found.message


def test_open_files(small: Agent) -> None:
    with neighbour(small):
        found = failing(small, EAT_FILES)
    assert "Too many open files" in found.message
    assert "tag freehold:open-files" in found.message


def test_a_busy_session_is_slowed_down_and_no_more(small: Agent) -> None:
    burn = """
import os, time
began, used = time.monotonic(), os.times()
while time.monotonic() - began < 3:
    pass
now = os.times()
answer = (now.user + now.system - used.user - used.system) / (time.monotonic() - began)
"""
    with neighbour(small):
        session = new_session()
        run(small, burn, session)
    until(lambda: small.platform.session(session)["cpuSeconds"] is not None)
    record = small.platform.session(session)
    assert 0 < record["cpuSeconds"] < 2.5, record


# -- settings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("memory-mib", "513", "from 32 to 512 (FREEHOLD_SESSION_MEMORY_MIB_MAX is the most)"),
        ("memory-mib", "31", "from 32 to 512"),
        ("memory-mib", "1.5", "a whole number"),
        ("memory-mib", "-1", "a whole number"),
        ("cpus", "2.5", "from 0.05 to 2 (FREEHOLD_SESSION_CPUS_MAX"),
        ("cpus", "many", "a number"),
        ("processes", "513", "FREEHOLD_SESSION_PROCESSES_MAX"),
        ("open-files", "4097", "FREEHOLD_SESSION_OPEN_FILES_MAX"),
        ("scratch-mib", "0", "FREEHOLD_SESSION_SCRATCH_MIB_MAX"),
    ],
)
def test_a_limit_out_of_bounds_is_refused_with_the_bounds(
    bounded: RunningPlatform, name: str, value: str, words: str
) -> None:
    tags = {f"freehold:{name}": value}
    refused = refusal(lambda: bounded.create(agents.obeying(), tags=tags))
    assert refused.code == "ValidationException"
    assert words in refused.message


@pytest.mark.parametrize(
    ("wish", "enough"),
    [({}, False), ({"tags": {"freehold:memory-mib": "512"}}, True), ("minimum", True)],
    ids=["usual", "tag", "resourceConfigurations"],
)
def test_what_a_runtime_wishes_is_what_its_sessions_get(
    bounded: RunningPlatform, wish: Any, enough: bool
) -> None:
    """300 MiB: more than is usual there, and less than is the most."""
    if wish == "minimum":
        wish = {"resourceConfigurations": [{"minimumMemoryInMiB": 512}]}
    agent = bounded.deploy(agents.obeying(), **wish)
    source = "kept['x'] = b'x' * (300 << 20); answer = len(kept['x'])"
    if enough:
        assert run(agent, source) == 300 << 20
    else:
        assert "freehold:memory-mib" in failing(agent, source).message
