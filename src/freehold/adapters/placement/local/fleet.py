"""All sessions of this machine: found, started in turn, kept while used, ended, written down."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from freehold.adapters.placement.local.logs import SessionLog
from freehold.adapters.placement.local.meter import Meter
from freehold.adapters.placement.local.probe import Health
from freehold.adapters.placement.local.session import LiveSession, TakeDoorway
from freehold.kernel import ids
from freehold.kernel.clock import now
from freehold.kernel.errors import (
    FreeholdError,
    PlatformFailed,
    QuotaExceeded,
    RuntimeClientFailed,
    Throttled,
    Unavailable,
)
from freehold.ports.placement import (
    Launch,
    Lease,
    SessionJournal,
    SessionKey,
    SessionRecord,
    SessionUsage,
)
from freehold.ports.sandbox import Sandbox, SandboxDriver, SandboxSpec

log = logging.getLogger(__name__)

BUSY_RECHECK_SECONDS = 30
STOP_GRACE_SECONDS = 2.0


class FleetLimits(msgspec.Struct, frozen=True, kw_only=True):
    starts_at_once: int
    starts_queued_max: int
    sessions_max: int
    start_seconds_max: float
    log_bytes_max: int
    metering_seconds: float


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a new node must know to adopt a session: `session.json` in its directory. No secret."""

    key: SessionKey
    runtime_arn: str
    runtime_name: str
    user: str | None
    version: int
    tier: str
    port: int
    idle_seconds: int
    lifetime_seconds: int
    spec: SandboxSpec


SpecOf = Callable[[Launch, str, Path, Path], SandboxSpec]
"""(launch, sandbox id, directory, output) -> what to run: plugged in by the composition root."""


