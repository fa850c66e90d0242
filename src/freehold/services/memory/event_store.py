"""Events, sessions and branches in Postgres.

Whoever adds an event holds its session's lock in the shared way, whoever takes a session away holds
it alone: no event is ever left without its session.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from psycopg.types.json import Jsonb

from freehold.ports.database import Connection
from freehold.services.memory import event_sql as sql
from freehold.services.memory.event_sql import EventFilter
from freehold.services.memory.model import MAIN, RECALLED, Event, Source

_BRANCHES_DEEP_MAX = 10_000
_EMPTY_FOR = timedelta(days=1)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    actor_id: str
    session_id: str
    created_at: datetime


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An event, and of what its client asked for."""

    event: Event
    request: uuid.UUID


class NewRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a new event's row has beside the event. `payload` is its JSON."""

    event: Event
    payload: bytes
    expires_at: datetime
    token: uuid.UUID | None
    request: uuid.UUID


def thread_of(tenant: str, memory_id: str, actor_id: str, session_id: str) -> uuid.UUID:
    """None of them can hold a line break."""
    return digest("\n".join((tenant, memory_id, actor_id, session_id)).encode())


def actor_digest(tenant: str, memory_id: str, actor_id: str) -> str:
    """By which an erasure knows a person once it has forgotten them."""
    return hashlib.sha256("\n".join((tenant, memory_id, actor_id)).encode()).hexdigest()


def digest(text: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=hashlib.sha256(text).digest()[:16])


