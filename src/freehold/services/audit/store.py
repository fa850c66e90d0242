"""SQL of the audit's tables."""

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from freehold.ports.database import Connection, Database
from freehold.services.audit.model import Entry, Filter, Head, Link

CHANNEL = "freehold_audit"
"""Payload: the tenant whose chain has grown."""

# -- the writer's own connection

INSERT = """
INSERT INTO audit_entries (writer, number, tenant, at, entry)
SELECT $1::integer, $2::bigint + t.ordinality - 1, t.e->>'tenant', (t.e->>'at')::timestamptz, t.e
FROM json_array_elements($3::json) WITH ORDINALITY AS t(e, ordinality)
ON CONFLICT DO NOTHING
"""

# A writer lives as long as the session that holds its lock: it is locked before others see it.
# 7,240 is this table's number among advisory locks.
NEW_WRITER = """
WITH new AS (INSERT INTO audit_writers (name) VALUES ($1) RETURNING id)
SELECT id, pg_advisory_lock(7240, id) FROM new
"""

LOCK_WRITER = "SELECT pg_advisory_lock(7240, $1::integer)"

STILL_OURS = "SELECT 1 FROM audit_writers WHERE id = $1::integer AND ended_at IS NULL"

SAME_LINE = """
SELECT 1 FROM audit_entries
WHERE writer = $1::integer AND number = $2::bigint AND entry::text = ($3::json->0)::text
"""

# -- everything else

_LINK = "SELECT of_tenant, to_sequence, to_hash FROM audit_link(%s, %s)"

_OPEN_FROM = "UPDATE audit_writers SET open_from = %s WHERE id = %s AND open_from < %s"

_CHECKPOINT = """
INSERT INTO audit_checkpoints (tenant, sequence, sealed_hash) VALUES (%s, %s, %s)
ON CONFLICT DO NOTHING
"""

_DEAD = """
SELECT id, open_from FROM audit_writers
WHERE ended_at IS NULL AND pg_try_advisory_xact_lock(7240, id) ORDER BY id
"""

_HEAD = "SELECT sequence, hash, anchor_sequence, anchor_hash FROM audit_heads WHERE tenant = %s"

_LINKS = """
SELECT l.sequence, l.writer, l.number, l.hash, e.tenant, e.at, e.entry::text
FROM audit_links l LEFT JOIN audit_entries e ON e.writer = l.writer AND e.number = l.number
WHERE l.tenant = %s AND l.sequence > %s ORDER BY l.sequence LIMIT %s
"""

# What has a place in no chain although its writer's entries are linked so far.
_STRANGERS = """
SELECT e.writer, e.number, e.at FROM audit_entries e
LEFT JOIN audit_writers w ON w.id = e.writer
WHERE e.tenant = %(tenant)s AND e.number <= coalesce(w.linked, e.number) AND NOT EXISTS (
    SELECT 1 FROM audit_links l
    WHERE l.tenant = %(tenant)s AND l.writer = e.writer AND l.number = e.number)
ORDER BY e.at LIMIT %(limit)s
"""

_WAITING = """
SELECT count(*) FROM audit_writers w JOIN audit_entries e ON e.writer = w.id AND e.number > w.linked
WHERE e.tenant = %s
"""

_CHECKPOINTS = """
SELECT sequence, sealed_hash FROM audit_checkpoints
WHERE tenant = %s AND sequence > %s ORDER BY sequence
"""


def genesis(tenant: str) -> bytes:
    """What a chain begins with; audit_genesis() in SQL."""
    return hashlib.sha256(f"freehold audit {tenant}".encode()).digest()


async def link(
    connection: Connection, writer: int, entries_max: int
) -> list[tuple[str, int, bytes]]:
    """The new heads: tenant, sequence, hash. Empty when nothing waits."""
    rows = await (await connection.execute(_LINK, (writer, entries_max))).fetchall()
    return [(row[0], row[1], bytes(row[2])) for row in rows]


async def set_open_from(connection: Connection, writer: int, number: int) -> None:
    await connection.execute(_OPEN_FROM, (number, writer, number))


async def checkpoint(
    connection: Connection, tenant: str, sequence: int, sealed_hash: bytes
) -> None:
    await connection.execute(_CHECKPOINT, (tenant, sequence, sealed_hash))


async def dead_writers(connection: Connection) -> list[tuple[int, int]]:
    """(id, open from) of writers whose process is gone; locked until the transaction ends."""
    return [(r[0], r[1]) for r in await (await connection.execute(_DEAD)).fetchall()]


async def entries_of(
    connection: Connection, writer: int, *, after: int, limit: int
) -> list[tuple[int, str]]:
    rows = await connection.execute(
        "SELECT number, entry::text FROM audit_entries"
        " WHERE writer = %s AND number > %s ORDER BY number LIMIT %s",
        (writer, after, limit),
    )
    return [(row[0], row[1]) for row in await rows.fetchall()]


