"""SQL of the log of retrievals, and its lines as they are shown.

A line is about a person where its namespace names them as a part of it, or where it gave away what
comes from them.
"""

# ruff: noqa: S608 - constants alone; values are parameters

import base64
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from freehold.ports.database import Connection
from freehold.ports.secrets import SealBroken, Sealer
from freehold.services.memory.model import Memory
from freehold.services.memory.native_views import RetrievalView, UsedView
from freehold.services.memory.turns import source_of

EXPIRE_LINES = 500
LOST_KEY = "(sealed by a key that is gone)"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """`people`: digests of whom its namespace may name (`actor_digest`)."""

    tenant: str
    memory_id: str
    id: uuid.UUID
    at: datetime
    principal: str
    session_id: str
    operation: str
    namespace: str
    given: int
    sealed_query: bytes
    people: Sequence[str]
    used: Sequence[tuple[str, float | None]]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """All that are set must hold. `since` and `until` are ids: see `retrievals.first_id`."""

    record: str = ""
    actor: str = ""
    since: uuid.UUID | None = None
    until: uuid.UUID | None = None


# A line whose records went, or whose person was erased while it waited, is not written at all. What
# is given stays as it is until the line is: else it could not be taken away with it. But nobody is
# waited for: where somebody is at one of the records, nothing is written, and the answer says so.
_INSERT = """
WITH line AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(lines)s::jsonb) AS l (
        tenant text, memory_id text, id uuid, at timestamptz, principal text, session_id text,
        operation text, namespace text, given integer, sealed_query text, people text[])
    WHERE NOT EXISTS (
        SELECT FROM memory_erasures e
        WHERE e.tenant = l.tenant AND e.memory_id = l.memory_id AND NOT e.dry_run
            AND e.actor_digest = ANY(l.people) AND (e.state = 'RUNNING' OR e.ended_at > l.at))
), used AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(used)s::jsonb) AS u (
        tenant text, memory_id text, retrieval_id uuid, place integer, id text, is_turn boolean,
        score double precision)
), records AS MATERIALIZED (
    SELECT r.tenant, r.memory_id, r.id FROM memory_records r
    WHERE (r.tenant, r.memory_id, r.id) IN (
        SELECT tenant, memory_id, id FROM used WHERE NOT is_turn)
    FOR KEY SHARE SKIP LOCKED
), turns AS MATERIALIZED (
    SELECT t.tenant, t.memory_id, t.id FROM memory_turns t
    WHERE (t.tenant, t.memory_id, t.id) IN (SELECT tenant, memory_id, id FROM used WHERE is_turn)
    FOR KEY SHARE SKIP LOCKED
), busy AS MATERIALIZED (
    SELECT r.id FROM memory_records r WHERE (r.tenant, r.memory_id, r.id) IN (
        SELECT tenant, memory_id, id FROM used WHERE NOT is_turn EXCEPT SELECT * FROM records)
    UNION ALL
    SELECT t.id FROM memory_turns t WHERE (t.tenant, t.memory_id, t.id) IN (
        SELECT tenant, memory_id, id FROM used WHERE is_turn EXCEPT SELECT * FROM turns)
), there AS MATERIALIZED (
    SELECT u.* FROM used u
    WHERE NOT EXISTS (SELECT FROM busy)
        AND CASE WHEN is_turn THEN (tenant, memory_id, id) IN (SELECT * FROM turns)
            ELSE (tenant, memory_id, id) IN (SELECT * FROM records) END
), kept AS (
    INSERT INTO memory_retrievals (tenant, memory_id, id, at, principal, session_id, operation,
        namespace, given, sealed_query)
    SELECT l.tenant, l.memory_id, l.id, l.at, l.principal, l.session_id, l.operation, l.namespace,
        l.given, decode(l.sealed_query, 'base64')
    FROM line l
    WHERE NOT EXISTS (SELECT FROM busy)
        AND (l.given = 0 OR EXISTS (SELECT FROM there WHERE retrieval_id = l.id))
    ON CONFLICT DO NOTHING RETURNING id
), entries AS (
    INSERT INTO memory_retrieval_records
        (tenant, memory_id, retrieval_id, place, record_id, turn_id, score)
    SELECT t.tenant, t.memory_id, t.retrieval_id, t.place,
        CASE WHEN is_turn THEN NULL ELSE t.id END, CASE WHEN is_turn THEN t.id END, t.score
    FROM there t JOIN kept ON kept.id = t.retrieval_id
    ON CONFLICT DO NOTHING
)
SELECT NOT EXISTS (SELECT FROM busy)
"""