class Fleet:
    def __init__(
        self,
        *,
        node: str,
        drivers: dict[str, SandboxDriver],
        tier_default: str,
        spec_of: SpecOf,
        journal: SessionJournal,
        state: Path,
        limits: FleetLimits,
        take_doorway: TakeDoorway,
    ) -> None:
        self._node, self._drivers, self._tier_default = node, drivers, tier_default
        self._spec_of, self._journal, self._limits = spec_of, journal, limits
        self._directories, self._logs = state / "sessions", state / "logs"
        self._take_doorway = take_doorway
        self._live: dict[SessionKey, LiveSession] = {}
        self._by_id: dict[str, LiveSession] = {}
        self._places = asyncio.Semaphore(limits.starts_at_once)
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._news = False
        self._unwritten: list[tuple[SessionUsage, datetime, str]] = []

    # -- the life of the node

    async def open(self) -> None:
        """Adopt what still runs, end what nobody owns, then begin to meter."""
        self._directories.mkdir(parents=True, exist_ok=True)
        for record in await self._journal.unfinished(self._node):
            if not await self._adopt(record):
                await self._write_end_of_lost(record)
        for driver in self._drivers.values():
            for gone in await driver.sweep(set(self._by_id)):
                log.warning("ended %s, which no session owned", gone)
        for directory in self._directories.iterdir():
            if directory.name not in self._by_id:
                shutil.rmtree(directory, ignore_errors=True)
        self._spawn(self._meter())

    async def close(self) -> None:
        """End every session: an orderly stop of the platform."""
        self._closing = True
        await asyncio.gather(
            *(self._end(s, "the platform was stopped") for s in list(self._live.values()))
        )
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for driver in self._drivers.values():
            await driver.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("node task failed", exc_info=error)

    # -- acquire and release

    async def acquire(self, launch: Launch, holder: object) -> Lease:
        """The key's session, held for `holder`; starts it if need be."""
        if self._closing:
            raise Unavailable("the platform is stopping")
        session = self._live.get(launch.key)
        if session is not None and session.ending:
            await asyncio.shield(session.ended)
            session = self._live.get(launch.key)
        if session is None:
            session = self._begin(launch)
        session.holders[holder] = session.holders.get(holder, 0) + 1
        try:
            await asyncio.shield(session.ready)
        except BaseException:
            self._drop(session, holder)
            raise
        return session.lease()

    def _begin(self, launch: Launch) -> LiveSession:
        if len(self._live) >= self._limits.sessions_max:
            raise QuotaExceeded(f"this machine holds at most {self._limits.sessions_max} sessions")
        if self._waiting >= self._limits.starts_queued_max:
            raise Throttled(f"{self._waiting} session starts are waiting already; try again")
        sandbox_id = "s-" + ids.random_text(16).lower()
        directory = self._directories / sandbox_id
        session = LiveSession(
            key=launch.key, sandbox_id=sandbox_id, runtime_arn=launch.runtime_arn,
            user=launch.user, version=launch.version, port=launch.port,
            idle_seconds=launch.idle_seconds, lifetime_seconds=launch.lifetime_seconds,
            directory=directory,
            session_log=self._log(launch.key, sandbox_id, directory),
        )  # fmt: skip
        session.ready.add_done_callback(lambda f: f.cancelled() or f.exception())
        self._live[launch.key] = self._by_id[sandbox_id] = session
        self._spawn(self._start(session, launch))
        return session

    def _log(self, key: SessionKey, sandbox_id: str, directory: Path) -> SessionLog:
        return SessionLog(
            directory / "output",
            log_path(self._logs, key.tenant, key.runtime_id, sandbox_id),
            bytes_max=self._limits.log_bytes_max,
        )

    async def _start(self, session: LiveSession, launch: Launch) -> None:
        self._waiting += 1
        async with self._places:
            self._waiting -= 1
            try:
                await self._bring_up(session, launch)
            except FreeholdError as error:
                failed: FreeholdError = error
            except (OSError, RuntimeError) as error:
                log.exception("session %s did not start", session.sandbox_id)
                failed = PlatformFailed(f"the sandbox could not be started: {error}")
            else:
                if not session.ready.done():
                    session.ready.set_result(None)
                    self._spawn(self._journal.metered([session.usage()]))
                return
        await self._end(session, failed.message.partition("\n")[0])
        if not session.ready.done():
            session.ready.set_exception(failed)

    async def _bring_up(self, session: LiveSession, launch: Launch) -> None:
        tier = launch.tier or self._tier_default
        driver = self._drivers.get(tier)
        if driver is None:
            raise PlatformFailed(f"sandbox tier {tier!r} is not to be had on this machine")
        session.directory.mkdir(mode=0o711)
        session.log.open()
        spec = self._spec_of(
            launch, session.sandbox_id, session.directory, session.directory / "output"
        )
        session.started_at = session.last_used_at = now()
        self._keep(session, launch, spec, tier)
        await self._journal.started(self._node, _record(session, launch, tier))
        session.recorded = True
        self._attach(session, await driver.start(spec))
        await session.until_ready(seconds_max=self._limits.start_seconds_max)
        session.last_used_at = now()

    def _keep(self, session: LiveSession, launch: Launch, spec: SandboxSpec, tier: str) -> None:
        kept = Kept(
            key=session.key, runtime_arn=session.runtime_arn, user=session.user,
            runtime_name=launch.runtime_name, version=session.version, tier=tier,
            port=session.port, idle_seconds=session.idle_seconds,
            lifetime_seconds=session.lifetime_seconds,
            spec=msgspec.structs.replace(spec, environment={}),
        )  # fmt: skip
        (session.directory / "session.json").write_bytes(msgspec.json.encode(kept))

    def _attach(self, session: LiveSession, sandbox: Sandbox) -> None:
        session.sandbox = sandbox
        session.open_doorway(self._take_doorway)
        self._spawn(self._watch(session, sandbox))
        self._schedule(session)

    async def _watch(self, session: LiveSession, sandbox: Sandbox) -> None:
        exit_ = await sandbox.wait()
        if session.ready.done() or session.ending:
            await self._end(session, f"the agent ended: {exit_.reason}")

    def count(self, sandbox_id: str, invocations: int) -> None:
        session = self._by_id.get(sandbox_id)
        if session is not None and not session.ended.done():
            session.invocations += invocations
            self._news = True
        elif invocations:
            self._spawn(self._journal.counted(sandbox_id, invocations))

    def release(
        self, sandbox_id: str, holder: object, *, idle_seconds: float, invocations: int
    ) -> None:
        self.count(sandbox_id, invocations)
        session = self._by_id.get(sandbox_id)
        if session is None:
            return
        session.last_used_at = max(
            session.last_used_at, now() - timedelta(seconds=max(0.0, idle_seconds))
        )
        self._drop(session, holder)

    def _drop(self, session: LiveSession, holder: object) -> None:
        left = session.holders.get(holder, 0) - 1
        if left > 0:
            session.holders[holder] = left
        else:
            session.holders.pop(holder, None)
        if not session.holders and session.sandbox is not None:
            self._schedule(session)

    def forget_holder(self, holder: object) -> None:
        """A worker is gone: what it held is idle from now."""
        for session in list(self._live.values()):
            if session.holders.pop(holder, None) and not session.holders:
                session.last_used_at = now()
                self._schedule(session)

    # -- idle and lifetime

    def _schedule(self, session: LiveSession) -> None:
        """Look again when the session could first be due."""
        due = session.expires_at()
        if not session.holders:
            due = min(due, session.idle_until())
        delay = max(0.0, (due - now()).total_seconds())
        asyncio.get_running_loop().call_later(delay, self._due, session)

    def _due(self, session: LiveSession) -> None:
        if session.ending or self._closing:
            return
        if now() >= session.expires_at():
            self._spawn(self._end(session, "it reached its longest lifetime"))
        elif not session.holders and now() >= session.idle_until():
            self._spawn(self._end_unless_busy(session))
        elif not session.holders:
            self._schedule(session)

    async def _end_unless_busy(self, session: LiveSession) -> None:
        try:
            health = await session.ping()
        except (ConnectionError, TimeoutError):
            health = Health.UNHEALTHY
        session.busy = health is Health.BUSY
        if session.holders or session.ending:
            return
        if session.busy:
            pause = min(session.idle_seconds, BUSY_RECHECK_SECONDS)
            session.last_used_at = now() - timedelta(seconds=session.idle_seconds - pause)
            self._schedule(session)
            return
        await self._end(session, f"idle for {session.idle_seconds} s")

    # -- the end

    async def stop(self, key: SessionKey, reason: str) -> bool:
        session = self._live.get(key)
        if session is None:
            return False
        await self._end(session, reason)
        return True

    async def stop_runtime(self, tenant: str, runtime_id: str, reason: str) -> int:
        doomed = [
            s for k, s in self._live.items() if (k.tenant, k.runtime_id) == (tenant, runtime_id)
        ]
        await asyncio.gather(*(self._end(s, reason) for s in doomed))
        return len(doomed)

    async def why_ended(self, sandbox_id: str) -> str | None:
        """Waits a moment: a dying agent's connection often breaks before its exit is known."""
        session = self._by_id.get(sandbox_id)
        if session is None:
            return "the session has ended"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                return await asyncio.shield(session.ended)
        return None

    async def _end(self, session: LiveSession, reason: str) -> None:
        if session.ending:
            await asyncio.shield(session.ended)
            return
        session.end_reason = reason
        if session.sandbox is not None:
            session.log.say(f"session ends: {reason}")
        try:
            grace = STOP_GRACE_SECONDS if session.ready.done() else 0
            await session.tear_down(grace_seconds=grace)
            shutil.rmtree(session.directory, ignore_errors=True)
            session.ended.set_result(reason)
            if session.recorded:
                self._unwritten.append((session.usage(), now(), reason))
                await self._write_ends()
        finally:
            self._live.pop(session.key, None)
            self._by_id.pop(session.sandbox_id, None)
            if not session.ended.done():
                session.ended.set_result(reason)
            if not session.ready.done():
                session.ready.set_exception(RuntimeClientFailed(f"the session ended: {reason}"))

    async def _write_ends(self) -> None:
        while self._unwritten:
            usage, at, reason = self._unwritten[0]
            try:
                await self._journal.ended(usage, at, reason)
            except Unavailable:
                log.warning("the end of %s could not be written down yet", usage.sandbox_id)
                return
            with contextlib.suppress(ValueError):
                self._unwritten.remove((usage, at, reason))

    # -- after a restart of the node

    async def _adopt(self, record: SessionRecord) -> bool:
        directory = self._directories / record.sandbox_id
        try:
            kept = msgspec.json.decode((directory / "session.json").read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError):
            return False
        driver = self._drivers.get(kept.tier)
        if driver is None or record.status == "STARTING":
            return False
        sandbox = await driver.adopt(kept.spec)
        if sandbox is None:
            return False
        session = LiveSession(
            key=kept.key, sandbox_id=record.sandbox_id, runtime_arn=kept.runtime_arn,
            user=kept.user, version=kept.version, port=kept.port,
            idle_seconds=kept.idle_seconds, lifetime_seconds=kept.lifetime_seconds,
            directory=directory, session_log=self._log(kept.key, record.sandbox_id, directory),
        )  # fmt: skip
        session.started_at, session.last_used_at = record.started_at, now()
        session.invocations = record.invocations
        session.meter = Meter(
            cpu_seconds=record.cpu_seconds, memory_gb_seconds=record.memory_gb_seconds
        )
        session.ready.set_result(None)
        session.log.open()
        session.log.say("the platform's node came back and found this session running")
        self._live[session.key] = self._by_id[session.sandbox_id] = session
        self._attach(session, sandbox)
        return True

    async def _write_end_of_lost(self, record: SessionRecord) -> None:
        usage = SessionUsage(
            sandbox_id=record.sandbox_id,
            status="ENDED",
            last_used_at=record.last_used_at,
            invocations=record.invocations,
            cpu_seconds=record.cpu_seconds,
            memory_gb_seconds=record.memory_gb_seconds,
        )
        await self._journal.ended(usage, now(), "lost: the platform was stopped without warning")

    # -- metering

    async def _meter(self) -> None:
        loop = asyncio.get_running_loop()
        written = loop.time()
        while True:
            await asyncio.sleep(1.0)
            for session in list(self._by_id.values()):
                if not session.ending:
                    session.sample()
            if self._news or loop.time() - written >= self._limits.metering_seconds:
                written, self._news = loop.time(), False
                await self._write_usage()

    async def _write_usage(self) -> None:
        await self._write_ends()
        usages = [s.usage() for s in self._by_id.values() if s.sandbox and not s.ending]
        if usages:
            try:
                await self._journal.metered(usages)
            except Unavailable:
                log.warning("usage could not be written down just now; totals go with the next")

    def find(self, sandbox_id: str) -> LiveSession | None:
        return self._by_id.get(sandbox_id)

    def log_of(
        self, tenant: str, runtime_id: str, sandbox_id: str
    ) -> tuple[Path, SessionLog | None]:
        session = self._by_id.get(sandbox_id)
        live = session.log if session and session.key.tenant == tenant else None
        return log_path(self._logs, tenant, runtime_id, sandbox_id), live


def log_path(logs: Path, tenant: str, runtime_id: str, sandbox_id: str) -> Path:
    return logs / tenant / runtime_id / f"{sandbox_id}.log"


def _record(session: LiveSession, launch: Launch, tier: str) -> SessionRecord:
    return SessionRecord(
        tenant=session.key.tenant, sandbox_id=session.sandbox_id,
        runtime_id=session.key.runtime_id, runtime_name=launch.runtime_name,
        endpoint=session.key.endpoint, version=session.version,
        session_id=session.key.session_id, user=session.user, tier=tier, status="STARTING",
        started_at=session.started_at, last_used_at=session.last_used_at,
    )  # fmt: skip
