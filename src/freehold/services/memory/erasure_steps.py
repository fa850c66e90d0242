"""The steps of an erasure. Each takes away what there is of one kind, in transactions of its own
that note what went, and does nothing where nothing is left: after a crash all are done again."""

# ruff: noqa: S608 - constants alone; values are parameters

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec

from freehold.kernel.errors import NotFound
from freehold.ports.blobs import Blobs
from freehold.ports.database import Connection, Database
from freehold.services.memory import erasure_store as store
from freehold.services.memory import retrievals_store as lines
from freehold.services.memory.event_store import EventStore
from freehold.services.memory.extraction_places import Place
from freehold.services.memory.extraction_schedule import EXTRACTION_JOB
from freehold.services.memory.extraction_store import Queued, Triggers
from freehold.services.memory.extraction_unsaid import Unsaying
from freehold.services.memory.index import postings
from freehold.services.memory.index import store as index_store
from freehold.services.memory.learning import Extraction
from freehold.services.memory.model import Event, Memory, Record, Strategy
from freehold.services.memory.ports import JobTraces, Records
from freehold.services.memory.turns import Turns, turn_id

BATCH = 200
_LINES = 2_000


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Who is erased from which memory, by which erasure."""

    memory: Memory
    actor_id: str
    erasure_id: str

    @property
    def where(self) -> dict[str, Any]:
        return lines.of_person(self.memory.tenant, self.memory.id, self.actor_id)


class Steps:
    def __init__(
        self,
        database: Database,
        *,
        records: Records,
        turns: Turns,
        extraction: Extraction,
        blobs: Blobs,
        jobs: JobTraces,
    ) -> None:
        self._database, self._records, self._turns = database, records, turns
        self._extraction, self._blobs, self._jobs = extraction, blobs, jobs
        self._events = EventStore()

    async def all(self, person: Person) -> None:
        """What others are made from goes first."""
        async with self._database.transaction() as connection:
            await self._events.let_in_flight_end(
                connection, person.memory.tenant, person.memory.id, person.actor_id
            )
        for step in (
            self.queue, self.events, self.expired, self.placed, self.turns, self.payloads,
            self.retrievals, self.jobs, self.index,
        ):  # fmt: skip
            await step(person)

    # -- what was said, and what was learned from it

    async def queue(self, person: Person) -> None:
        """A job that is at it has lost its turn: what it learns is not written."""
        async with self._noting(person) as (connection, noted):
            await connection.execute(
                "SELECT FROM memory_extraction_sessions WHERE tenant = %(tenant)s"
                " AND memory_id = %(memory)s AND actor_id = %(actor)s"
                " ORDER BY strategy_id, session_id FOR UPDATE",
                person.where,
            )
            for kind, table, item in (
                (
                    "queued", "extractions",
                    "concat_ws(' ', strategy_id, session_id, event_id)",
                ),
                ("failedJob", "extraction_failures", "id"),
                ("", "extraction_sessions", "session_id"),
            ):  # fmt: skip
                rows = await connection.execute(
                    f"DELETE FROM memory_{table} WHERE tenant = %(tenant)s"
                    f" AND memory_id = %(memory)s AND actor_id = %(actor)s RETURNING {item}",
                    person.where,
                )
                gone = [row[0] for row in await rows.fetchall()]
                if kind:
                    await noted.note(kind, gone)

    async def events(self, person: Person) -> None:
        memory = person.memory
        async with self._database.connection() as connection:
            threads = await self._events.threads(
                connection, memory.tenant, memory.id, person.actor_id
            )
        for thread in threads:
            taken: Sequence[Event] = [_nothing]
            while taken:
                async with self._noting(person) as (connection, noted):
                    session = await _session(connection, memory.tenant, thread)
                    taken = await self._events.take_batch(
                        connection, memory.tenant, thread, limit=BATCH
                    )
                    await noted.note("event", [event.id for event in taken])
                    if session and not await _session(connection, memory.tenant, thread):
                        await noted.note("session", [session])
                    await noted.turns_go(
                        [turn_id(event.id, n) for event in taken for n in range(len(event.payload))]
                    )
                    await self._turns.unsaid(connection, memory, taken)
                    await noted.unsaying.unsaid(connection, memory, taken)

    async def expired(self, person: Person) -> None:
        """What was learned of events that expired since."""

        async def step(connection: Connection, noted: "Noted") -> bool:
            rows = await connection.execute(
                "SELECT DISTINCT session_id, event_id FROM memory_record_sources"
                " WHERE tenant = %(tenant)s AND memory_id = %(memory)s AND actor_id = %(actor)s"
                " LIMIT %(limit)s",
                person.where | {"limit": BATCH},
            )
            gone = [
                msgspec.structs.replace(
                    _nothing, tenant=person.memory.tenant, memory_id=person.memory.id,
                    actor_id=person.actor_id, session_id=session_id, id=event_id,
                )
                for session_id, event_id in await rows.fetchall()
            ]  # fmt: skip
            await noted.unsaying.unsaid(connection, person.memory, gone)
            return bool(gone)

        await self._until_nothing_is_left(person, step)

    async def placed(self, person: Person) -> None:
        """What was put into namespaces that name them, and comes from nothing that was said."""

        async def step(connection: Connection, noted: "Noted") -> bool:
            ids = await _ids(
                connection,
                f"SELECT DISTINCT record_id FROM ({lines.PLACED}) AS p"
                " ORDER BY record_id LIMIT %(limit)s",
                person.where | {"limit": BATCH},
            )
            await noted.remove(connection, person.memory, ids)
            return bool(ids)

        await self._until_nothing_is_left(person, step)

    async def turns(self, person: Person) -> None:
        """Those that outlived their events."""

        async def step(connection: Connection, noted: "Noted") -> bool:
            ids = await _ids(
                connection,
                f"SELECT id FROM ({lines.SPOKEN}) AS s ORDER BY id LIMIT %(limit)s",
                person.where | {"limit": BATCH},
            )
            await noted.turns_go(ids)
            await self._turns.remove(connection, person.memory, ids)
            return bool(ids)

        await self._until_nothing_is_left(person, step)

    # -- what is beside it

    async def payloads(self, person: Person) -> None:
        tenant = person.memory.tenant

        async def step(connection: Connection, noted: "Noted") -> bool:
            rows = await connection.execute(
                "SELECT bucket, key FROM memory_payloads WHERE tenant = %(tenant)s"
                " AND memory_id = %(memory)s AND actor_id = %(actor)s"
                " ORDER BY bucket, key LIMIT 1 FOR UPDATE",
                person.where,
            )
            row = await rows.fetchone()
            if row is None:
                return False
            bucket, key = row
            with contextlib.suppress(NotFound):  # with the whole bucket
                await self._blobs.delete(tenant, bucket, key)
            await noted.note("payload", [f"{bucket}/{key}"])
            await connection.execute(
                "DELETE FROM memory_payloads WHERE tenant = %s AND bucket = %s AND key = %s",
                (tenant, bucket, key),
            )
            return True

        await self._until_nothing_is_left(person, step)

    async def retrievals(self, person: Person) -> None:
        async def step(connection: Connection, noted: "Noted") -> bool:
            gone = await _ids(
                connection,
                "DELETE FROM memory_retrievals WHERE tenant = %(tenant)s"
                " AND memory_id = %(memory)s AND id = ANY(ARRAY("
                "  SELECT r.id FROM memory_retrievals r"
                "  WHERE r.tenant = %(tenant)s AND r.memory_id = %(memory)s"
                f" AND {lines.OF_PERSON} ORDER BY r.id LIMIT %(limit)s)) RETURNING id::text",
                person.where | {"limit": _LINES},
            )
            await noted.note("retrieval", gone)
            return bool(gone)

        await self._until_nothing_is_left(person, step)

    async def jobs(self, person: Person) -> None:
        """A job's payload names the session that it was for."""
        async with self._noting(person) as (connection, noted):
            gone = await self._jobs.forget(connection, EXTRACTION_JOB, job_part(person))
            await noted.note("job", gone)

    async def index(self, person: Person) -> None:
        """Postings tell what a text was, and names of namespaces whose it was, until the index is
        tidied up: that is done at once."""
        memory = person.memory
        async with self._database.connection() as connection:
            rows = await connection.execute("SELECT coalesce(max(no), 0) FROM memory_index_untidy")
            [last] = await rows.fetchone() or [0]
        while True:
            async with self._database.transaction() as connection:
                untidy = await _untidy(connection, memory, last)
                if not untidy:
                    break
                ns = await postings.tidy(connection)
                if ns is not None:
                    await index_store.drop_empty(connection, ns)
                else:
                    await postings.until_tidied(connection, untidy[0])
        async with self._database.transaction() as connection:
            rows = await connection.execute(f"SELECT n.no {store.NAMES}".encode(), person.where)
            for (ns,) in await rows.fetchall():
                await connection.execute(
                    "UPDATE memory_index_namespaces SET speakers = array_remove(speakers, %s)"
                    " WHERE no = %s",
                    (person.actor_id, ns),
                )
                await index_store.drop_empty(connection, ns)

    async def _until_nothing_is_left(
        self, person: Person, step: Callable[[Connection, "Noted"], Awaitable[bool]]
    ) -> None:
        """Each step is a transaction, and says whether it found anything."""
        left = True
        while left:
            async with self._noting(person) as (connection, noted):
                left = await step(connection, noted)

    @asynccontextmanager
    async def _noting(self, person: Person) -> AsyncIterator[tuple[Connection, "Noted"]]:
        async with self._database.transaction() as connection:
            yield connection, Noted(connection, person, self._records, self._extraction)