ORPHANED = """
given > 0 AND NOT EXISTS (
    SELECT FROM memory_retrieval_records u
    WHERE u.tenant = r.tenant AND u.memory_id = r.memory_id AND u.retrieval_id = r.id)
"""
_EXPIRE = """
DELETE FROM memory_retrievals WHERE ctid = ANY(ARRAY(
    SELECT r.ctid FROM memory_retrievals r WHERE {what} LIMIT {limit} FOR UPDATE SKIP LOCKED))
"""
# Of a person: `segment` is their id between slashes.
PLACED = """
    SELECT n.record_id FROM memory_record_namespaces n
    WHERE n.tenant = %(tenant)s AND n.memory_id = %(memory)s
        AND position(%(segment)s IN n.namespace) > 0
        AND NOT EXISTS (SELECT FROM memory_record_sources s WHERE s.tenant = n.tenant
                        AND s.memory_id = n.memory_id AND s.record_id = n.record_id)
"""
SPOKEN = """
    SELECT t.id FROM memory_turns t
    WHERE t.tenant = %(tenant)s AND t.memory_id = %(memory)s
        AND t.metadata @> %(spoken)s::jsonb AND t.namespace >= %(turns)s AND t.namespace < %(end)s
"""
_ABOUT = f"""
(position(%(segment)s IN r.namespace) > 0 OR r.id IN (
    SELECT u.retrieval_id FROM memory_retrieval_records u
    WHERE u.tenant = %(tenant)s AND u.memory_id = %(memory)s AND u.record_id IN (
        {PLACED} UNION SELECT s.record_id FROM memory_record_sources s
        WHERE s.tenant = %(tenant)s AND s.memory_id = %(memory)s AND s.actor_id = %(actor)s)
    UNION ALL
    SELECT u.retrieval_id FROM memory_retrieval_records u
    WHERE u.tenant = %(tenant)s AND u.memory_id = %(memory)s AND u.turn_id IN ({SPOKEN})))
"""
OF_PERSON = f"({_ABOUT} OR {ORPHANED})"
"""Of `memory_retrievals r`: also what nobody can tell any more whom it was about."""


def context(tenant: str, id: uuid.UUID) -> str:
    return f"{tenant}|memory-retrieval|{id}"


def of_person(tenant: str, memory_id: str, actor_id: str) -> dict[str, Any]:
    """The parameters of these statements."""
    turns = f"/turns/actors/{actor_id.strip('/')}/sessions/"
    return {
        "tenant": tenant, "memory": memory_id, "actor": actor_id,
        "segment": f"/{actor_id.strip('/')}/", "turns": turns, "end": turns[:-1] + "0",
        "spoken": _json({"freehold:actorId": {"s": actor_id}}),
    }  # fmt: skip


async def insert(connection: Connection, lines: Sequence[Line]) -> bool:
    """False where somebody is at one of their records, and nothing was written. What is there
    already stays: a line may be sent again."""
    given = [
        {
            name: getattr(line, name) for name in Line.__struct_fields__ if name != "used"
        } | {"sealed_query": base64.b64encode(line.sealed_query).decode()}
        for line in lines
    ]  # fmt: skip
    used = [
        {
            "tenant": line.tenant, "memory_id": line.memory_id, "retrieval_id": line.id,
            "place": place, "id": id, "is_turn": source_of(id) is not None, "score": score,
        }
        for line in lines
        for place, (id, score) in enumerate(line.used)
    ]  # fmt: skip
    rows = await connection.execute(_INSERT, {"lines": _json(given), "used": _json(used)})
    return await rows.fetchone() == (True,)


