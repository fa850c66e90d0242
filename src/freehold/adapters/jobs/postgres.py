"""The jobs port on Postgres: a table, a notification for new work, a lease while work runs."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from freehold.adapters.jobs.table import CHANNEL, ERROR_CHARACTERS_MAX, Claim, JobsTable
from freehold.kernel.errors import Unavailable
from freehold.ports.database import Connection, Database
from freehold.ports.jobs import Job, Work

log = logging.getLogger("freehold.jobs")

_BACKOFF_SECONDS_MAX = 60.0
_DATABASE_PAUSE_SECONDS = 0.5
# Another worker may hold a due row for the moment of its own claim: look again, not at once.
_DUE_SECONDS_MIN = 0.05
# The part of a lease after which a run that was not renewed is cancelled here: the rest is for
# it to end in, before another worker may begin.
_HELD = 0.75


class PostgresJobs:
    """`executor` names this process: unique among the living, the same again after a restart.

    A process that comes back under its name takes up its own jobs at once; those of one that
    does not are taken by another worker when their lease lapses. `concurrency` counts the runs
    of a kind in this process. An idle worker asks the database nothing: it waits for a
    notification, or for the moment at which it knows a job to be due.

    "One run at a time" rests on leases: a run whose lease could not be renewed in time is
    cancelled here before another worker may begin it. Work that blocks the event loop for longer
    than a lease breaks that; its outcome is then ignored.
    """

    def __init__(
        self,
        database: Database,
        *,
        executor: str,
        lease_seconds: float = 15.0,
        backoff_seconds: float = 1.0,
        retention_days: float = 7.0,
    ) -> None:
        self._table = JobsTable(database, executor=executor, lease_seconds=lease_seconds)
        self._database = database
        self._lease_seconds = lease_seconds
        self._backoff_seconds = backoff_seconds
        self._retention_seconds = retention_days * 86_400
        self._kinds: dict[str, _Kind] = {}
        self._runs: dict[str, _Run] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._running = asyncio.Event()

    async def enqueue(self, kind: str, payload: dict[str, Any], *, id: str) -> None:
        """An id is remembered for `retention_days` after its job ended."""
        await self._table.insert(kind, payload, id)

    async def get(self, id: str) -> Job | None:
        return await self._table.get(id)

    async def matching(
        self, connection: Connection, kind: str, part: Mapping[str, Any]
    ) -> list[str]:
        """The ids of jobs whose payload has `part` in it, whatever became of them. For kinds whose
        payloads hold no U+0000."""
        return await self._table.matching(connection, kind, part)

    async def forget(self, connection: Connection, kind: str, part: Mapping[str, Any]) -> list[str]:
        """They are gone, by their ids; one that runs is cancelled when its lease is renewed."""
        return await self._table.forget(connection, kind, part)

    def register(self, kind: str, work: Work, *, concurrency: int, attempts_max: int = 3) -> None:
        assert not self._tasks, "register every kind of work before start"
        assert kind not in self._kinds, f"work of kind {kind!r} is registered twice"
        if not self._kinds:
            self._database.listen(CHANNEL, self._heard)
        self._kinds[kind] = _Kind(work, concurrency=concurrency, attempts_max=attempts_max)

    async def start(self) -> None:
        """Does nothing in a process that registered no work."""
        if not self._kinds:
            return
        await self._table.reclaim(list(self._kinds))
        self._tasks = [asyncio.create_task(self._serve(kind)) for kind in self._kinds]
        self._tasks.append(asyncio.create_task(self._keep_leases()))
        for task in self._tasks:
            task.add_done_callback(_report)

    async def close(self) -> None:
        """Runs in progress are cancelled, and free for another worker at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        cut_short = list(self._runs.values())
        for run in cut_short:
            run.task.cancel()
        if cut_short:
            await asyncio.wait([run.task for run in cut_short])
            with contextlib.suppress(Unavailable):
                await self._table.release([run.claim for run in cut_short])

    def _heard(self, kind: str) -> None:
        """A notification: new work of one kind, or "" for "anything may have changed"."""
        for name, registered in self._kinds.items():
            if kind in ("", name):
                registered.wake.set()

    async def _serve(self, name: str) -> None:
        """Claim what is due while there is room; then wait until something may have changed."""
        kind = self._kinds[name]
        while True:
            kind.wake.clear()
            due_seconds: float | None = None
            room = kind.concurrency - kind.runs
            if room > 0:
                held = [id for id, run in self._runs.items() if run.claim.kind == name]
                asked_at = time.monotonic()
                try:
                    claims, due_seconds = await self._table.claim(name, room, held=held)
                except Unavailable:
                    claims, due_seconds = [], _DATABASE_PAUSE_SECONDS
                for claim in claims:
                    self._begin(kind, claim, asked_at)
            timeout = None if due_seconds is None else max(due_seconds, _DUE_SECONDS_MIN)
            # Not wait_for: before Python 3.12 it may swallow the cancellation that `close` sends.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await kind.wake.wait()

    def _begin(self, kind: "_Kind", claim: Claim, asked_at: float) -> None:
        task = asyncio.create_task(self._run(kind, claim), name=f"job {claim.kind} {claim.id}")
        run = self._runs[claim.id] = _Run(claim, task)
        run.hold(asked_at + self._lease_seconds * _HELD)
        kind.runs += 1
        self._running.set()

        def ended(_: asyncio.Task[None]) -> None:
            run.let_go()
            kind.runs -= 1
            del self._runs[claim.id]
            if not self._runs:
                self._running.clear()
            kind.wake.set()
            _report(task)

        task.add_done_callback(ended)

    async def _run(self, kind: "_Kind", claim: Claim) -> None:
        error: str | None = None
        try:
            await kind.work(claim.payload)
        except Exception as failure:  # a boundary: work may raise anything
            log.warning("job %s %s failed", claim.kind, claim.id, exc_info=True)
            error = (str(failure) or type(failure).__name__)[:ERROR_CHARACTERS_MAX]
        if error is None or claim.failures + 1 >= kind.attempts_max:
            await _until_stored(
                lambda: self._table.finish(claim, error, retention_seconds=self._retention_seconds)
            )
        else:
            seconds = min(self._backoff_seconds * 2**claim.failures, _BACKOFF_SECONDS_MAX)
            # Jitter: jobs that failed together for one cause do not come back together.
            seconds *= random.uniform(0.75, 1.25)  # noqa: S311 - no secret hangs on it
            retry_error = error
            await _until_stored(lambda: self._table.retry(claim, retry_error, seconds=seconds))

    async def _keep_leases(self) -> None:
        """Renew while anything runs here."""
        while True:
            await self._running.wait()
            await asyncio.sleep(self._lease_seconds / 4)
            runs = dict(self._runs)
            asked_at = time.monotonic()
            try:
                async with asyncio.timeout(self._lease_seconds / 4):
                    kept = await self._table.extend([run.claim for run in runs.values()])
            except (Unavailable, TimeoutError):
                continue
            for id, run in runs.items():
                run.hold(asked_at + self._lease_seconds * _HELD if id in kept else asked_at)


