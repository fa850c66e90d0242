"""What waits for sessions, over a driver that only pretends: races that no real one loses often."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from freehold.adapters.placement.local.lifetimes import Lifetimes
from freehold.adapters.placement.local.session import LiveSession
from freehold.adapters.placement.local.starter import Starter
from freehold.adapters.placement.local.tiers import Tiers
from freehold.adapters.placement.local.version import FAILURES_MAX
from freehold.adapters.placement.local.warmth import Warmth, WarmthLimits
from freehold.ports.placement import KeptWarm, Launch, SessionKey
from freehold.ports.sandbox import (
    LAUNCHER,
    Exit,
    Limits,
    Probe,
    SandboxFailed,
    SandboxSpec,
    TemplateSpec,
    Usage,
)

SECONDS_MAX = 120
WAITING = 2
"""Of each version: the one that its endpoint wants, and one since it can have no template."""


class PretendedSandbox:
    """Its agent answers as soon as `up` is set."""

    tier = "container"

    def __init__(self, spec: SandboxSpec, driver: "PretendedDriver") -> None:
        self.id, self._driver = spec.id, driver
        self.listeners: dict[int, socket.socket] = {}
        self.was_frozen = False
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        driver.running[self.id] = self

    async def connect(self, port: int) -> socket.socket:
        await self._driver.up.wait()
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(b'HTTP/1.1 200 OK\r\n\r\n{"status": "Healthy"}')
            theirs.shutdown(socket.SHUT_WR)
            self._driver.kept_open.append(theirs.dup())
        ours.setblocking(False)
        return ours

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    def usage(self) -> Usage:
        return Usage(cpu_seconds=0.0, memory_peak_bytes=1 << 20)

    async def execute(self, spec: object) -> None:
        raise NotImplementedError

    async def freeze(self) -> None:
        self.was_frozen = True

    async def thaw(self) -> None: ...

    async def stop(self, grace_seconds: float = 0) -> None:
        await self._driver.may_stop.wait()
        self._driver.running.pop(self.id, None)
        if not self._exit.done():
            self._exit.set_result(Exit(0, "stopped"))


class PretendedDriver:
    tier = "container"

    def __init__(self) -> None:
        self.running: dict[str, PretendedSandbox] = {}
        self.begun: list[str] = []
        self.kept_open: list[socket.socket] = []
        self.fails = False
        self.up, self.may_stop = asyncio.Event(), asyncio.Event()
        self.up.set()
        self.may_stop.set()

    async def probe(self) -> Probe:
        return Probe(True, "")

    async def start(self, spec: SandboxSpec) -> PretendedSandbox:
        self.begun.append(spec.command[0])
        if self.fails:
            raise SandboxFailed("not now")
        return PretendedSandbox(spec, self)

    async def adopt(self, spec: SandboxSpec) -> None:
        return None

    async def sweep(self, keep: set[str]) -> list[str]:
        return []

    async def close(self) -> None: ...


class Chatty(PretendedDriver):
    """What its templates import says much."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = 0

    async def prepare(self, spec: TemplateSpec) -> "Unfit":
        await asyncio.to_thread(self._say, Path(spec.output))
        folder = Path(spec.output).parent
        self.kept = sum(each.stat().st_size for each in folder.iterdir() if each.is_file())
        return Unfit(spec.id)

    def _say(self, output: Path) -> None:
        descriptor = os.open(output, os.O_RDWR)
        try:
            for _ in range(256):
                os.write(descriptor, b"x" * (1 << 15))
        finally:
            os.close(descriptor)


class Unfit:
    state, reason = "unfit", "it says too much"

    def __init__(self, name: str) -> None:
        self.id = name

    async def close(self) -> None: ...


class Ground:
    def __init__(self, directory: Path, driver: PretendedDriver | None = None) -> None:
        self.driver = driver or PretendedDriver()
        self.starter = Starter(
            tiers=Tiers({"container": self.driver}, default="container"),  # type: ignore[dict-item]
            spec_of=_spec_of,
            state=directory,
            start_seconds_max=SECONDS_MAX,
            log_bytes_max=1 << 20,
        )
        self.starter.directories.mkdir()
        limits = WarmthLimits(bytes_max=1 << 34, idle_seconds=600, freezes=False)
        self.warmth = Warmth(self.starter, limits)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while not true():
                await asyncio.sleep(0.005)


def _spec_of(launch: Launch, sandbox_id: str, directory: Path, output: Path) -> SandboxSpec:
    return SandboxSpec(
        id=sandbox_id, command=(launch.runtime_name, LAUNCHER), environment={}, workdir="/",
        directory=str(directory / "sandbox"), output=str(output),
    )  # fmt: skip


def launch_of(runtime: str, session: str = "") -> Launch:
    return Launch(
        key=SessionKey("tenant", runtime, "prompt", session), runtime_arn=runtime,
        runtime_name=runtime, version=1, user=None, tier="", interpreter="PYTHON_3_13", code="c",
        layers=(), entry_point=("main.py",), environment={}, port=8080, idle_seconds=60,
        lifetime_seconds=600, limits=Limits(),
    )  # fmt: skip