async def _ids(connection: Connection, statement: str, values: Mapping[str, Any]) -> list[str]:
    rows = await connection.execute(statement.encode(), values)
    return [id for (id,) in await rows.fetchall()]


class Noted:
    """`ports.Records` of one transaction, which notes what is removed. With records go the lines
    that tell who was given them."""

    def __init__(
        self, connection: Connection, person: Person, records: Records, extraction: Extraction
    ) -> None:
        self._connection, self._person, self._records = connection, person, records
        self._shared: set[str] = set()
        self.unsaying = Unsaying(
            extraction.store, self, _Others(extraction, person.actor_id)
        )  # fmt: skip

    async def note(self, kind: str, items: Sequence[str]) -> None:
        memory = self._person.memory
        key = (memory.tenant, memory.id, self._person.erasure_id)
        await store.note(self._connection, key, kind, items)

    async def turns_go(self, ids: Sequence[str]) -> None:
        """Those of them that there are."""
        memory = self._person.memory
        rows = await self._connection.execute(
            "SELECT id FROM memory_turns WHERE tenant = %s AND memory_id = %s AND id = ANY(%s)"
            " ORDER BY id FOR UPDATE",
            (memory.tenant, memory.id, list(ids)),
        )
        there = [id for (id,) in await rows.fetchall()]
        await self._go("turn", there)
        await self._lines(turn_ids=there)

    async def _go(self, kind: str, ids: Sequence[str]) -> None:
        await self.note(kind, ids)
        memory = self._person.memory
        rows = await self._connection.execute(
            "SELECT no::text FROM memory_index_units"
            " WHERE tenant = %s AND memory_id = %s AND id = ANY(%s)",
            (memory.tenant, memory.id, list(ids)),
        )
        await self.note("index", [no for (no,) in await rows.fetchall()])

    async def _lines(self, **ids: Sequence[str]) -> None:
        memory = self._person.memory
        gone = await lines.take(self._connection, memory.tenant, memory.id, **ids)
        await self.note("retrieval", gone)

    # -- ports.Records, as far as what is unsaid needs it

    async def from_events(
        self, memory: Memory, event_ids: Sequence[str], *, connection: Connection | None = None
    ) -> Sequence[Record]:
        found = await self._records.from_events(memory, event_ids, connection=connection)
        theirs = self._person.actor_id
        self._shared |= {
            record.id for record in found
            if any(source.actor_id != theirs for source in record.sources)
        }  # fmt: skip
        return found

    async def remove(self, connection: Connection, memory: Memory, ids: Sequence[str]) -> None:
        await self._go("rederived", [id for id in ids if id in self._shared])
        await self._go("record", [id for id in ids if id not in self._shared])
        await self._lines(record_ids=ids)
        await self._records.remove(connection, memory, ids)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)


