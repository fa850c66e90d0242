"""SQL of erasures: which there are, what they took away so far, and what is left of a person."""

# ruff: noqa: S608 - constants alone; values are parameters

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg.types.json import Jsonb

from freehold.ports.database import Connection
from freehold.services.memory.retrievals_store import OF_PERSON, PLACED, SPOKEN

KINDS = (
    "events", "sessions", "records", "recordsRederived", "turns", "queued", "failedJobs",
    "retrievals", "payloads", "jobs", "indexed",
)  # fmt: skip
"""What is counted. `recordsRederived` are those that others said too: they go, and are learned
again from those others. `queued` are messages' events that were to be learned from, once for each
strategy; `payloads` what self-managed strategies were given in a bucket; `jobs` what the platform
remembers of extractions that ran; `indexed` the index's texts and names."""

_COLUMNS = """id, state, dry_run, actor_digest, by, started_at, ended_at, error, erased, remaining,
    digests, digest"""
_MARK = {
    "session": "sessions", "event": "events", "record": "records", "turn": "turns",
    "rederived": "recordsRederived", "queued": "queued", "failedJob": "failedJobs",
    "retrieval": "retrievals", "payload": "payloads", "job": "jobs", "index": "indexed",
}  # fmt: skip
EXPORTED = ("event", "record", "session", "turn")
"""The kinds that a digest is of: what an export has too."""

_EVENTS_OF = """
FROM memory_events e WHERE e.tenant = %(tenant)s AND e.thread = ANY(ARRAY(
    SELECT thread FROM memory_sessions WHERE tenant = %(tenant)s AND memory_id = %(memory)s
        AND actor_id = %(actor)s))
"""
_THEIRS = "tenant = %(tenant)s AND memory_id = %(memory)s AND actor_id = %(actor)s"
_FROM_THEM = f"SELECT record_id FROM memory_record_sources WHERE {_THEIRS}"
_OTHERS_TOO = f"""
SELECT record_id FROM memory_record_sources o WHERE o.tenant = %(tenant)s
    AND o.memory_id = %(memory)s AND o.actor_id <> %(actor)s AND o.record_id IN ({_FROM_THEM})
"""
_INDEXED = f"""
SELECT count(*) FROM memory_index_units u WHERE u.tenant = %(tenant)s AND u.memory_id = %(memory)s
    AND (u.id IN ({_FROM_THEM}) OR u.id IN ({PLACED}) OR u.id IN ({SPOKEN})
        OR u.strategy_id = 'turns' AND u.speaker = %(actor)s
        OR u.id IN (SELECT item FROM memory_erasure_items i WHERE i.tenant = %(tenant)s
            AND i.memory_id = %(memory)s AND i.erasure_id = %(erasure)s
            AND i.kind IN ('record', 'rederived', 'turn')))
"""
NAMES = """
FROM memory_index_namespaces n WHERE n.tenant = %(tenant)s AND n.memory_id = %(memory)s
    AND (%(actor)s = ANY(n.speakers) OR position(%(segment)s IN n.namespace) > 0
        AND NOT EXISTS (SELECT FROM memory_index_units u WHERE u.ns = n.no))
"""
_COUNTS = f"""
SELECT
    (SELECT count(*) {_EVENTS_OF}),
    (SELECT count(*) FROM memory_sessions WHERE {_THEIRS}),
    (SELECT count(*) FROM (SELECT DISTINCT record_id FROM (
        SELECT record_id FROM memory_record_sources WHERE {_THEIRS} UNION {PLACED}) AS a
        EXCEPT {_OTHERS_TOO}) AS alone),
    (SELECT count(DISTINCT record_id) FROM ({_OTHERS_TOO}) AS shared),
    (SELECT count(*) FROM ({SPOKEN}) AS spoken),
    (SELECT count(*) FROM memory_extractions WHERE {_THEIRS}),
    (SELECT count(*) FROM memory_extraction_failures WHERE {_THEIRS}),
    (SELECT count(*) FROM memory_retrievals r WHERE r.tenant = %(tenant)s
        AND r.memory_id = %(memory)s AND {OF_PERSON}),
    (SELECT count(*) FROM memory_payloads WHERE {_THEIRS}),
    ({_INDEXED}) + (SELECT count(*) {NAMES} AND %(names)s)
"""


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """As it is kept. `by` started it."""

    id: str
    state: str
    dry_run: bool
    actor_digest: str
    by: str
    started_at: datetime
    ended_at: datetime | None
    error: str
    erased: Mapping[str, int]
    remaining: Mapping[str, int]
    digests: Mapping[str, str]
    digest: str


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """Of one that runs, what only its run needs."""

    id: str
    sealed_actor: bytes
    by: str
    request_id: str
    failures: int