class _Kind:
    """The work of one kind in this process, and how much of it runs."""

    def __init__(self, work: Work, *, concurrency: int, attempts_max: int) -> None:
        assert concurrency > 0 and attempts_max > 0
        self.work = work
        self.concurrency = concurrency
        self.attempts_max = attempts_max
        self.runs = 0
        self.wake = asyncio.Event()


class _Run:
    """A run in this process, cancelled when it was not held anew in time."""

    def __init__(self, claim: Claim, task: asyncio.Task[None]) -> None:
        self.claim = claim
        self.task = task
        self._end: asyncio.TimerHandle | None = None

    def hold(self, until: float) -> None:
        """`until` is monotonic."""
        self.let_go()
        loop = asyncio.get_running_loop()
        self._end = loop.call_later(max(0.0, until - time.monotonic()), self._lost)

    def let_go(self) -> None:
        if self._end is not None:
            self._end.cancel()

    def _lost(self) -> None:
        log.warning("job %s %s lost its lease here", self.claim.kind, self.claim.id)
        self.task.cancel()


async def _until_stored(store: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Try through a database outage. The lease bounds it: when that lapses, this is cancelled."""
    while True:
        try:
            await store()
        except Unavailable:
            await asyncio.sleep(_DATABASE_PAUSE_SECONDS)
        else:
            return


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("jobs: %s ended", task.get_name(), exc_info=task.exception())
