"""All sessions of this machine: found, started in turn, kept while used, ended, written down."""

import asyncio
import contextlib
import logging
import shutil
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from freehold.adapters.placement.local.adoption import LOST, adopted, last_known
from freehold.adapters.placement.local.egress import EgressGate
from freehold.adapters.placement.local.kept import kept_of, record_of
from freehold.adapters.placement.local.ledger import Ledger
from freehold.adapters.placement.local.lifetimes import STOP_GRACE_SECONDS, Lifetimes
from freehold.adapters.placement.local.log_readers import LogOpened, LogReaders
from freehold.adapters.placement.local.logs import log_path, prune
from freehold.adapters.placement.local.meter import Meter
from freehold.adapters.placement.local.metering import Metering
from freehold.adapters.placement.local.session import (
    EndedWhileStarting,
    LiveSession,
    TakeDoorway,
)
from freehold.adapters.placement.local.starter import SpecOf, Starter
from freehold.adapters.placement.local.starts import StartQueue
from freehold.adapters.placement.local.tiers import Tiers
from freehold.adapters.placement.local.warmth import Warmth, WarmthLimits
from freehold.kernel.clock import now
from freehold.kernel.errors import (
    FreeholdError,
    PlatformFailed,
    QuotaExceeded,
    RuntimeClientFailed,
    Unavailable,
)
from freehold.ports.placement import (
    KeptWarm,
    Launch,
    Lease,
    SessionJournal,
    SessionKey,
    SessionRecord,
)
from freehold.ports.sandbox import Sandbox, SandboxDriver

log = logging.getLogger(__name__)

REASONS_MAX = 1000
ACQUIRE_ATTEMPTS = 3
PRUNE_SECONDS = 6 * 3600


class FleetLimits(msgspec.Struct, frozen=True, kw_only=True):
    starts_at_once: int
    starts_queued_max: int
    sessions_max: int
    start_seconds_max: float
    log_bytes_max: int
    metering_seconds: float
    log_days: int
    freeze_idle_seconds: float = 0
    template_idle_seconds: float = 900
    warm_bytes_max: int = 0