async def begin(
    connection: Connection, tenant: str, memory_id: str, erasure: Erasure, *, sealed_actor: bytes,
    request_id: str,
) -> bool:  # fmt: skip
    """False where one of the same person runs."""
    done = await connection.execute(
        "INSERT INTO memory_erasures (tenant, memory_id, id, state, dry_run, actor_digest,"
        " sealed_actor, by, request_id, started_at)"
        " VALUES (%s, %s, %s, 'RUNNING', false, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (
            tenant, memory_id, erasure.id, erasure.actor_digest, sealed_actor, erasure.by,
            request_id, erasure.started_at,
        ),
    )  # fmt: skip
    return done.rowcount == 1


async def put_dry(
    connection: Connection, tenant: str, memory_id: str, erasure: Erasure, request_id: str
) -> None:
    await connection.execute(
        "INSERT INTO memory_erasures (tenant, memory_id, id, state, dry_run, actor_digest, by,"
        " request_id, started_at, ended_at, erased, remaining)"
        " VALUES (%s, %s, %s, 'DONE', true, %s, %s, %s, %s, %s, %s, %s)",
        (
            tenant, memory_id, erasure.id, erasure.actor_digest, erasure.by, request_id,
            erasure.started_at, erasure.ended_at, Jsonb(dict(erasure.erased)),
            Jsonb(dict(erasure.remaining)),
        ),
    )  # fmt: skip


async def get(connection: Connection, tenant: str, memory_id: str, id: str) -> Erasure | None:
    rows = await connection.execute(
        f"SELECT {_COLUMNS} FROM memory_erasures WHERE tenant = %s AND memory_id = %s AND id = %s",
        (tenant, memory_id, id),
    )
    row = await rows.fetchone()
    return None if row is None else _erasure(row)


async def running(
    connection: Connection, tenant: str, memory_id: str, digest: str
) -> Erasure | None:
    rows = await connection.execute(
        f"SELECT {_COLUMNS} FROM memory_erasures WHERE tenant = %s AND memory_id = %s"
        " AND actor_digest = %s AND state = 'RUNNING'",
        (tenant, memory_id, digest),
    )
    row = await rows.fetchone()
    return None if row is None else _erasure(row)


async def newest(
    connection: Connection, tenant: str, memory_id: str, *, digest: str,
    before: tuple[datetime, str] | None, limit: int,
) -> list[Erasure]:  # fmt: skip
    """`digest`: of one person, or "" for all."""
    later = "" if before is None else " AND (started_at, id) < (%s, %s)"
    rows = await connection.execute(
        f"SELECT {_COLUMNS} FROM memory_erasures WHERE tenant = %s AND memory_id = %s"
        f" AND %s IN ('', actor_digest){later} ORDER BY started_at DESC, id DESC LIMIT %s".encode(),
        (tenant, memory_id, digest, *(before or ()), limit),
    )
    return [_erasure(row) for row in await rows.fetchall()]


async def all_running(connection: Connection) -> list[tuple[str, str, str]]:
    """Tenant, memory and id."""
    rows = await connection.execute(
        "SELECT tenant, memory_id, id FROM memory_erasures WHERE state = 'RUNNING'"
    )
    return [(tenant, memory_id, id) for tenant, memory_id, id in await rows.fetchall()]


async def begun(connection: Connection, tenant: str, memory_id: str, id: str) -> Begun | None:
    """None for one that has ended."""
    rows = await connection.execute(
        "SELECT id, sealed_actor, by, request_id, failures FROM memory_erasures"
        " WHERE tenant = %s AND memory_id = %s AND id = %s AND state = 'RUNNING'",
        (tenant, memory_id, id),
    )
    row = await rows.fetchone()
    if row is None:
        return None
    return Begun(id=row[0], sealed_actor=row[1], by=row[2], request_id=row[3], failures=row[4])