def wanted(*runtimes: str) -> list[KeptWarm]:
    return [KeptWarm(launch=launch_of(runtime), count=1) for runtime in runtimes]


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.driver.up.set()
    made.driver.may_stop.set()
    await made.warmth.close()
    for each in made.driver.kept_open:
        each.close()
    assert not made.driver.running


async def test_what_was_deleted_while_it_queued_is_not_begun(ground: Ground) -> None:
    """Two come up at once; a third waits for its turn, and is nobody's by then."""
    launch = launch_of("three", "a session")
    ground.warmth.started(launch, ground.starter.session(launch))
    await ground.until(lambda: len(ground.driver.running) == 1 and not ground.warmth._tending)
    ground.driver.up.clear()
    ground.warmth.keep(wanted("one", "two"))
    await ground.until(lambda: {"one", "two"} <= set(ground.driver.begun))
    ground.warmth.keep(wanted("one", "two", "three"))
    await ground.until(lambda: len(ground.warmth._places._waiters or ()) == 1)
    ground.warmth.forget_runtime("tenant", "three")
    ground.driver.up.set()
    await ground.until(lambda: not ground.warmth._tending)
    assert ground.driver.begun.count("three") == 1


async def test_what_is_cleared_away_when_the_node_stops_is_cleared_away_whole(
    ground: Ground,
) -> None:
    ground.warmth.keep(wanted("one"))
    await ground.until(lambda: len(ground.driver.running) == WAITING and not ground.warmth._tending)
    ground.driver.may_stop.clear()
    ground.warmth.forget_runtime("tenant", "one")
    closing = asyncio.create_task(ground.warmth.close())
    await asyncio.sleep(0)
    ground.driver.may_stop.set()
    await closing
    assert not ground.driver.running


async def test_what_did_not_come_up_is_tried_again_when_a_session_did(ground: Ground) -> None:
    ground.driver.fails = True
    ground.warmth.keep(wanted("one"))
    await ground.until(
        lambda: len(ground.driver.begun) == FAILURES_MAX and not ground.warmth._tending
    )
    ground.driver.fails = False
    launch = launch_of("one", "a session")
    ground.warmth.started(launch, ground.starter.session(launch))
    await ground.until(lambda: len(ground.driver.running) == WAITING)


async def test_what_a_template_says_does_not_fill_the_disk(tmp_path: Path) -> None:
    driver = Chatty()
    ground = Ground(tmp_path, driver)
    async with asyncio.timeout(SECONDS_MAX):
        assert await ground.starter.prepared(launch_of("one")) == "it says too much"
    assert 0 < driver.kept <= 1 << 20


@pytest.mark.parametrize("measured", [0.0, None])
async def test_what_may_be_computing_unseen_is_not_frozen(
    ground: Ground, measured: float | None
) -> None:
    launch = launch_of("one", "a session")
    session = ground.starter.session(launch)
    ground.starter.begin(session, launch)
    await ground.starter.start(session, None, "")
    session.ready.set_result(None)
    session.idle_seconds, session.meter.cpu_seconds = 1, measured
    tasks: list[asyncio.Task[None]] = []
    ended = asyncio.Event()

    async def end(session: LiveSession, reason: str, *, release_seconds: float = 0) -> None:
        ended.set()

    lifetimes = Lifetimes(
        end=end,
        spawn=lambda work: tasks.append(asyncio.create_task(work)),
        changed=lambda: None,
        freeze_seconds=0.1,
    )
    lifetimes.schedule(session)
    async with asyncio.timeout(SECONDS_MAX):
        await ended.wait()
        await asyncio.gather(*tasks)
    assert ground.driver.running[session.sandbox_id].was_frozen == (measured is not None)
    await ground.starter.discard(session)


@pytest.mark.parametrize(
    "change",
    [
        {"environment": {"TOKEN": "new"}},
        {"limits": Limits(processes_max=3)},
        {"version": 2},
        {"tier": "gvisor"},
        {"key": SessionKey("other", "one", "prompt", "a session")},
    ],
)
async def test_what_waits_is_given_to_nobody_who_wants_another(
    ground: Ground, change: dict[str, object]
) -> None:
    ground.warmth.keep(wanted("one"))
    await ground.until(lambda: len(ground.driver.running) == WAITING and not ground.warmth._tending)
    launch = launch_of("one", "a session")
    assert ground.warmth.taken(msgspec.structs.replace(launch, **change)) is None
    taken = ground.warmth.taken(msgspec.structs.replace(launch, user="somebody"))
    assert taken is not None
    assert (taken.key, taken.user, taken.start) == (launch.key, "somebody", "warm")
    with contextlib.suppress(SandboxFailed):
        await ground.starter.discard(taken)