class EventStore:
    """Each method joins its caller's transaction, and is of one tenant where it names one."""

    # -- adding

    async def by_token(self, connection: Connection, tenant: str, token: uuid.UUID) -> Kept | None:
        rows = await connection.execute(sql.BY_TOKEN.encode(), {"tenant": tenant, "token": token})
        row = await rows.fetchone()
        return None if row is None else Kept(event=_event(row[:-1]), request=row[-1])

    async def enter(
        self, connection: Connection, event: Event, thread: uuid.UUID, moment: str, now: datetime
    ) -> str | None:
        """The id of the session's newest event at these milliseconds. The session is made, if this
        is its first event, and its lock and its actor's are held."""
        rows = await connection.execute(
            sql.ENTER,
            {
                "tenant": event.tenant, "thread": thread, "memory_id": event.memory_id,
                "actor_id": event.actor_id, "session_id": event.session_id, "now": now,
                "lock": _lock(thread), "moment": f"{moment}#", "next": f"{moment}~",
                "actor_lock": _actor_lock(event.tenant, event.memory_id, event.actor_id),
            },
        )  # fmt: skip
        row = await rows.fetchone()
        return None if row is None else row[2]

    async def insert(self, connection: Connection, thread: uuid.UUID, new: NewRow) -> bool:
        """False where its id or its client's token is taken, its session has just gone, or its
        actor is being erased. Waits for whoever is taking it."""
        event = new.event
        done = await connection.execute(
            sql.INSERT.encode(),
            {
                "tenant": event.tenant, "memory_id": event.memory_id, "id": event.id,
                "thread": thread, "actor_id": event.actor_id, "session_id": event.session_id,
                "branch": event.branch, "root_event_id": event.root_event_id, "at": event.at,
                "created_at": event.created_at, "expires_at": new.expires_at,
                "metadata": Jsonb(event.metadata), "extract": event.extract,
                "variables": Jsonb(event.variables), "payload": new.payload.decode(),
                "payload_bytes": len(new.payload), "token": new.token, "request": new.request,
                "actor_digest": actor_digest(event.tenant, event.memory_id, event.actor_id),
            },
        )  # fmt: skip
        return done.rowcount == 1

    async def root_of(
        self, connection: Connection, tenant: str, thread: uuid.UUID, branch: str
    ) -> str | None:
        """The root event's id, of a branch that there is."""
        rows = await connection.execute(
            "SELECT root_event_id FROM memory_branches"
            " WHERE tenant = %s AND thread = %s AND name = %s",
            (tenant, thread, branch),
        )
        row = await rows.fetchone()
        return None if row is None else row[0]

    async def make_branch(
        self, connection: Connection, tenant: str, thread: uuid.UUID, name: str, root: Event
    ) -> str:
        """Its root event's id: another's, where somebody else made the branch meanwhile."""
        await connection.execute(
            "INSERT INTO memory_branches (tenant, thread, name, root_event_id, parent)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (tenant, thread, name, root.id, root.branch),
        )
        made = await self.root_of(connection, tenant, thread, name)
        assert made is not None, "branches go only with their session, whose lock is held"
        return made

    async def is_erasing(
        self, connection: Connection, tenant: str, memory_id: str, actor_id: str
    ) -> bool:
        """Whether an actor is being erased, so that nothing of theirs is added."""
        values = {
            "tenant": tenant, "memory_id": memory_id,
            "actor_digest": actor_digest(tenant, memory_id, actor_id),
        }  # fmt: skip
        rows = await connection.execute(f"SELECT {sql.IS_ERASING}".encode(), values)
        return await rows.fetchone() == (True,)

    async def let_in_flight_end(
        self, connection: Connection, tenant: str, memory_id: str, actor_id: str
    ) -> None:
        """Until whoever adds an actor's event at this moment has: later ones see what was committed
        before."""
        await connection.execute(
            "SELECT pg_advisory_xact_lock(%s)", (_actor_lock(tenant, memory_id, actor_id),)
        )

    # -- reading

    async def get(
        self, connection: Connection, tenant: str, thread: uuid.UUID, id: str, now: datetime
    ) -> Event | None:
        values = {"tenant": tenant, "thread": thread, "id": id, "now": now}
        rows = await connection.execute(sql.GET.encode(), values)
        row = await rows.fetchone()
        return None if row is None else _event(row)

    async def by_id(
        self, connection: Connection, tenant: str, memory_id: str, ids: list[str], now: datetime
    ) -> list[Event]:
        values = {"tenant": tenant, "memory_id": memory_id, "ids": ids, "now": now}
        rows = await connection.execute(sql.BY_ID.encode(), values)
        return [_event(row) async for row in rows]

    async def messages(
        self,
        connection: Connection,
        tenant: str,
        memory_id: str,
        sources: Sequence[Source],
        now: datetime,
    ) -> list[tuple[Event, Source]]:
        """Those that are there, each in its event without the rest of the payload: what stands
        beside it may be megabytes."""
        rows = await connection.execute(
            sql.MESSAGES.encode(),
            {
                "tenant": tenant, "memory_id": memory_id, "now": now,
                "ids": [source.event_id for source in sources],
                "places": [source.index for source in sources],
            },
        )  # fmt: skip
        found = [(_event(row[:-1]), row[-1]) async for row in rows]
        return [
            (event, Source(event_id=event.id, index=index))
            for event, index in found
            if event.payload[0] is not None
        ]

    async def after(
        self,
        connection: Connection,
        tenant: str,
        thread: uuid.UUID,
        *,
        after: str,
        limit: int,
        now: datetime,
    ) -> list[Event]:
        values = {
            "tenant": tenant, "thread": thread, "after": after, "now": now, "limit": limit,
        }  # fmt: skip
        rows = await connection.execute(sql.AFTER.encode(), values)
        return [_event(row) async for row in rows]

    async def newest(
        self,
        connection: Connection,
        tenant: str,
        thread: uuid.UUID,
        what: EventFilter,
        *,
        before: str,
        limit: int,
        payloads: bool,
        now: datetime,
    ) -> tuple[list[Event], bool]:
        """Newest first, and whether there are more."""
        line = None
        if what.parents and what.branch not in ("", MAIN):
            line = await self._line(connection, tenant, thread, what.branch)
        statement, values = sql.newest(tenant, thread, what, line, payloads=payloads)
        values |= {"now": now, "before": before or sql.AFTER_ALL, "limit": limit + 1}
        rows = await (await connection.execute(statement.encode(), values)).fetchall()
        more = bool(rows) and rows[0][-1] > min(len(rows), limit)
        return [_event(row[:-1]) for row in rows[:limit]], more

    async def _line(
        self, connection: Connection, tenant: str, thread: uuid.UUID, branch: str
    ) -> Mapping[str, str]:
        """Up to which event each branch counts that this one comes from, itself among them."""
        rows = await connection.execute(
            sql.LINE,
            {"tenant": tenant, "thread": thread, "name": branch, "deep": _BRANCHES_DEEP_MAX},
        )
        return {branch: sql.AFTER_ALL, **{parent: root async for parent, root in rows}}

    async def sessions(
        self,
        connection: Connection,
        tenant: str,
        memory_id: str,
        actor_id: str,
        *,
        before: tuple[datetime, str] | None,
        limit: int,
        with_events: bool,
        now: datetime,
    ) -> list[Session]:
        """The youngest first."""
        values: dict[str, Any] = {
            "tenant": tenant, "memory_id": memory_id, "actor_id": actor_id, "limit": limit,
            "now": now,
        }  # fmt: skip
        if before is not None:
            values |= {"at": before[0], "session_id": before[1]}
        statement = sql.sessions(later=before is not None, with_events=with_events)
        rows = await connection.execute(statement.encode(), values)
        return [
            Session(actor_id=actor, session_id=session, created_at=created)
            async for actor, session, created in rows
        ]

    async def actors(
        self, connection: Connection, tenant: str, memory_id: str, *, after: str, limit: int
    ) -> list[str]:
        values = {"tenant": tenant, "memory_id": memory_id, "after": after, "limit": limit}
        return [actor async for (actor,) in await connection.execute(sql.ACTORS, values)]

    # -- taking away

    async def delete(
        self, connection: Connection, tenant: str, thread: uuid.UUID, id: str, now: datetime
    ) -> Event | None:
        values = {"tenant": tenant, "thread": thread, "id": id, "now": now}
        rows = await connection.execute(sql.DELETE.encode(), values)
        row = await rows.fetchone()
        if row is not None:
            await self.mark_empty(connection, [(tenant, thread)], now)
        return None if row is None else _event(row)

    async def threads(
        self, connection: Connection, tenant: str, memory_id: str, actor_id: str
    ) -> list[uuid.UUID]:
        rows = await connection.execute(
            "SELECT thread FROM memory_sessions"
            " WHERE tenant = %s AND memory_id = %s AND actor_id = %s ORDER BY thread",
            (tenant, memory_id, actor_id),
        )
        return [thread async for (thread,) in rows]

    async def take_batch(
        self, connection: Connection, tenant: str, thread: uuid.UUID, *, limit: int
    ) -> list[Event]:
        """Some of a session's events, expired ones too; with the last of them the session goes.
        Nobody adds to it meanwhile."""
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_lock(thread),))
        rows = await connection.execute(
            sql.TAKE_BATCH.encode(),
            {"tenant": tenant, "thread": thread, "limit": limit, "bytes_max": sql.PAGE_BYTES_MAX},
        )
        taken = [_event(row) async for row in rows]
        await connection.execute(sql.DROP_EMPTY, {"tenants": [tenant], "threads": [thread]})
        return taken

    async def expire(self, connection: Connection, now: datetime, *, limit: int) -> int:
        """How many events went. Others may do it at the same time."""
        rows = await connection.execute(sql.EXPIRE, {"now": now, "limit": limit})
        gone = await rows.fetchall()
        await self.mark_empty(connection, sorted(set(gone)), now)
        return len(gone)

    async def mark_empty(
        self, connection: Connection, seen: Sequence[tuple[Any, ...]], now: datetime
    ) -> None:
        """The rows are locked first: of two who take the last events of a session, the second sees
        that it is empty."""
        values = {"tenants": [t for t, _ in seen], "threads": [t for _, t in seen], "now": now}
        await connection.execute(sql.LOCK_ROWS, values)
        await connection.execute(sql.MARK_EMPTY, values)

    async def drop_empty(self, connection: Connection, now: datetime, *, limit: int) -> int:
        """How many sessions were looked at that were empty a day ago: those that still are go."""
        rows = await connection.execute(sql.EMPTY, {"before": now - _EMPTY_FOR, "limit": limit})
        free = []
        for tenant, thread in await rows.fetchall():
            got = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_lock(thread),))
            if await got.fetchone() == (True,):
                free.append((tenant, thread))
        await connection.execute(
            sql.DROP_EMPTY, {"tenants": [t for t, _ in free], "threads": [t for _, t in free]}
        )
        return len(free)

    async def forget(
        self, connection: Connection, tenant: str, memory_id: str, *, limit: int
    ) -> int:
        """Some of a memory's events, and when none is left its sessions. How many events went."""
        values = {"tenant": tenant, "memory_id": memory_id, "limit": limit}
        done = await connection.execute(sql.FORGET_EVENTS, values)
        if done.rowcount == 0:
            await connection.execute(sql.FORGET_SESSIONS, values)
        return done.rowcount


def _event(row: Sequence[Any]) -> Event:
    (tenant, memory_id, actor_id, session_id, id, at, payload, branch, root, metadata, extract,
     variables, created_at) = row  # fmt: skip
    return Event(
        tenant=tenant, memory_id=memory_id, actor_id=actor_id, session_id=session_id, id=id, at=at,
        payload=payload or (), branch=branch, root_event_id=root, metadata=metadata,
        extract=extract, variables=variables, recalled=recalled_in(metadata),
        created_at=created_at,
    )  # fmt: skip


def recalled_in(metadata: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(metadata.get(RECALLED, "").split())


def _lock(thread: uuid.UUID) -> int:
    return int.from_bytes(thread.bytes[:8], signed=True)


def _actor_lock(tenant: str, memory_id: str, actor_id: str) -> int:
    return _lock(digest("\n".join(("actor", tenant, memory_id, actor_id)).encode()))