async def failed_once(
    connection: Connection, tenant: str, memory_id: str, id: str, error: str
) -> None:
    await connection.execute(
        "UPDATE memory_erasures SET failures = failures + 1, error = %s"
        " WHERE tenant = %s AND memory_id = %s AND id = %s AND state = 'RUNNING'",
        (error, tenant, memory_id, id),
    )


async def note(
    connection: Connection, key: tuple[str, str, str], kind: str, items: Sequence[str]
) -> None:
    """In the transaction that takes them away. `key`: tenant, memory and erasure."""
    if items:
        await connection.execute(
            "INSERT INTO memory_erasure_items (tenant, memory_id, erasure_id, kind, item)"
            " SELECT %s, %s, %s, %s, unnest(%s::text[]) ON CONFLICT DO NOTHING",
            (*key, kind, list(items)),
        )


async def counts(
    connection: Connection, where: Mapping[str, Any], erasure_id: str, *, names: bool
) -> dict[str, int]:
    """What there is of a person now, but for `jobs`; `names`: also in names of the index. `where`:
    see `retrievals_store.of_person`."""
    rows = await connection.execute(
        _COUNTS.encode(), {**where, "erasure": erasure_id, "names": names}
    )
    row = await rows.fetchone()
    assert row is not None, "counts have a row"
    kinds = [kind for kind in KINDS if kind != "jobs"]
    return dict(zip(kinds, row, strict=True)) | {"jobs": 0}


async def taken(
    connection: Connection, tenant: str, memory_id: str, id: str
) -> tuple[dict[str, int], dict[str, str], str]:
    """Of what was noted: how many of each kind, the digest of each kind that exports have, and of
    these together."""
    found: dict[str, int] = dict.fromkeys(KINDS, 0)
    digests = {kind: hashlib.sha256() for kind in EXPORTED}
    together = hashlib.sha256()
    async with connection.cursor("erased") as cursor:
        await cursor.execute(
            "SELECT kind, item FROM (SELECT CASE kind WHEN 'rederived' THEN 'record' ELSE kind END"
            "  AS kind, item, kind AS noted FROM memory_erasure_items"
            "  WHERE tenant = %s AND memory_id = %s AND erasure_id = %s) AS i"
            " ORDER BY kind, item",
            (tenant, memory_id, id),
        )
        async for kind, item in cursor:
            if kind in digests:
                line = f"{kind} {item}\n".encode()
                digests[kind].update(line)
                together.update(line)
    rows = await connection.execute(
        "SELECT kind, count(*) FROM memory_erasure_items"
        " WHERE tenant = %s AND memory_id = %s AND erasure_id = %s GROUP BY kind",
        (tenant, memory_id, id),
    )
    found |= {_MARK[kind]: count for kind, count in await rows.fetchall()}
    return found, {kind: each.hexdigest() for kind, each in digests.items()}, together.hexdigest()


async def end(
    connection: Connection, tenant: str, memory_id: str, id: str, *, error: str, at: datetime,
    erased: Mapping[str, int], remaining: Mapping[str, int], digests: Mapping[str, str],
    digest: str,
) -> None:  # fmt: skip
    """The proof stays; who it was and what it took away do not."""
    await connection.execute(
        "UPDATE memory_erasures SET state = %s, error = %s, ended_at = %s, erased = %s,"
        " remaining = %s, digests = %s, digest = %s, sealed_actor = NULL"
        " WHERE tenant = %s AND memory_id = %s AND id = %s",
        (
            "FAILED" if error else "DONE", error, at, Jsonb(dict(erased)), Jsonb(dict(remaining)),
            Jsonb(dict(digests)), digest, tenant, memory_id, id,
        ),
    )  # fmt: skip
    await connection.execute(
        "DELETE FROM memory_erasure_items WHERE tenant = %s AND memory_id = %s AND erasure_id = %s",
        (tenant, memory_id, id),
    )


def _erasure(row: Sequence[Any]) -> Erasure:
    names = [name.strip() for name in _COLUMNS.split(",")]
    return Erasure(**dict(zip(names, row, strict=True)))
