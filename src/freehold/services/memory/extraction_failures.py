"""SQL of extractions that were given up: what they were about, and why."""

# ruff: noqa: S608 - constants alone; values are parameters

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
from psycopg.types.json import Jsonb

from freehold.ports.database import Connection
from freehold.services.memory.extraction_places import Place, Said, values

REASON_CHARACTERS_MAX = 1000
_COLUMNS = "id, strategy_id, actor_id, session_id, reason, messages"


class FailedJob(msgspec.Struct, frozen=True):
    id: str
    strategy_id: str
    actor_id: str
    session_id: str
    reason: str
    messages: list[tuple[str, list[int]]]


async def add(
    connection: Connection, place: Place, id: str, reason: str, taken: Mapping[str, Iterable[int]]
) -> None:
    """Of those that were started again, old ones go."""
    await connection.execute(
        "DELETE FROM memory_extraction_failures WHERE tenant = %s AND memory_id = %s"
        " AND restarted_at < now() - interval '7 days'",
        (place.tenant, place.memory_id),
    )
    said = [[event_id, sorted(indexes)] for event_id, indexes in taken.items()]
    await connection.execute(
        "INSERT INTO memory_extraction_failures (tenant, memory_id, strategy_id, actor_id,"
        " session_id, id, reason, messages) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (*values(place), id, reason[:REASON_CHARACTERS_MAX].replace("\x00", ""), Jsonb(said)),
    )


async def page(
    connection: Connection,
    tenant: str,
    memory_id: str,
    wanted: Mapping[str, str],
    *,
    after: str,
    limit: int,
) -> list[FailedJob]:
    rows = await connection.execute(
        f"SELECT {_COLUMNS} FROM memory_extraction_failures"
        " WHERE tenant = %s AND memory_id = %s AND id > %s AND restarted_at IS NULL"
        " AND %s::text IN ('', strategy_id) AND %s::text IN ('', actor_id)"
        " AND %s::text IN ('', session_id) ORDER BY id LIMIT %s",
        (
            tenant, memory_id, after, wanted.get("strategyId") or "", wanted.get("actorId") or "",
            wanted.get("sessionId") or "", limit,
        ),
    )  # fmt: skip
    return [_failed(row) for row in await rows.fetchall()]


async def locked(
    connection: Connection, tenant: str, memory_id: str, id: str
) -> tuple[FailedJob, bool] | None:
    """And whether it was started again."""
    rows = await connection.execute(
        f"SELECT {_COLUMNS}, restarted_at IS NOT NULL FROM memory_extraction_failures"
        " WHERE tenant = %s AND memory_id = %s AND id = %s FOR UPDATE",
        (tenant, memory_id, id),
    )
    row = await rows.fetchone()
    return None if row is None else (_failed(row[:-1]), row[-1])


async def restarted(connection: Connection, tenant: str, memory_id: str, id: str) -> None:
    await connection.execute(
        "UPDATE memory_extraction_failures SET restarted_at = now()"
        " WHERE tenant = %s AND memory_id = %s AND id = %s",
        (tenant, memory_id, id),
    )


async def forget(
    connection: Connection, tenant: str, memory_id: str, gone: Collection[Said]
) -> None:
    """They are no longer about these events; nor there, if about nothing else."""
    threads = sorted({(actor, session) for actor, session, _ in gone})
    rows = await connection.execute(
        "SELECT id, actor_id, session_id, messages FROM memory_extraction_failures"
        " WHERE tenant = %s AND memory_id = %s"
        " AND (actor_id, session_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
        " ORDER BY id FOR UPDATE",
        (tenant, memory_id, [each[0] for each in threads], [each[1] for each in threads]),
    )
    for id, actor, session, messages in await rows.fetchall():
        left = [each for each in messages if (actor, session, each[0]) not in gone]
        if not left:
            await connection.execute(
                "DELETE FROM memory_extraction_failures"
                " WHERE tenant = %s AND memory_id = %s AND id = %s",
                (tenant, memory_id, id),
            )
        elif len(left) < len(messages):
            await connection.execute(
                "UPDATE memory_extraction_failures SET messages = %s"
                " WHERE tenant = %s AND memory_id = %s AND id = %s",
                (Jsonb(left), tenant, memory_id, id),
            )


def _failed(row: tuple[Any, ...]) -> FailedJob:
    return msgspec.convert(dict(zip(FailedJob.__struct_fields__, row, strict=True)), FailedJob)
