"""SQL of memory records, of their namespaces and of what they come from."""

# ruff: noqa: S608 - constants alone; values are parameters

import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime
from typing import Any

import msgspec

from freehold.ports.database import Connection, Database
from freehold.services.memory import filters
from freehold.services.memory.model import Memory, Record, Source
from freehold.services.memory.ports import Where

Position = tuple[str, datetime, str]
"""Where a list goes on: namespace, when it was made, id. Lists go backwards through these."""

Made = tuple[datetime, str]
"""When a record was made, and its id."""

_COLUMNS = """
    r.id, r.strategy_id, r.namespaces, r.text, r.at, r.created_at, r.updated_at, r.metadata,
    r.expires_at, r.valid_from, r.valid_until, r.superseded_by, ARRAY(
        SELECT jsonb_build_array(s.event_id, s.message_index, s.actor_id, s.session_id)
        FROM memory_record_sources s
        WHERE s.tenant = r.tenant AND s.memory_id = r.memory_id AND s.record_id = r.id
        ORDER BY s.event_id, s.message_index)
"""
_INSERT = """
    INSERT INTO memory_records (tenant, memory_id, id, strategy_id, namespaces, text, at,
        created_at, updated_at, metadata, expires_at, valid_from, valid_until, superseded_by,
        request)
    SELECT %s, %s, g.* FROM jsonb_to_recordset(%s::jsonb) AS g(id text, strategy_id text,
        namespaces text[], text text, at timestamptz, created_at timestamptz,
        updated_at timestamptz, metadata jsonb, expires_at timestamptz, valid_from timestamptz,
        valid_until timestamptz, superseded_by text, request uuid)
    ORDER BY g.id
"""
_REPLACED = ", ".join(
    f"{name} = excluded.{name}"
    for name in (
        *("strategy_id", "namespaces", "text", "at", "created_at", "updated_at", "metadata"),
        *("expires_at", "valid_from", "valid_until", "superseded_by"),
    )
)
_OF_MEMORY = "r.tenant = %s AND r.memory_id = %s"
_ALIVE = "(r.expires_at IS NULL OR r.expires_at > %s)"
_LISTED = f"""
    SELECT n.namespace, {_COLUMNS}
    FROM memory_record_namespaces n JOIN memory_records r
      ON r.tenant = n.tenant AND r.memory_id = n.memory_id AND r.id = n.record_id
    WHERE n.tenant = %s AND n.memory_id = %s AND n.namespace >= %s
"""
_ELSEWHERE = """
    EXISTS (SELECT FROM memory_record_namespaces m
            WHERE m.tenant = n.tenant AND m.memory_id = n.memory_id AND m.record_id = n.record_id
              AND m.namespace > n.namespace AND m.namespace < %s)
"""


def normalised(namespace: str) -> str:
    """As namespaces are compared: with a slash at both ends."""
    inner = namespace.strip("/")
    return f"/{inner}/" if inner else "/"


def bounds(where: Where) -> tuple[str, str]:
    """The first namespace that is meant, and the first behind all that are."""
    if where.namespace:
        exact = normalised(where.namespace)
        return exact, exact + "\x01"
    path = normalised(where.path)
    return path, path[:-1] + "0"  # which follows "/"


def before_of(
    after: Position | None, end: str, columns: tuple[str, str, str]
) -> tuple[str, Sequence[Any]]:
    """SQL: behind neither. One upper bound alone, or the index would be read from the end on."""
    if after is None or after[0] >= end:
        return f"{columns[0]} < %s", (end,)
    return f"({', '.join(columns)}) < (%s, %s, %s)", after


class RecordStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def joined(self, connection: Connection | None) -> AbstractAsyncContextManager[Connection]:
        return nullcontext(connection) if connection else self._database.connection()

    async def insert(
        self,
        connection: Connection,
        memory: Memory,
        records: Sequence[Record],
        requests: Mapping[str, uuid.UUID],
    ) -> dict[str, uuid.UUID | None]:
        """What is there already stays, and is returned: by which request it was made."""
        rows = await connection.execute(
            _INSERT + " ON CONFLICT DO NOTHING RETURNING id",
            (memory.tenant, memory.id, _given(records, requests)),
        )
        new = {row[0] for row in await rows.fetchall()}
        await self._place(connection, memory, [r for r in records if r.id in new])
        there = [record.id for record in records if record.id not in new]
        if not there:
            return {}
        rows = await connection.execute(
            f"SELECT r.id, r.request FROM memory_records r WHERE {_OF_MEMORY} AND r.id = ANY(%s)",
            (memory.tenant, memory.id, there),
        )
        return dict(await rows.fetchall())

    async def put(
        self, connection: Connection, memory: Memory, records: Sequence[Record]
    ) -> list[Record]:
        """New, or in place of those with the same ids, which stay as old as they are."""
        ids = [record.id for record in records]
        rows = await connection.execute(
            f"SELECT r.id, r.created_at FROM memory_records r WHERE {_OF_MEMORY}"
            " AND r.id = ANY(%s) ORDER BY r.id FOR UPDATE",
            (memory.tenant, memory.id, ids),
        )
        made: dict[str, datetime] = dict(await rows.fetchall())
        kept = [
            msgspec.structs.replace(record, created_at=made.get(record.id, record.created_at))
            for record in records
        ]
        await connection.execute(
            f"{_INSERT} ON CONFLICT (tenant, memory_id, id) DO UPDATE SET {_REPLACED}",
            (memory.tenant, memory.id, _given(kept, {})),
        )
        for table in ("memory_record_namespaces", "memory_record_sources"):
            await connection.execute(
                f"DELETE FROM {table} WHERE tenant = %s AND memory_id = %s AND record_id = ANY(%s)",
                (memory.tenant, memory.id, ids),
            )
        await self._place(connection, memory, kept)
        return kept

    async def _place(
        self, connection: Connection, memory: Memory, records: Sequence[Record]
    ) -> None:
        namespaces = [
            {"namespace": namespace, "created_at": record.created_at, "record_id": record.id}
            for record in records
            for namespace in {normalised(name) for name in record.namespaces}
        ]
        await connection.execute(
            "INSERT INTO memory_record_namespaces (tenant, memory_id, namespace, created_at,"
            " record_id) SELECT %s, %s, g.* FROM jsonb_to_recordset(%s::jsonb)"
            " AS g(namespace text, created_at timestamptz, record_id text)",
            (memory.tenant, memory.id, _json(namespaces)),
        )
        sources = [
            {
                "record_id": record.id, "event_id": source.event_id, "message_index": source.index,
                "actor_id": source.actor_id, "session_id": source.session_id,
            }
            for record in records
            for source in record.sources
        ]  # fmt: skip
        if sources:
            await connection.execute(
                "INSERT INTO memory_record_sources (tenant, memory_id, record_id, event_id,"
                " message_index, actor_id, session_id)"
                " SELECT %s, %s, g.* FROM jsonb_to_recordset(%s::jsonb) AS g(record_id text,"
                " event_id text, message_index integer, actor_id text, session_id text)"
                " ON CONFLICT DO NOTHING",
                (memory.tenant, memory.id, _json(sources)),
            )

    async def read(
        self,
        memory: Memory,
        ids: Sequence[str],
        *,
        now: datetime,
        connection: Connection | None = None,
        lock: bool = False,
    ) -> dict[str, Record]:
        """Those that are there and did not expire, superseded ones too."""
        async with self.joined(connection) as own:
            rows = await own.execute(
                f"SELECT {_COLUMNS} FROM memory_records r"
                f" WHERE {_OF_MEMORY} AND r.id = ANY(%s) AND {_ALIVE}"
                + (" ORDER BY r.id FOR UPDATE OF r" if lock else ""),
                (memory.tenant, memory.id, list(ids), now),
            )
            return {row[0]: _record(memory, row) for row in await rows.fetchall()}

    async def page(
        self, memory: Memory, where: Where, *, after: Position | None, limit: int, now: datetime
    ) -> list[tuple[Position, Record]]:
        first, end = bounds(where)
        before, upper = before_of(after, end, ("n.namespace", "n.created_at", "n.record_id"))
        sql = f"{_LISTED} AND {before}"
        parameters: list[Any] = [memory.tenant, memory.id, first, *upper]
        if not where.namespace:
            sql += f" AND NOT {_ELSEWHERE}"
            parameters.append(end)
        condition, more = _chosen(where, now)
        sql += f" AND {condition} ORDER BY n.namespace DESC, n.created_at DESC, n.record_id DESC"
        async with self._database.connection() as connection:
            rows = await connection.execute(sql + " LIMIT %s", (*parameters, *more, limit))
            found = [(row[0], _record(memory, row[1:])) for row in await rows.fetchall()]
        return [((name, record.created_at, record.id), record) for name, record in found]

    async def newest(
        self, memory: Memory, where: Where, *, after: Made | None, limit: int
    ) -> list[Made]:
        """Each once, whatever became of it."""
        first, end = bounds(where)
        before = "TRUE" if after is None else "(created_at, record_id) < (%s, %s)"
        async with self._database.connection() as connection:
            rows = await connection.execute(
                "SELECT DISTINCT created_at, record_id FROM memory_record_namespaces"
                " WHERE tenant = %s AND memory_id = %s AND namespace >= %s AND namespace < %s"
                f" AND {before} ORDER BY created_at DESC, record_id DESC LIMIT %s",
                (memory.tenant, memory.id, first, end, *(after or ()), limit),
            )
            return [(at, id) for at, id in await rows.fetchall()]

    async def holds(self, memory: Memory, where: Where, now: datetime) -> bool:
        """Whether anything at all is there, whatever `where` says beside the namespace."""
        return bool(
            await self.page(
                memory, Where(namespace=where.namespace, path=where.path, current=False),
                after=None, limit=1, now=now,
            )
        )  # fmt: skip

    async def instructions(
        self, memory: Memory, segment: str, *, limit: int, now: datetime
    ) -> list[Record]:
        """Current ones with the metadata kind=instruction whose namespace has `segment` ("/anna/")
        in it, newest first."""
        async with self._database.connection() as connection:
            rows = await connection.execute(
                f"SELECT {_COLUMNS} FROM memory_records r WHERE {_OF_MEMORY}"
                """ AND r.metadata @> '{"kind": {"s": "instruction"}}'"""
                f" AND {_ALIVE} AND r.valid_until IS NULL AND EXISTS (SELECT"
                " FROM unnest(r.namespaces) AS written"
                " WHERE position(%s IN '/' || trim(BOTH '/' FROM written) || '/') > 0)"
                " ORDER BY r.at DESC LIMIT %s",
                (memory.tenant, memory.id, now, segment, limit),
            )
            return [_record(memory, row) for row in await rows.fetchall()]

    async def from_events(
        self, memory: Memory, event_ids: Sequence[str], connection: Connection | None
    ) -> list[Record]:
        async with self.joined(connection) as own:
            rows = await own.execute(
                f"SELECT {_COLUMNS} FROM memory_records r WHERE {_OF_MEMORY} AND r.id = ANY(ARRAY("
                "SELECT s.record_id FROM memory_record_sources s WHERE s.tenant = %s"
                " AND s.memory_id = %s AND s.event_id = ANY(%s))) ORDER BY r.created_at, r.id",
                (memory.tenant, memory.id, memory.tenant, memory.id, list(event_ids)),
            )
            return [_record(memory, row) for row in await rows.fetchall()]

    async def superseded_by(
        self, connection: Connection, memory: Memory, ids: Sequence[str]
    ) -> list[Record]:
        rows = await connection.execute(
            f"SELECT {_COLUMNS} FROM memory_records r WHERE {_OF_MEMORY}"
            " AND r.superseded_by <> '' AND r.superseded_by = ANY(%s) ORDER BY r.id",
            (memory.tenant, memory.id, list(ids)),
        )
        return [_record(memory, row) for row in await rows.fetchall()]

    async def supersede(
        self, connection: Connection, memory: Memory, id: str, by: str, at: datetime
    ) -> bool:
        rows = await connection.execute(
            f"UPDATE memory_records r SET valid_until = %s, superseded_by = %s"
            f" WHERE {_OF_MEMORY} AND r.id = %s",
            (at, by, memory.tenant, memory.id, id),
        )
        return rows.rowcount == 1

    async def delete(
        self, connection: Connection, tenant: str, memory_id: str, ids: Sequence[str]
    ) -> None:
        await connection.execute(
            # An array is made once; of a join the planner may lock them all again for each row.
            f"DELETE FROM memory_records r WHERE {_OF_MEMORY} AND r.id = ANY(ARRAY(SELECT l.id"
            " FROM memory_records l WHERE l.tenant = %s AND l.memory_id = %s AND l.id = ANY(%s)"
            " ORDER BY l.id FOR UPDATE))",
            (tenant, memory_id, tenant, memory_id, list(ids)),
        )

    async def some(self, connection: Connection, tenant: str, memory_id: str, n: int) -> list[str]:
        rows = await connection.execute(
            f"SELECT r.id FROM memory_records r WHERE {_OF_MEMORY} ORDER BY r.id LIMIT %s",
            (tenant, memory_id, n),
        )
        return [row[0] for row in await rows.fetchall()]

    async def expired(
        self, connection: Connection, *, now: datetime, limit: int
    ) -> list[tuple[str, str, str]]:
        """Tenant, memory and id of some, locked; what another worker has locked is its."""
        rows = await connection.execute(
            "SELECT tenant, memory_id, id FROM memory_records WHERE expires_at <= %s"
            " ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED",
            (now, limit),
        )
        return await rows.fetchall()


