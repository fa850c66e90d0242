"""Which retrieval used which record: noted while it is answered, written soon after it.

Nobody waits for a line: it is noted in memory, and a task writes what came together in one
statement. While Postgres is away lines wait, as many as `WAITING_LINES_MAX`; a worker that ends in
order writes what it has first. Queries are sealed: they may repeat what somebody said.
"""

import asyncio
import contextlib
import logging
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec
import psycopg

from freehold.kernel import clock
from freehold.kernel.caller import CallerKind
from freehold.kernel.errors import FreeholdError, Unavailable
from freehold.kernel.request import Request
from freehold.ports.database import Database
from freehold.ports.secrets import Sealer
from freehold.services.memory import retrievals_store as store
from freehold.services.memory.event_store import actor_digest
from freehold.services.memory.model import Memory

log = logging.getLogger("freehold.memory")

RETENTION_DAYS = 30
WAITING_LINES_MAX = 20_000
WAITING_CHARACTERS_MAX = 32 << 20
_GROUP_LINES_MAX = 200
_GATHER_SECONDS = 0.1
_PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 0.05, 2.0
_SESSION = "/session/"
_PEOPLE_MAX = 60

Used = tuple[str, float | None]
"""The id of a record or a turn, and its score."""


class Retrieval(msgspec.Struct, frozen=True, kw_only=True):
    """`namespace` is what was asked for, normalised; "" where only an id was."""

    tenant: str
    memory_id: str
    id: uuid.UUID
    at: datetime
    by: str
    session_id: str
    operation: str
    namespace: str
    query: str
    used: tuple[Used, ...]

    @property
    def size(self) -> int:
        return len(self.query) + len(self.namespace) + 60 * len(self.used)


def retrieval_of(
    request: Request, memory: Memory, operation: str, namespace: str, *, query: str,
    used: Sequence[Used],
) -> Retrieval:  # fmt: skip
    """By whoever calls; the session is known of code in a sandbox."""
    caller, at = request.caller, clock.now()
    session = caller.principal.partition(_SESSION)[2] if caller.kind is CallerKind.SESSION else ""
    return Retrieval(
        tenant=memory.tenant, memory_id=memory.id, id=new_id(at), at=at, by=caller.principal,
        session_id=session, operation=operation, namespace=namespace, query=query,
        used=tuple(used),
    )  # fmt: skip


def new_id(at: datetime) -> uuid.UUID:
    """Of version 7: the order of ids is that of `at`."""
    return uuid.UUID(int=first_id(at).int | secrets.randbits(62))


def first_id(at: datetime) -> uuid.UUID:
    """No id of then or later comes before it."""
    milliseconds, rest = divmod(max(0, (at - _EPOCH) // timedelta(microseconds=1)), 1000)
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | (rest * 4096 // 1000) << 64 | 2 << 62)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def people_in(namespace: str) -> list[str]:
    """Who it may be about: each part of it that could be an actor's id, the longer ones last."""
    parts = [part for part in namespace.split("/") if part]
    found = [
        "/".join(parts[start : start + length])
        for length in range(1, len(parts) + 1)
        for start in range(len(parts) - length + 1)
    ]
    return found[:_PEOPLE_MAX]


class RetrievalLog:
    """`start` before use, `close` after. `note` is for everybody who gives records away."""

    def __init__(
        self, database: Database, sealer: Sealer, *, patience_seconds: float = 10.0
    ) -> None:
        self._database, self._sealer = database, sealer
        self._patience_seconds = patience_seconds
        self._waiting: deque[Retrieval] = deque()
        self._characters = 0
        self._lost = 0
        self._wake, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="memory retrievals")

    async def close(self) -> None:
        """What waits is written first, if Postgres answers."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience_seconds):
                await self._idle.wait()
        if self._waiting:
            log.warning("%d memory retrievals could not be noted", len(self._waiting))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def note(self, retrieval: Retrieval) -> None:
        """Never waits. Where too many wait already it is not noted, and that is said in the log."""
        if (
            self._task is None
            or len(self._waiting) >= WAITING_LINES_MAX
            or self._characters >= WAITING_CHARACTERS_MAX
        ):
            if self._lost == 0:
                log.warning("memory retrievals are not noted just now: too many wait to be written")
            self._lost += 1
            return
        self._waiting.append(retrieval)
        self._characters += retrieval.size
        self._idle.clear()
        self._wake.set()

    async def written(self) -> None:
        """Until all that was noted is written."""
        await self._idle.wait()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_SECONDS):
                    await self._closing.wait()
            while self._waiting:
                group = [self._waiting[n] for n in range(min(len(self._waiting), _GROUP_LINES_MAX))]
                await self._write(group)
                for each in group:  # not before: who ends now says how many are lost
                    self._waiting.popleft()
                    self._characters -= each.size
            if self._lost:
                log.warning("%d memory retrievals were not noted", self._lost)
                self._lost = 0
            self._idle.set()

    async def _write(self, group: Sequence[Retrieval]) -> None:
        pause = _PAUSE_SECONDS_MIN
        while True:
            try:
                lines = [self._line(each) for each in group]
                async with self._database.transaction() as connection:
                    if await store.insert(connection, lines):
                        return
            except Unavailable as error:
                log.warning("%d memory retrievals wait for Postgres: %s", len(group), error)
            except (psycopg.Error, FreeholdError, ValueError, TypeError) as error:
                # One of them was refused, and takes no other with it.
                if len(group) == 1:
                    log.error("a memory retrieval could not be noted: %s", type(error).__name__)
                    return
                middle = len(group) // 2
                await self._write(group[:middle])
                await self._write(group[middle:])
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)

    def _line(self, each: Retrieval) -> store.Line:
        query = each.query.encode("utf-8", "backslashreplace")
        return store.Line(
            tenant=each.tenant, memory_id=each.memory_id, id=each.id, at=each.at,
            principal=_text(each.by), session_id=_text(each.session_id),
            operation=each.operation, namespace=_text(each.namespace), given=len(each.used),
            sealed_query=self._sealer.seal(query, context=store.context(each.tenant, each.id)),
            people=[
                actor_digest(each.tenant, each.memory_id, name)
                for name in people_in(each.namespace)
            ],
            used=each.used,
        )  # fmt: skip


class RetrievalRetention:
    """What is older than `days` goes; 0 keeps it."""

    def __init__(
        self,
        database: Database,
        *,
        days: int = RETENTION_DAYS,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database, self._days, self._now = database, days, now

    async def sweep(self) -> int:
        """Removes some, also of those whose records are all gone; how many. Safe beside others."""
        before = self._now() - timedelta(days=self._days) if self._days else None
        async with self._database.connection() as connection:
            return await store.expire(connection, before)


def _text(text: str) -> str:
    return text.replace("\0", " ").encode("utf-8", "backslashreplace").decode()