async def last_number(connection: Connection, writer: int) -> int:
    rows = await connection.execute(
        "SELECT coalesce(max(number), 0) FROM audit_entries WHERE writer = %s", (writer,)
    )
    row = await rows.fetchone()
    assert row is not None
    return int(row[0])


async def insert(connection: Connection, writer: int, first: int, lines: bytes) -> None:
    statement = INSERT.replace("$1", "%s").replace("$2", "%s").replace("$3", "%s")
    await connection.execute(statement.encode(), (writer, first, lines.decode()))


async def end_writer(connection: Connection, writer: int) -> None:
    await connection.execute("UPDATE audit_writers SET ended_at = now() WHERE id = %s", (writer,))


async def head(connection: Connection, tenant: str) -> Head | None:
    row = await (await connection.execute(_HEAD, (tenant,))).fetchone()
    return None if row is None else Head(row[0], bytes(row[1]), row[2], bytes(row[3]))


async def links(connection: Connection, tenant: str, *, after: int, limit: int) -> list[Link]:
    rows = await (await connection.execute(_LINKS, (tenant, after, limit))).fetchall()
    return [Link(r[0], r[1], r[2], bytes(r[3]), r[4], r[5], r[6]) for r in rows]


async def strangers(
    connection: Connection, tenant: str, limit: int
) -> list[tuple[int, int, datetime]]:
    rows = await connection.execute(_STRANGERS, {"tenant": tenant, "limit": limit})
    return [(r[0], r[1], r[2]) for r in await rows.fetchall()]


async def waiting(connection: Connection, tenant: str) -> int:
    row = await (await connection.execute(_WAITING, (tenant,))).fetchone()
    return 0 if row is None else int(row[0])


async def checkpoints(
    connection: Connection, tenant: str, *, after: int
) -> list[tuple[int, bytes]]:
    rows = await connection.execute(_CHECKPOINTS, (tenant, after))
    return [(r[0], bytes(r[1])) for r in await rows.fetchall()]


async def tenants(connection: Connection) -> list[str]:
    rows = await connection.execute("SELECT tenant FROM audit_heads ORDER BY tenant")
    return [row[0] for row in await rows.fetchall()]


async def expire(
    connection: Connection, tenant: str, before: datetime, entries_max: int
) -> int | None:
    """The sequence of the last entry that went, or None."""
    rows = await connection.execute(
        "SELECT audit_expire(%s, %s, %s)", (tenant, before, entries_max)
    )
    row = await rows.fetchone()
    assert row is not None
    return None if row[0] is None else int(row[0])


_Position = tuple[datetime, int, int]


async def page(
    connection: Connection, tenant: str, what: Filter, *, before: _Position | None, limit: int
) -> list[Entry]:
    """Newest first."""
    where, values = ["tenant = %(tenant)s"], {"tenant": tenant, "limit": limit}
    if not what.intents:
        where.append("(entry->>'phase') <> 'intent'")
    if what.outcome not in (None, "allowed"):
        where.append("(entry->>'outcome') <> 'allowed'")  # what its index is of
    for clause, value in _clauses(what):
        if value:
            name = f"v{len(values)}"
            where.append(clause.format(f"%({name})s"))
            values[name] = value
    if before is not None:
        where.append("(at, writer, number) < (%(at)s, %(writer)s, %(number)s)")
        values |= {"at": before[0], "writer": before[1], "number": before[2]}
    # Clauses of this module, never input.
    statement = (
        f"SELECT writer, number, at, entry::text FROM audit_entries WHERE {' AND '.join(where)}"  # noqa: S608
        " ORDER BY at DESC, writer DESC, number DESC LIMIT %(limit)s"
    )
    rows = await (await connection.execute(statement.encode(), values)).fetchall()
    return [Entry(r[0], r[1], r[2], r[3]) for r in rows]


def _clauses(what: Filter) -> list[tuple[str, Any]]:
    return [
        ("at >= {}", what.since),
        ("at < {}", what.until),
        ("(entry->>'principal') = {}", what.principal),
        ("(entry->>'user') = {}", what.user),
        ("(entry->>'operation') = ANY({})", list(what.operations)),
        ("(entry->>'resource') = {}", what.resource),
        ("(entry->>'outcome') = {}", what.outcome),
        ("(entry->>'call_id') = {}", what.call_id),
    ]


async def batches(
    database: Database, tenant: str, *, after: int, to: int, size: int
) -> AsyncIterator[list[Link]]:
    """The chain from `after` to `to`, in pieces; a connection is held only while one is read."""
    while after < to:
        async with database.connection() as connection:
            found = await links(connection, tenant, after=after, limit=min(size, to - after))
        if not found:
            return
        yield found
        after = found[-1].sequence
