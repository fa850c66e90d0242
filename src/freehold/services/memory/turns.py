"""Raw turns: what was said stays searchable as it was said, where a memory has it so.

A turn is one conversational message. Its text is the event's; here is only that it is searchable.
It looks like a record: of strategy `turns`, in a namespace of its session, with an id that says
which message of which event it is.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from freehold.kernel import clock
from freehold.kernel.errors import NotFound
from freehold.ports.database import Connection, Database
from freehold.ports.jobs import Jobs
from freehold.services.memory import filters
from freehold.services.memory.event_sql import PAGE_BYTES_MAX
from freehold.services.memory.event_store import EventStore
from freehold.services.memory.model import (
    TURNS_NAMESPACE,
    TURNS_STRATEGY,
    Event,
    Memory,
    Message,
    Record,
    Source,
    namespace_of,
)
from freehold.services.memory.ports import Index, Memories, Unit, Where
from freehold.services.memory.record_store import Position, before_of, bounds
from freehold.services.memory.records import by_memory

FILL_JOB = "memory-turns"
FILL_ATTEMPTS_MAX = 10
BATCH = 200
RESERVED_PATH = TURNS_NAMESPACE[: TURNS_NAMESPACE.index("{")].split("/")[1]
"""The first part of every turn's namespace, which no record of a client's may have."""
TEXT_CHARACTERS_MAX = 16_000
"""What an answer shows of one, as the API's model has it; GetEvent has all of it."""

_LISTED = (
    "SELECT namespace, at, id FROM memory_turns WHERE tenant = %s AND memory_id = %s"
    " AND namespace >= %s AND expires_at > %s"
)
_OF_ACTOR = re.compile(rf"/{RESERVED_PATH}/actors/(.+?)/(?:sessions/(?:[^/]+/)?)?")
_ID = re.compile(r"mem-turn-(\d{15})-([0-9a-f]{8})-(\d{6})")


def turn_id(event_id: str, index: int) -> str:
    moment, _, arrival = event_id.partition("#")
    return f"mem-turn-{moment}-{arrival}-{index:06d}"


def actor_in(place: str) -> str:
    """Whose turns a namespace or a path has; "" where it does not say. What is above several actors
    ("team" of "team/anna") looks like one of them."""
    found = _OF_ACTOR.fullmatch(place)
    return found[1] if found else ""


def source_of(id: str) -> Source | None:
    """Of a turn's id; None for a record's."""
    found = _ID.fullmatch(id)
    return Source(event_id=f"{found[1]}#{found[2]}", index=int(found[3])) if found else None