class Fleet:
    def __init__(
        self,
        *,
        node: str,
        drivers: Mapping[str, SandboxDriver],
        tier_default: str,
        spec_of: SpecOf,
        journal: SessionJournal,
        state: Path,
        limits: FleetLimits,
        take_doorway: TakeDoorway,
        egress: EgressGate,
    ) -> None:
        self._limits = limits
        self._tiers = Tiers(drivers, default=tier_default)
        self._ledger = Ledger(journal, node)
        self._starter = Starter(
            tiers=self._tiers,
            spec_of=spec_of,
            state=state,
            start_seconds_max=limits.start_seconds_max,
            log_bytes_max=limits.log_bytes_max,
        )
        self._warmth = Warmth(
            self._starter,
            WarmthLimits(
                bytes_max=limits.warm_bytes_max,
                idle_seconds=limits.template_idle_seconds,
                freezes=limits.freeze_idle_seconds > 0,
            ),
        )
        self._take_doorway, self._egress = take_doorway, egress
        self._live: dict[SessionKey, LiveSession] = {}
        self._by_id: dict[str, LiveSession] = {}
        self._starts = StartQueue(
            at_once=limits.starts_at_once, queued_max=limits.starts_queued_max
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._reasons: OrderedDict[str, str] = OrderedDict()
        self._log_readers = LogReaders()
        self._metering = Metering(
            self._ledger, lambda: list(self._by_id.values()), seconds=limits.metering_seconds
        )
        self._lifetimes = Lifetimes(
            end=self._end,
            spawn=self._spawn,
            changed=self._tell_soon,
            freeze_seconds=limits.freeze_idle_seconds,
        )

    def _tell_soon(self) -> None:
        self._metering.news = True

    # -- the life of the node

    async def open(self) -> None:
        """Adopt what still runs, end what nobody owns, then begin to meter."""
        self._starter.directories.mkdir(parents=True, exist_ok=True)
        found = await self._ledger.unfinished()
        adopted = await asyncio.gather(*(self._adopt(record) for record in found))
        for driver in self._tiers.drivers.values():
            for gone in await driver.sweep(set(self._by_id)):
                log.warning("ended %s, which no session owned", gone)
        self._starter.forget_templates()
        for record, is_ours in zip(found, adopted, strict=True):
            if not is_ours:
                self._ledger.ended(last_known(record), LOST)
        await self._ledger.write()
        for directory in self._starter.directories.iterdir():
            if directory.name not in self._by_id:
                shutil.rmtree(directory, ignore_errors=True)
        self._tiers.open()
        self._spawn(self._metering.run())
        self._spawn(self._prune_logs())

    async def close(self) -> None:
        """End every session: an orderly stop of the platform."""
        self._closing = True
        await self._warmth.close()
        await asyncio.gather(
            *(self._end(s, "the platform was stopped") for s in list(self._live.values()))
        )
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._ledger.write()
        await self._tiers.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("node task failed", exc_info=error)

    def keep_warm(self, wanted: list[KeptWarm]) -> None:
        self._warmth.keep(wanted)

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
            await session.thaw()
        except BaseException:
            self._drop(session, holder)
            raise
        return session

    def _begin(self, launch: Launch) -> LiveSession:
        if len(self._live) >= self._limits.sessions_max:
            raise QuotaExceeded(f"this machine holds at most {self._limits.sessions_max} sessions")
        self._starts.admit()
        session = self._warmth.taken(launch) or self._starter.session(launch)
        self._live[launch.key] = self._by_id[session.sandbox_id] = session
        self._spawn(self._start(session, launch))
        return session

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
                    self._tell_soon()
                    self._lifetimes.schedule(session)
                    self._warmth.started(launch, session)
                return
        await self._end(session, failed.message.partition("\n")[0], failure=failed)

    async def _bring_up(self, session: LiveSession, launch: Launch) -> None:
        await self._tiers.driver(session.tier)
        async with session.beginning:
            if session.ending:
                raise RuntimeClientFailed(f"the session ended: {session.end_reason}")
            warm = session.sandbox is not None
            spec = session.spec or self._starter.begin(session, launch)
            self._log_readers.begun(session)
            session.started_at = session.last_used_at = now()
            kept = kept_of(session, launch, spec)
            kept.write(session.directory)
            # What runs before it is written down, nobody has been told of.
            writing = asyncio.create_task(self._write_start(session, launch))
            try:
                if warm:
                    await session.thaw()
                else:
                    await self._starter.start(session, *self._warmth.template(launch))
            finally:
                await writing
            assert session.sandbox is not None
            self._attach(session, session.sandbox)
        try:
            await self._starter.until_ready(session)
        except EndedWhileStarting as failure:
            if session.start == "cold":
                raise
            await self._begin_again(session, failure)
        kept = msgspec.structs.replace(kept, ready=True, cpu_before=session.meter.cpu_before)
        kept.write(session.directory)
        session.last_used_at = now()

    async def _begin_again(self, session: LiveSession, failure: EndedWhileStarting) -> None:
        """From nothing: what ends at once in a copy of a template may run on its own, and what
        waited may have ended just before it was needed."""
        async with session.beginning:
            if session.ending:
                raise failure
            await session.clear()
            source = "what waited" if session.start == "warm" else "what came from the template"
            session.start, session.is_up, session.meter = "cold", False, Meter()
            note = f"{source} ended at once: {failure.after}"
            await self._starter.start(session, None, note)
            assert session.sandbox is not None
            self._attach(session, session.sandbox)
        await self._starter.until_ready(session)

    async def _write_start(self, session: LiveSession, launch: Launch) -> None:
        await self._ledger.started(record_of(session, launch))
        session.recorded = True

    def _attach(self, session: LiveSession, sandbox: Sandbox) -> None:
        session.sandbox = sandbox
        session.open_doorway(self._take_doorway)
        session.open_egress(self._egress)
        self._spawn(self._watch(session, sandbox))
        self._lifetimes.schedule(session)

    async def _watch(self, session: LiveSession, sandbox: Sandbox) -> None:
        exit_ = await sandbox.wait()
        # Whoever starts it sees that end, or is just past the point where it would have.
        await asyncio.wait([session.ready])
        if session.sandbox is sandbox:
            await self._end(session, f"the agent ended: {exit_.reason}")

    def note_refused(self, sandbox_id: str, why: str, count: int) -> None:
        """A connection to the network: for who reads the session's log."""
        session = self._by_id.get(sandbox_id)
        if session is not None and session.log.opened and not session.log.ended:
            session.log.say(f"{why} ({count} refused so far)")

    def count(self, sandbox_id: str, invocations: int) -> None:
        session = self._by_id.get(sandbox_id)
        if session is not None and not session.ended.done():
            session.invocations += invocations
            self._metering.news = True
        elif invocations:
            self._ledger.counted(sandbox_id, invocations)
            self._metering.news = True

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
            self._lifetimes.schedule(session)

    def hold(self, sandbox_id: str, holder: object) -> None:
        """A worker used it before this node came, and still does."""
        session = self._by_id.get(sandbox_id)
        if session is not None:
            session.holders[holder] = session.holders.get(holder, 0) + 1
            if session.frozen:  # before we heard of it
                self._spawn(session.thaw())

    def forget_holder(self, holder: object) -> None:
        """A worker is gone: what it held is idle from now."""
        for session in list(self._live.values()):
            if session.holders.pop(holder, None) and not session.holders:
                session.last_used_at = now()
                session.let_go()
                self._lifetimes.schedule(session)

    # -- the end

    async def stop(self, key: SessionKey, reason: str) -> bool:
        session = self._live.get(key)
        if session is None:
            return False
        await self._end(session, reason)
        return True

    async def stop_runtime(self, tenant: str, runtime_id: str, reason: str) -> int:
        self._warmth.forget_runtime(tenant, runtime_id)
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
            await asyncio.shield(session.gone)
            await self._ledger.write()
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
            self._live.pop(session.key, None)
            self._by_id.pop(session.sandbox_id, None)
            if not session.ready.done():
                session.ready.set_exception(
                    failure or RuntimeClientFailed(f"the session ended: {reason}")
                )
            session.gone.set_result(None)
        await self._ledger.write()

    # -- after a restart of the node

    async def _adopt(self, record: SessionRecord) -> bool:
        directory = self._starter.directories / record.sandbox_id
        found = await adopted(
            record, directory, drivers=self._tiers.drivers, log_of=self._starter.session_log
        )
        if found is None:
            return False
        session, sandbox = found
        try:
            session.log.open()
            await sandbox.thaw()
        except OSError:
            log.exception("the log of session %s is gone, and so is the session", record.sandbox_id)
            return False
        session.log.say("the platform's node came back and found this session running")
        self._live[session.key] = self._by_id[session.sandbox_id] = session
        self._log_readers.begun(session)
        self._attach(session, sandbox)
        return True

    # -- looked at from outside

    def find(self, sandbox_id: str) -> LiveSession | None:
        return self._by_id.get(sandbox_id)

    def log_of(
        self, tenant: str, runtime_id: str, sandbox_id: str
    ) -> tuple[Path, LiveSession | None]:
        session = self._by_id.get(sandbox_id)
        if session is not None and (session.key.tenant != tenant or not session.log.opened):
            session = None
        return log_path(self._starter.logs, tenant, runtime_id, sandbox_id), session

    def logs_of_runtime(
        self, tenant: str, runtime_id: str, opened: LogOpened
    ) -> AbstractContextManager[None]:
        """Inside, `opened` is told of each session that has a log, and of each that gets one."""
        return self._log_readers.reading((tenant, runtime_id), opened, list(self._by_id.values()))

    async def _prune_logs(self) -> None:
        while True:
            await asyncio.to_thread(prune, self._starter.logs, days=self._limits.log_days)
            await asyncio.sleep(PRUNE_SECONDS)