def _chosen(where: Where, now: datetime) -> tuple[str, list[Any]]:
    condition, more = filters.condition(filters.parsed(where.filters), "r.metadata")
    clauses, parameters = [_ALIVE, condition], [now, *more]
    if where.current:
        clauses.append("r.valid_until IS NULL")
    if where.strategy_id:
        clauses.append("r.strategy_id = %s")
        parameters.append(where.strategy_id)
    return " AND ".join(clauses), parameters


def _given(records: Sequence[Record], requests: Mapping[str, uuid.UUID]) -> str:
    by_id = {record.id: record for record in records}
    return _json(
        [
            {
                "id": record.id, "strategy_id": record.strategy_id,
                "namespaces": record.namespaces, "text": record.text.replace("\0", " "),
                "at": record.at,
                "created_at": record.created_at,
                "updated_at": record.updated_at or record.created_at,
                "metadata": msgspec.Raw(filters.dumped(indexed_metadata(record)).encode()),
                "expires_at": record.expires_at, "valid_from": record.valid_from,
                "valid_until": record.valid_until, "superseded_by": record.superseded_by,
                "request": requests.get(record.id),
            }
            for record in by_id.values()
        ]
    )  # fmt: skip


def indexed_metadata(record: Record) -> dict[str, Any]:
    """With what filters may ask beside a client's own."""
    return {
        **record.metadata,
        filters.CREATED_AT: record.created_at,
        filters.UPDATED_AT: record.updated_at or record.created_at,
    }


def _record(memory: Memory, row: Sequence[Any]) -> Record:
    return Record(
        tenant=memory.tenant, memory_id=memory.id, id=row[0], strategy_id=row[1],
        namespaces=tuple(row[2]), text=row[3], at=row[4], created_at=row[5], updated_at=row[6],
        metadata=filters.loaded(row[7]), expires_at=row[8], valid_from=row[9], valid_until=row[10],
        superseded_by=row[11],
        sources=tuple(
            Source(event_id=event, index=index, actor_id=actor, session_id=session)
            for event, index, actor, session in row[12]
        ),
    )  # fmt: skip


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