class _Others:
    """Who waits to be learned from: the person is not, again."""

    def __init__(self, extraction: Extraction, actor_id: str) -> None:
        self._extraction, self._actor_id = extraction, actor_id

    async def queue(
        self,
        connection: Connection,
        strategy: Strategy,
        place: Place,
        queued: Sequence[Queued],
        *,
        now: bool = False,
    ) -> None:
        if place.actor_id != self._actor_id:
            await self._extraction.queue(connection, strategy, place, queued, now=now)

    def triggers(self, strategy: Strategy | None) -> Triggers:
        return self._extraction.triggers(strategy)


def job_part(person: Person) -> dict[str, Any]:
    """What the payloads of a person's extractions have in common."""
    memory = person.memory
    return {"place": {"tenant": memory.tenant, "memory_id": memory.id, "actor_id": person.actor_id}}


async def _session(connection: Connection, tenant: str, thread: Any) -> str:
    rows = await connection.execute(
        "SELECT session_id FROM memory_sessions WHERE tenant = %s AND thread = %s", (tenant, thread)
    )
    row = await rows.fetchone()
    return "" if row is None else row[0]


async def _untidy(connection: Connection, memory: Memory, last: int) -> list[int]:
    """Others go on writing: what they leave behind after `last` is not waited for."""
    rows = await connection.execute(
        "SELECT DISTINCT u.ns FROM memory_index_untidy u JOIN memory_index_namespaces n"
        " ON n.no = u.ns WHERE n.tenant = %s AND n.memory_id = %s AND u.no <= %s ORDER BY u.ns",
        (memory.tenant, memory.id, last),
    )
    return [ns for (ns,) in await rows.fetchall()]


_nothing = Event(
    tenant="", memory_id="", actor_id="", session_id="", id="", payload=(),
    at=datetime.fromisoformat("1970-01-01T00:00:00+00:00"),
)  # fmt: skip
