"""When a session's turn has come, its extraction becomes a job. Idle, this asks nobody anything: it
waits for a notification, or for the moment at which it knows a turn to come."""

import asyncio
import contextlib
import logging

import msgspec

from freehold.kernel import ids
from freehold.kernel.errors import Unavailable
from freehold.ports.jobs import Jobs
from freehold.services.memory.extraction_store import CHANNEL, ExtractionStore

log = logging.getLogger("freehold.memory")

EXTRACTION_JOB = "memory-extraction"
_AT_ONCE_MAX = 20
_PAUSE_SECONDS = 1.0
_SOON_SECONDS = 0.02


class ExtractionSchedule:
    """Several may run: a turn is one's alone. Made before the database starts: it listens."""

    def __init__(self, store: ExtractionStore, jobs: Jobs) -> None:
        self._store, self._jobs = store, jobs
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        store.database.listen(CHANNEL, self._heard)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="schedule of memory extractions")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _heard(self, _: str) -> None:
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                due_seconds = await self._enqueue()
            except Unavailable as error:
                log.warning("memory extractions wait: %s", error)
                due_seconds = _PAUSE_SECONDS
            if due_seconds is not None:
                due_seconds = max(due_seconds, _SOON_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due_seconds):
                    await self._wake.wait()

    async def _enqueue(self) -> float | None:
        """A claim whose job is not enqueued, since this process died, soon has its turn again."""
        claims, due_seconds = await self._store.claim(_AT_ONCE_MAX)
        for claim in claims:
            await self._jobs.enqueue(
                EXTRACTION_JOB, msgspec.to_builtins(msgspec.structs.replace(claim, until=None)),
                id=f"{EXTRACTION_JOB}/{claim.job_id}/{ids.random_text(8)}",
            )  # fmt: skip
        if claims:
            await self._store.keep(claims)
        return due_seconds