async def newest(
    connection: Connection,
    memory: Memory,
    wanted: Wanted,
    *,
    before: uuid.UUID | None,
    limit: int,
    sealer: Sealer,
) -> list[RetrievalView]:
    """Newest first, without those whose records are all gone."""
    where = ["r.tenant = %(tenant)s AND r.memory_id = %(memory)s", f"NOT ({ORPHANED})"]
    values = of_person(memory.tenant, memory.id, wanted.actor) | {"limit": limit}
    if wanted.actor:
        where.append(_ABOUT)
    if wanted.record:
        column = "turn_id" if source_of(wanted.record) else "record_id"
        where.append(
            "r.id IN (SELECT retrieval_id FROM memory_retrieval_records u"
            " WHERE u.tenant = %(tenant)s AND u.memory_id = %(memory)s"
            f" AND u.{column} = %(record)s)"
        )
        values["record"] = wanted.record
    bounds = {"since": (">=", wanted.since), "until": ("<", wanted.until), "before": ("<", before)}
    for name, (compare, id) in bounds.items():
        if id is not None:
            where.append(f"r.id {compare} %({name})s")
            values[name] = id
    rows = await connection.execute(
        "SELECT r.id, r.at, r.principal, r.session_id, r.operation, r.namespace, r.sealed_query,"
        " ARRAY(SELECT jsonb_build_array(coalesce(u.record_id, u.turn_id), u.score)"
        "  FROM memory_retrieval_records u WHERE u.tenant = r.tenant AND u.memory_id = r.memory_id"
        "  AND u.retrieval_id = r.id ORDER BY u.place)"
        f" FROM memory_retrievals r WHERE {' AND '.join(where)}"
        " ORDER BY r.id DESC LIMIT %(limit)s".encode(),
        values,
    )
    return [_view(memory.tenant, row, sealer) for row in await rows.fetchall()]


async def take(
    connection: Connection, tenant: str, memory_id: str, *, record_ids: Sequence[str] = (),
    turn_ids: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Those that gave one of these away: gone, by their ids."""
    rows = await connection.execute(
        "DELETE FROM memory_retrievals r WHERE tenant = %(tenant)s AND memory_id = %(memory)s"
        " AND id IN (SELECT retrieval_id FROM memory_retrieval_records u"
        "  WHERE u.tenant = %(tenant)s AND u.memory_id = %(memory)s"
        "   AND u.record_id = ANY(%(records)s)"
        "  UNION SELECT retrieval_id FROM memory_retrieval_records u"
        "  WHERE u.tenant = %(tenant)s AND u.memory_id = %(memory)s AND u.turn_id = ANY(%(turns)s))"
        " RETURNING id",
        {
            "tenant": tenant, "memory": memory_id, "records": list(record_ids),
            "turns": list(turn_ids),
        },
    )  # fmt: skip
    return [str(id) for (id,) in await rows.fetchall()]


async def clear(connection: Connection, tenant: str, memory_id: str) -> bool:
    """Some of a memory that is deleted; whether there may be more."""
    done = await connection.execute(
        "DELETE FROM memory_retrievals WHERE tenant = %(tenant)s AND memory_id = %(memory)s"
        " AND id = ANY(ARRAY(SELECT id FROM memory_retrievals"
        "  WHERE tenant = %(tenant)s AND memory_id = %(memory)s ORDER BY id LIMIT %(limit)s))",
        {"tenant": tenant, "memory": memory_id, "limit": EXPIRE_LINES},
    )
    return done.rowcount == EXPIRE_LINES


async def expire(connection: Connection, before: datetime | None) -> int:
    """Some of what is older, else of what has lost all its records; how many."""
    if before is not None:
        done = await connection.execute(
            _EXPIRE.format(what="r.at < %s", limit=EXPIRE_LINES).encode(), (before,)
        )
        if done.rowcount:
            return done.rowcount
    done = await connection.execute(_EXPIRE.format(what=ORPHANED, limit=EXPIRE_LINES).encode())
    return done.rowcount


def _view(tenant: str, row: Sequence[Any], sealer: Sealer) -> RetrievalView:
    id, at, by, session_id, operation, namespace, sealed, used = row
    try:
        query = sealer.open(sealed, context=context(tenant, id)).decode()
    except SealBroken:
        query = LOST_KEY
    return RetrievalView(
        retrieval_id=str(id), at=at, by=by, session_id=session_id or None, operation=operation,
        namespace=namespace, query=query,
        records=[
            UsedView(record_id=record, score=None if score is None else float(score))
            for record, score in used
        ],
    )  # fmt: skip


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
