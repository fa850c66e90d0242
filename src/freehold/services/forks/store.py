"""SQL of forks. A deleted one is there for nobody but its own session."""

# ruff: noqa: S608 - constants alone; values are parameters

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg.types.json import Json

from freehold.ports.database import Connection
from freehold.services.forks.model import (
    CallRow,
    Counts,
    Creator,
    Fork,
    ForkChange,
    ForkStep,
    Status,
    TurnRow,
    TurnStatus,
)
from freehold.services.forks.record import plain

_COLUMNS = (
    "tenant", "id", "agent_id", "endpoint", "recorded_version", "trace_id", "span_id",
    "recorded_session_id", "recorded_at", "step", "change", "until", "creator", "created_by",
    "created_at", "engine_arn", "notes", "status", "reason", "version", "started_at", "ended_at",
    "turn", "reached", "diverged",
)  # fmt: skip
_WAITING = """
(SELECT count(*) FROM fork_calls c WHERE c.tenant = f.tenant AND c.fork_id = f.id
    AND c.place = 'before' AND NOT c.taken)
"""
_TURNS = """
(SELECT coalesce(json_agg(json_build_object('number', t.number, 'recorded_trace_id',
        t.recorded_trace_id, 'recorded_failed', t.recorded_failed, 'trace_id', t.trace_id,
        'status', t.status) ORDER BY t.number), '[]')
    FROM fork_turns t WHERE t.tenant = f.tenant AND t.fork_id = f.id)
"""
_FORK = f"""
SELECT {", ".join(f"f.{name}" for name in _COLUMNS)}, f.recorded, f.given, f.live, f.differing,
    {_WAITING}, {_TURNS}
FROM forks f WHERE f.tenant = %(tenant)s AND f.deleted_at IS NULL
"""
_COUNTERS = ("recorded", "given", "live", "differing")
_BATCH = 500


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What is not "" must be so."""

    trace_id: str = ""
    recorded_session_id: str = ""
    agent_id: str = ""
    status: str = ""


# -- made, shown, deleted


async def count(connection: Connection, tenant: str) -> int:
    rows = await connection.execute(
        "SELECT count(*) FROM forks WHERE tenant = %s AND deleted_at IS NULL", (tenant,)
    )
    row = await rows.fetchone()
    return 0 if row is None else int(row[0])


async def insert(
    connection: Connection, fork: Fork, turns: Sequence[TurnRow], calls: Sequence[CallRow]
) -> None:
    await connection.execute(
        "INSERT INTO forks (tenant, id, status, notes, agent_id, endpoint, recorded_version,"
        " trace_id, span_id, recorded_session_id, recorded_at, step, step_turn, change, engine_arn,"
        " until, creator, created_by, created_at)"
        " VALUES (%s, %s, 'PENDING', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
        " %s)",
        (
            fork.tenant, fork.id, Json(fork.notes), fork.agent_id, fork.endpoint,
            fork.recorded_version, fork.trace_id, fork.span_id, fork.recorded_session_id,
            fork.recorded_at, _json(fork.step), fork.step.turn, _json(fork.change),
            fork.engine_arn, fork.until, _json(fork.creator), fork.created_by, fork.created_at,
        ),
    )  # fmt: skip
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO fork_turns (tenant, fork_id, number, recorded_trace_id, recorded_failed,"
            " payload, content_type) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [
                (fork.tenant, fork.id, turn.number, turn.recorded_trace_id, turn.recorded_failed,
                 turn.payload, turn.content_type)
                for turn in turns
            ],
        )  # fmt: skip
        for begin in range(0, len(calls), _BATCH):
            await cursor.executemany(
                "INSERT INTO fork_calls (tenant, fork_id, turn, position, lane, place, digest,"
                " answer, content_type) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    (fork.tenant, fork.id, call.turn, call.position, call.lane, call.place,
                     call.digest, call.answer, call.content_type)
                    for call in calls[begin : begin + _BATCH]
                ],
            )  # fmt: skip


async def get(connection: Connection, tenant: str, id: str) -> Fork | None:
    rows = await connection.execute(f"{_FORK} AND f.id = %(id)s", {"tenant": tenant, "id": id})
    row = await rows.fetchone()
    return None if row is None else _fork(row)


async def newest(
    connection: Connection, tenant: str, filter: Filter, *, before: tuple[datetime, str] | None,
    limit: int,
) -> list[Fork]:  # fmt: skip
    values: dict[str, Any] = {"tenant": tenant, "limit": limit}
    wanted = ""
    for name in Filter.__struct_fields__:
        if value := getattr(filter, name):
            wanted += f" AND f.{name} = %({name})s"
            values[name] = value
    if before is not None:
        wanted += " AND (f.created_at, f.id) < (%(at)s, %(id)s)"
        values |= {"at": before[0], "id": before[1]}
    rows = await connection.execute(
        f"{_FORK} {wanted} ORDER BY f.created_at DESC, f.id DESC LIMIT %(limit)s", values
    )
    return [_fork(row) for row in await rows.fetchall()]


async def count_of_span(connection: Connection, tenant: str, trace_id: str, span_id: str) -> int:
    rows = await connection.execute(
        "SELECT count(*) FROM forks WHERE tenant = %s AND trace_id = %s AND span_id = %s"
        " AND deleted_at IS NULL",
        (tenant, trace_id, span_id),
    )
    row = await rows.fetchone()
    return 0 if row is None else int(row[0])


async def under_way(connection: Connection) -> list[tuple[str, str]]:
    """(tenant, id) of all that are to be run, or were when a process ended."""
    rows = await connection.execute(
        "SELECT tenant, id FROM forks WHERE status IN ('PENDING', 'RUNNING') ORDER BY created_at"
    )
    return [(tenant, id) for tenant, id in await rows.fetchall()]


async def empty(connection: Connection, tenant: str, id: str, at: datetime) -> None:
    """From now on nobody sees it, nothing is invoked for it, and nothing of the record is left."""
    await connection.execute(
        "UPDATE forks SET deleted_at = coalesce(deleted_at, %s), status = 'INTERRUPTED', reason ="
        " 'it was deleted', change = '{}', notes = '[]' WHERE tenant = %s AND id = %s",
        (at, tenant, id),
    )
    for table in ("fork_calls", "fork_turns"):
        await connection.execute(
            f"DELETE FROM {table} WHERE tenant = %s AND fork_id = %s", (tenant, id)
        )


async def forget_deleted(connection: Connection, before: datetime) -> int:
    done = await connection.execute("DELETE FROM forks WHERE deleted_at < %s", (before,))
    return done.rowcount


# -- run


async def begin(connection: Connection, tenant: str, id: str, at: datetime) -> bool:
    """False where it is not the first time, or it is deleted."""
    done = await connection.execute(
        "UPDATE forks SET status = 'RUNNING', started_at = %s"
        " WHERE tenant = %s AND id = %s AND status = 'PENDING' AND deleted_at IS NULL",
        (at, tenant, id),
    )
    return done.rowcount == 1


async def begin_turn(connection: Connection, tenant: str, id: str, number: int) -> bool:
    """False where it is not to go on. A turn that it was forked at is its own step."""
    done = await connection.execute(
        "UPDATE forks SET turn = %(turn)s, reached = reached OR (%(turn)s >= step_turn"
        " AND step->>'kind' = 'turn')"
        " WHERE tenant = %(tenant)s AND id = %(id)s AND status = 'RUNNING' AND deleted_at IS NULL",
        {"turn": number, "tenant": tenant, "id": id},
    )
    if done.rowcount != 1:
        return False
    await set_turn(connection, tenant, id, number, "RUNNING")
    return True


async def turn(connection: Connection, tenant: str, id: str, number: int) -> TurnRow | None:
    """With its payload."""
    rows = await connection.execute(
        "SELECT number, recorded_trace_id, recorded_failed, payload, content_type, trace_id, status"
        " FROM fork_turns WHERE tenant = %s AND fork_id = %s AND number = %s",
        (tenant, id, number),
    )
    row = await rows.fetchone()
    if row is None:
        return None
    return TurnRow(
        number=row[0], recorded_trace_id=row[1], recorded_failed=row[2], payload=bytes(row[3]),
        content_type=row[4], trace_id=row[5], status=row[6],
    )  # fmt: skip


async def set_turn(
    connection: Connection, tenant: str, id: str, number: int, status: TurnStatus,
    *, trace_id: str = "",
) -> None:  # fmt: skip
    await connection.execute(
        "UPDATE fork_turns SET status = %s, trace_id = coalesce(nullif(%s, ''), trace_id)"
        " WHERE tenant = %s AND fork_id = %s AND number = %s",
        (status, trace_id, tenant, id, number),
    )


async def end(
    connection: Connection, tenant: str, id: str, status: Status, *, reason: str, at: datetime
) -> None:
    """Of one that is under way; another stays as it is."""
    await connection.execute(
        "UPDATE forks SET status = %s, reason = %s, ended_at = %s"
        " WHERE tenant = %s AND id = %s AND status IN ('PENDING', 'RUNNING')",
        (status, plain(reason), at, tenant, id),
    )
    if status != "COMPLETED":
        await connection.execute(
            "UPDATE fork_turns SET status = 'FAILED'"
            " WHERE tenant = %s AND fork_id = %s AND status = 'RUNNING'",
            (tenant, id),
        )


async def set_version(connection: Connection, tenant: str, id: str, version: str) -> None:
    await connection.execute(
        "UPDATE forks SET version = %s WHERE tenant = %s AND id = %s", (version, tenant, id)
    )


def _json(value: Any) -> Json:
    return Json(msgspec.to_builtins(value))


def _fork(row: tuple[Any, ...]) -> Fork:
    values = dict(zip(_COLUMNS, row, strict=False))
    *counts, turns = row[len(_COLUMNS) :]
    values |= {
        "step": msgspec.convert(values["step"], ForkStep),
        "change": msgspec.convert(values["change"], ForkChange),
        "creator": msgspec.convert(values["creator"], Creator),
        "counts": Counts(**dict(zip((*_COUNTERS, "waiting"), counts, strict=True))),
        "turns": [TurnRow(**turn) for turn in turns],
    }
    return Fork(**values)