class Turns:
    """A part of `ports.Learning`. Beside that, turns as the API shows them, and `switched` for a
    memory on which they were turned on or off: the rest is a job's."""

    def __init__(
        self,
        database: Database,
        index: Index,
        *,
        memories: Memories,
        jobs: Jobs,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database, self._index, self._memories = database, index, memories
        self._jobs, self._now = jobs, now
        self._events = EventStore()

    # -- learning

    async def said(self, connection: Connection, memory: Memory, event: Event) -> None:
        if memory.turns:
            made = event.created_at or event.at
            expiries = {event.id: made + timedelta(days=memory.expiry_days)}
            await self._put(connection, memory, [event], expiries)

    async def unsaid(self, connection: Connection, memory: Memory, events: Sequence[Event]) -> None:
        """Whether or not turns are on: a job may still be at it."""
        ids = [turn_id(event.id, said.index) for event in events for said in _turns_of(event)]
        await self.remove(connection, memory, ids)

    async def remove(self, connection: Connection, memory: Memory, ids: Sequence[str]) -> None:
        if ids:
            await self._remove(connection, memory.tenant, memory.id, ids)
            await self._index.remove(connection, memory, ids)

    async def _put(
        self,
        connection: Connection,
        memory: Memory,
        events: Sequence[Event],
        expiries: Mapping[str, datetime],
    ) -> None:
        turns = [(event, said) for event in events for said in _turns_of(event)]
        if not turns:
            return
        units = [_unit(event, said, expiries[event.id]) for event, said in turns]
        given = [
            {
                "namespace": unit.namespaces[0], "at": unit.at, "id": unit.id,
                "metadata": msgspec.Raw(filters.dumped(unit.metadata).encode()),
                "expires_at": unit.expires_at,
            }
            for unit in units
        ]  # fmt: skip
        rows = await connection.execute(
            "INSERT INTO memory_turns (tenant, memory_id, namespace, at, id, metadata, expires_at)"
            " SELECT %s, %s, g.* FROM jsonb_to_recordset(%s::jsonb) AS g(namespace text,"
            " at timestamptz, id text, metadata jsonb, expires_at timestamptz)"
            " ON CONFLICT DO NOTHING RETURNING id",
            (memory.tenant, memory.id, msgspec.json.encode(given).decode()),
        )
        new = {id for (id,) in await rows.fetchall()}
        await self._index.put(connection, memory, [unit for unit in units if unit.id in new])

    async def _remove(
        self, connection: Connection, tenant: str, memory_id: str, ids: Sequence[str]
    ) -> None:
        await connection.execute(
            "DELETE FROM memory_turns WHERE tenant = %s AND memory_id = %s AND id = ANY(%s)",
            (tenant, memory_id, list(ids)),
        )

    # -- as the API shows them

    async def read(self, memory: Memory, ids: Sequence[str]) -> dict[str, Record]:
        """Those that are there, where turns are on."""
        sources = {id: source for id in ids if (source := source_of(id)) is not None}
        if not sources or not memory.turns:
            return {}
        async with self._database.connection() as connection:
            found = await self._events.messages(
                connection, memory.tenant, memory.id, list(sources.values()), self._now()
            )
        there = {
            turn_id(event.id, source.index): _record(
                event, msgspec.structs.replace(said, index=source.index)
            )
            for event, source in found
            for said in _turns_of(event)
        }
        return {id: there[id] for id in sources if id in there}

    async def page(
        self, memory: Memory, where: Where, *, after: Position | None, limit: int
    ) -> list[tuple[Position, Record | None]]:
        """None for one whose event has just gone."""
        if not memory.turns or where.strategy_id not in ("", TURNS_STRATEGY):
            return []
        condition, more = filters.condition(filters.parsed(where.filters), "metadata")
        first, end = bounds(where)
        before, upper = before_of(after, end, ("namespace", "at", "id"))
        sql = f"{_LISTED} AND {condition} AND {before}"
        parameters = [memory.tenant, memory.id, first, self._now(), *more, *upper]
        sql += " ORDER BY namespace DESC, at DESC, id DESC LIMIT %s"
        async with self._database.connection() as connection:
            rows = await connection.execute(sql, (*parameters, limit))
            positions: list[Position] = [(row[0], row[1], row[2]) for row in await rows.fetchall()]
        found = await self.read(memory, [position[2] for position in positions])
        return [(position, found.get(position[2])) for position in positions]

    # -- switching

    async def switched(self, memory: Memory, on: bool) -> None:
        """Tell of every change of a memory's tags: the same again does nothing."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                "INSERT INTO memory_turn_switches AS s (tenant, memory_id, turns, done)"
                # Off from the beginning: there is nothing to remove.
                " SELECT %(tenant)s, %(memory)s, %(on)s, NOT %(on)s AND NOT EXISTS (SELECT"
                " FROM memory_turns WHERE tenant = %(tenant)s AND memory_id = %(memory)s)"
                " ON CONFLICT (tenant, memory_id) DO UPDATE SET"
                " generation = s.generation + (s.turns <> excluded.turns)::integer,"
                " done = s.done AND s.turns = excluded.turns, turns = excluded.turns"
                " RETURNING generation, done",
                {"tenant": memory.tenant, "memory": memory.id, "on": on},
            )
            found = await rows.fetchone()
        assert found is not None, "an upsert has a row"
        if not found[1]:
            await self._enqueue(memory.tenant, memory.id, found[0])

    async def take_up(self) -> None:
        """At the start of a process: what was switched, and no job was left of by a crash."""
        async with self._database.connection() as connection:
            rows = await connection.execute(
                "SELECT tenant, memory_id, generation FROM memory_turn_switches WHERE NOT done"
            )
            for tenant, memory_id, generation in await rows.fetchall():
                await self._enqueue(tenant, memory_id, generation)

    async def _enqueue(self, tenant: str, memory_id: str, generation: int) -> None:
        payload = {"tenant": tenant, "memory": memory_id, "generation": generation}
        await self._jobs.enqueue(
            FILL_JOB, payload, id=f"{FILL_JOB}:{tenant}:{memory_id}:{generation}"
        )

    async def work(self, payload: Mapping[str, Any]) -> None:
        """The job: fills in, or removes, in small transactions; repeated, it does no more. One
        that was overtaken by another switch ends by itself."""
        tenant, memory_id = payload["tenant"], payload["memory"]
        try:
            memory = await self._memories.get(tenant, memory_id)
        except NotFound:
            return
        after: str | None = ""
        while after is not None:
            async with self._database.transaction() as connection:
                rows = await connection.execute(
                    "SELECT turns FROM memory_turn_switches WHERE tenant = %s AND memory_id = %s"
                    " AND generation = %s FOR SHARE",
                    (tenant, memory_id, payload["generation"]),
                )
                found = await rows.fetchone()
                if found is None:
                    return
                step = self._fill if found[0] else self._empty
                after = await step(connection, memory, after)
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE memory_turn_switches SET done = true"
                " WHERE tenant = %s AND memory_id = %s AND generation = %s",
                (tenant, memory_id, payload["generation"]),
            )

    async def _fill(self, connection: Connection, memory: Memory, after: str) -> str | None:
        """Where to go on; None at the end. The events are locked: one that is deleted meanwhile
        finds its turns when it looks for them. They are no more than fit into memory."""
        rows = await connection.execute(
            "SELECT id, expires_at, payload_bytes FROM memory_events WHERE tenant = %s"
            " AND memory_id = %s AND id > %s ORDER BY id LIMIT %s FOR SHARE",
            (memory.tenant, memory.id, after, BATCH),
        )
        locked = await rows.fetchall()
        expiries: dict[str, datetime] = {}
        size = 0
        for id, expires_at, payload_bytes in locked:
            if size >= PAGE_BYTES_MAX:
                break
            expiries[id] = expires_at
            size += payload_bytes
        ids = list(expiries)
        events = await self._events.by_id(connection, memory.tenant, memory.id, ids, self._now())
        await self._put(connection, memory, events, expiries)
        return ids[-1] if len(locked) == BATCH or len(ids) < len(locked) else None

    async def _empty(self, connection: Connection, memory: Memory, after: str) -> str | None:
        ids = await self._some(connection, memory.tenant, memory.id)
        if ids:
            await self._index.remove(connection, memory, ids)
        return "" if len(ids) == BATCH else None

    async def _some(self, connection: Connection, tenant: str, memory_id: str) -> list[str]:
        """Taken away here; the index has them still."""
        rows = await connection.execute(
            # By their places, which hold still: joined to its limit, the planner may ask for the
            # batch again for each row, and take all of a memory's at once.
            "DELETE FROM memory_turns WHERE ctid = ANY(ARRAY(SELECT ctid FROM memory_turns"
            " WHERE tenant = %s AND memory_id = %s ORDER BY id LIMIT %s FOR UPDATE)) RETURNING id",
            (tenant, memory_id, BATCH),
        )
        return [row[0] for row in await rows.fetchall()]

    # -- upkeep

    async def sweep(self) -> int:
        """Removes some of what expired, of any memory; how many. Safe beside others."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                "DELETE FROM memory_turns WHERE ctid = ANY(ARRAY(SELECT ctid FROM memory_turns"
                " WHERE expires_at <= %s ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED))"
                " RETURNING tenant, memory_id, id",
                (self._now(), BATCH),
            )
            expired = [(row[0], row[1], row[2]) for row in await rows.fetchall()]
            for (tenant, memory_id), ids in by_memory(expired).items():
                try:
                    memory = await self._memories.get(tenant, memory_id)
                except NotFound:  # it is being deleted, and its index with it
                    continue
                await self._index.remove(connection, memory, ids)
        return len(expired)

    async def clear(self, tenant: str, memory_id: str) -> None:
        """Of a memory that is deleted, by its id. The index is cleared by whoever deletes it."""
        gone = BATCH
        while gone == BATCH:
            async with self._database.transaction() as connection:
                gone = len(await self._some(connection, tenant, memory_id))
        async with self._database.connection() as connection:
            await connection.execute(
                "DELETE FROM memory_turn_switches WHERE tenant = %s AND memory_id = %s",
                (tenant, memory_id),
            )


def _turns_of(event: Event) -> list[Message]:
    return [message for message in event.messages if message.text.strip()]


def _namespace(event: Event) -> str:
    return namespace_of(TURNS_NAMESPACE, actorId=event.actor_id, sessionId=event.session_id)


def _metadata(event: Event, message: Message) -> dict[str, Any]:
    """The event's own, and where it was said."""
    return {
        **event.metadata,
        "freehold:actorId": event.actor_id,
        "freehold:sessionId": event.session_id,
        "freehold:eventId": event.id,
        "freehold:role": message.role,
    }


def _unit(event: Event, message: Message, expires_at: datetime) -> Unit:
    made = event.created_at or event.at
    return Unit(
        id=turn_id(event.id, message.index), namespaces=(_namespace(event),),
        strategy_id=TURNS_STRATEGY, text=message.text, at=event.at,
        speaker=event.actor_id if message.role == "USER" else message.role.lower(),
        # A session's id has no slash, so that no two actors' sessions are taken for one.
        group=f"{event.actor_id}/{event.session_id}", order=f"{event.id}/{message.index:06d}",
        metadata={
            **_metadata(event, message), filters.CREATED_AT: made, filters.UPDATED_AT: made,
        },
        expires_at=expires_at,
    )  # fmt: skip


def _record(event: Event, message: Message) -> Record:
    return Record(
        tenant=event.tenant, memory_id=event.memory_id, id=turn_id(event.id, message.index),
        namespaces=(_namespace(event),), strategy_id=TURNS_STRATEGY,
        text=message.text[:TEXT_CHARACTERS_MAX], at=event.at,
        created_at=event.created_at or event.at, metadata=_metadata(event, message),
        sources=(
            Source(
                event_id=event.id, index=message.index, actor_id=event.actor_id,
                session_id=event.session_id,
            ),
        ),
    )  # fmt: skip
