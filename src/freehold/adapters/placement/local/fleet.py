"""All sessions of this machine: found, started in turn, kept while used, ended, written down."""

import asyncio
import contextlib
import logging
import shutil
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from freehold.adapters.placement.local import kept as kept_files
from freehold.adapters.placement.local.kept import Kept
from freehold.adapters.placement.local.ledger import Ledger
from freehold.adapters.placement.local.logs import SessionLog, prune
from freehold.adapters.placement.local.meter import Meter
from freehold.adapters.placement.local.probe import Health
from freehold.adapters.placement.local.session import LiveSession, TakeDoorway
from freehold.adapters.placement.local.starts import StartQueue
from freehold.kernel import ids
from freehold.kernel.clock import now
from freehold.kernel.errors import (
    FreeholdError,
    PlatformFailed,
    QuotaExceeded,
    RuntimeClientFailed,
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
REASONS_MAX = 1000
ACQUIRE_ATTEMPTS = 3
SAMPLES_AT_ONCE = 20
PRUNE_SECONDS = 6 * 3600


class FleetLimits(msgspec.Struct, frozen=True, kw_only=True):
    starts_at_once: int
    starts_queued_max: int
    sessions_max: int
    start_seconds_max: float
    log_bytes_max: int
    metering_seconds: float
    log_days: int


SpecOf = Callable[[Launch, str, Path, Path], SandboxSpec]
"""(launch, sandbox id, directory, output) -> what to run: plugged in by the composition root."""


LogOpened = Callable[[LiveSession], object]


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
        self._drivers, self._tier_default = drivers, tier_default
        self._spec_of, self._limits = spec_of, limits
        self._ledger = Ledger(journal, node)
        self._directories, self._logs = state / "sessions", state / "logs"
        self._take_doorway = take_doorway
        self._live: dict[SessionKey, LiveSession] = {}
        self._by_id: dict[str, LiveSession] = {}
        self._starts = StartQueue(
            at_once=limits.starts_at_once, queued_max=limits.starts_queued_max
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._news = False
        self._reasons: OrderedDict[str, str] = OrderedDict()
        self._log_readers: dict[object, tuple[tuple[str, str], LogOpened]] = {}

    # -- the life of the node

    async def open(self) -> None:
        """Adopt what still runs, end what nobody owns, then begin to meter."""
        self._directories.mkdir(parents=True, exist_ok=True)
        found = await self._ledger.unfinished()
        adopted = await asyncio.gather(*(self._adopt(record) for record in found))
        for driver in self._drivers.values():
            for gone in await driver.sweep(set(self._by_id)):
                log.warning("ended %s, which no session owned", gone)
        for record, is_ours in zip(found, adopted, strict=True):
            if not is_ours:
                self._write_end_of_lost(record)
        await self._ledger.write()
        for directory in self._directories.iterdir():
            if directory.name not in self._by_id:
                shutil.rmtree(directory, ignore_errors=True)
        self._spawn(self._meter())
        self._spawn(self._prune_logs())

    async def close(self) -> None:
        """End every session: an orderly stop of the platform."""
        self._closing = True
        await asyncio.gather(
            *(self._end(s, "the platform was stopped") for s in list(self._live.values()))
        )
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._ledger.write()
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
        for _ in range(ACQUIRE_ATTEMPTS):
            session = await self._taken(launch, holder)
            if not session.ending:
                return session.lease()
            self._drop(session, holder)  # its end came between its start and us
        raise RuntimeClientFailed(f"the session ended as soon as it began: {session.end_reason}")

    async def _taken(self, launch: Launch, holder: object) -> LiveSession:
        session = self._live.get(launch.key)
        while session is not None and session.ending:
            await asyncio.shield(session.gone)
            session = self._live.get(launch.key)
        if self._closing:
            raise Unavailable("the platform is stopping")
        if session is None:
            session = self._begin(launch)
        session.holders[holder] = session.holders.get(holder, 0) + 1
        try:
            await asyncio.shield(session.ready)
        except BaseException:
            self._drop(session, holder)
            raise
        return session

    def _begin(self, launch: Launch) -> LiveSession:
        if len(self._live) >= self._limits.sessions_max:
            raise QuotaExceeded(f"this machine holds at most {self._limits.sessions_max} sessions")
        self._starts.admit()
        sandbox_id = "s-" + ids.random_text(16).lower()
        directory = self._directories / sandbox_id
        session = LiveSession(
            key=launch.key, sandbox_id=sandbox_id, runtime_arn=launch.runtime_arn,
            user=launch.user, version=launch.version, port=launch.port,
            protocol=launch.protocol,
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
        async with self._starts.place():
            try:
                await self._bring_up(session, launch)
            except FreeholdError as error:
                failed: FreeholdError = error
            except Exception as error:  # a boundary: somebody waits for the outcome, whatever it is
                log.exception("session %s did not start", session.sandbox_id)
                failed = PlatformFailed(f"the sandbox could not be started: {error}")
            else:
                if not session.ready.done():
                    session.ready.set_result(None)
                    self._news = True
                return
        await self._end(session, failed.message.partition("\n")[0], failure=failed)

    async def _bring_up(self, session: LiveSession, launch: Launch) -> None:
        tier = launch.tier or self._tier_default
        driver = self._drivers.get(tier)
        if driver is None:
            raise PlatformFailed(f"sandbox tier {tier!r} is not to be had on this machine")
        async with session.beginning:
            if session.ending:
                raise RuntimeClientFailed(f"the session ended: {session.end_reason}")
            session.directory.mkdir(mode=0o711)
            self._open_log(session)
            spec = self._spec_of(
                launch, session.sandbox_id, session.directory, session.directory / "output"
            )
            session.started_at = session.last_used_at = now()
            kept = _kept(session, launch, spec, tier)
            kept.write(session.directory)
            await self._ledger.started(_record(session, launch, tier))
            session.recorded = True
            self._attach(session, await driver.start(spec))
        await session.until_ready(seconds_max=self._limits.start_seconds_max)
        msgspec.structs.replace(kept, ready=True).write(session.directory)
        session.last_used_at = now()

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
            self._ledger.counted(sandbox_id, invocations)
            self._news = True

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
            session.let_go()
            self._schedule(session)

    def hold(self, sandbox_id: str, holder: object) -> None:
        """A worker used it before this node came, and still does."""
        session = self._by_id.get(sandbox_id)
        if session is not None:
            session.holders[holder] = session.holders.get(holder, 0) + 1

    def forget_holder(self, holder: object) -> None:
        """A worker is gone: what it held is idle from now."""
        for session in list(self._live.values()):
            if session.holders.pop(holder, None) and not session.holders:
                session.last_used_at = now()
                session.let_go()
                self._schedule(session)

    # -- idle and lifetime

    def _schedule(self, session: LiveSession) -> None:
        """Look again when the session could first be due."""
        due = session.expires_at()
        if not session.holders:
            due = min(due, session.idle_until())
        session.wake_up((due - now()).total_seconds(), self._due)

    def _due(self, session: LiveSession) -> None:
        if session.ending or self._closing:
            return
        if now() >= session.expires_at():
            end = self._end(
                session, "it reached its longest lifetime", release_seconds=STOP_GRACE_SECONDS
            )
            self._spawn(end)
        elif not session.holders and now() >= session.idle_until():
            self._spawn(self._end_unless_busy(session))
        else:
            self._schedule(session)

    async def _end_unless_busy(self, session: LiveSession) -> None:
        try:
            health = await session.ping()
        except (ConnectionError, TimeoutError):
            health = Health.UNHEALTHY
        session.busy = health is Health.BUSY
        if session.holders or session.ending or now() < session.idle_until():
            self._schedule(session)  # it was used meanwhile
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
            return self._reasons.get(sandbox_id, "the session has ended")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                return await asyncio.shield(session.ended)
        return None

    async def _end(
        self,
        session: LiveSession,
        reason: str,
        *,
        failure: FreeholdError | None = None,
        release_seconds: float = 0,
    ) -> None:
        """`failure` is told to those who wait for its start. Calls under way have
        `release_seconds` to finish; those that come now wait for the next session."""
        if session.ending:
            await asyncio.shield(session.ended)
            return
        session.doom(reason)
        if release_seconds and session.holders:
            await session.released_within(release_seconds)
        try:
            async with session.beginning:
                if session.sandbox is not None:
                    session.log.say(f"session ends: {reason}")
                grace = STOP_GRACE_SECONDS if session.ready.done() else 0
                await session.tear_down(grace_seconds=grace)
                shutil.rmtree(session.directory, ignore_errors=True)
        except (FreeholdError, OSError):
            log.exception("something of session %s is left", session.sandbox_id)
        finally:
            session.ended.set_result(reason)
            self._reasons[session.sandbox_id] = reason
            if len(self._reasons) > REASONS_MAX:
                self._reasons.popitem(last=False)
            if session.recorded:
                self._ledger.ended(session.usage(), reason)
                await self._ledger.write()
            self._live.pop(session.key, None)
            self._by_id.pop(session.sandbox_id, None)
            if not session.ready.done():
                session.ready.set_exception(
                    failure or RuntimeClientFailed(f"the session ended: {reason}")
                )
            session.gone.set_result(None)

    # -- after a restart of the node

    async def _adopt(self, record: SessionRecord) -> bool:
        directory = self._directories / record.sandbox_id
        kept = kept_files.read(directory)
        if kept is None or not kept.ready:
            return False
        driver = self._drivers.get(kept.tier)
        if driver is None:
            return False
        sandbox = await driver.adopt(kept.spec)
        if sandbox is None:
            return False
        session = LiveSession(
            key=kept.key, sandbox_id=record.sandbox_id, runtime_arn=kept.runtime_arn,
            user=kept.user, version=kept.version, port=kept.port,
            protocol=kept.protocol,
            idle_seconds=kept.idle_seconds, lifetime_seconds=kept.lifetime_seconds,
            directory=directory, session_log=self._log(kept.key, record.sandbox_id, directory),
        )  # fmt: skip
        session.started_at, session.last_used_at = record.started_at, now()
        session.invocations = record.invocations
        session.meter = Meter(
            cpu_seconds=record.cpu_seconds, memory_gb_seconds=record.memory_gb_seconds
        )
        session.recorded = True
        session.ready.set_result(None)
        self._open_log(session)
        session.log.say("the platform's node came back and found this session running")
        self._live[session.key] = self._by_id[session.sandbox_id] = session
        self._attach(session, sandbox)
        return True

    def _write_end_of_lost(self, record: SessionRecord) -> None:
        usage = SessionUsage(
            sandbox_id=record.sandbox_id,
            status="ENDED",
            last_used_at=record.last_used_at,
            invocations=record.invocations,
            cpu_seconds=record.cpu_seconds,
            memory_gb_seconds=record.memory_gb_seconds,
        )
        self._ledger.ended(usage, "lost: the platform was stopped without warning")

    # -- metering

    async def _meter(self) -> None:
        """Every session about once a second, a few at a time: reading the meters of all takes
        longer than any request should wait."""
        loop = asyncio.get_running_loop()
        written = loop.time()
        while True:
            began = loop.time()
            sessions = list(self._by_id.values())
            rounds = -(-len(sessions) // SAMPLES_AT_ONCE) or 1
            for number in range(rounds):
                for session in sessions[number::rounds]:
                    if not session.ending:
                        session.sample()
                await asyncio.sleep(max(0.0, began + (number + 1) / rounds - loop.time()))
            if self._news or loop.time() - written >= self._limits.metering_seconds:
                written, self._news = loop.time(), False
                await self._ledger.write(
                    [s.usage() for s in self._by_id.values() if s.recorded and not s.ending]
                )

    async def _prune_logs(self) -> None:
        while True:
            await asyncio.to_thread(prune, self._logs, days=self._limits.log_days)
            await asyncio.sleep(PRUNE_SECONDS)

    def find(self, sandbox_id: str) -> LiveSession | None:
        return self._by_id.get(sandbox_id)

    def log_of(
        self, tenant: str, runtime_id: str, sandbox_id: str
    ) -> tuple[Path, LiveSession | None]:
        session = self._by_id.get(sandbox_id)
        if session is not None and (session.key.tenant != tenant or not session.log.opened):
            session = None
        return log_path(self._logs, tenant, runtime_id, sandbox_id), session

    def _open_log(self, session: LiveSession) -> None:
        session.log.open()
        for of, opened in list(self._log_readers.values()):
            if of == (session.key.tenant, session.key.runtime_id):
                opened(session)

    @contextlib.contextmanager
    def logs_of_runtime(self, tenant: str, runtime_id: str, opened: LogOpened) -> Iterator[None]:
        """Inside, `opened` is told of each session that has a log, and of each that gets one."""
        of, reader = (tenant, runtime_id), object()
        for session in self._by_id.values():
            if of == (session.key.tenant, session.key.runtime_id) and session.log.opened:
                opened(session)
        self._log_readers[reader] = of, opened
        try:
            yield
        finally:
            del self._log_readers[reader]


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


def _kept(session: LiveSession, launch: Launch, spec: SandboxSpec, tier: str) -> Kept:
    return Kept(
        key=session.key, runtime_arn=session.runtime_arn, user=session.user,
        runtime_name=launch.runtime_name, version=session.version, tier=tier,
        port=session.port, protocol=session.protocol, idle_seconds=session.idle_seconds,
        lifetime_seconds=session.lifetime_seconds,
        spec=msgspec.structs.replace(spec, environment={}),
    )  # fmt: skip
