"""SQL of what a fork's session asks for: the fork's row, held, and the calls of its record."""

# ruff: noqa: S608 - constants alone; values are parameters

from collections.abc import Mapping

import msgspec

from freehold.ports.database import Connection
from freehold.services.forks.model import CallRow, ForkChange, ForkStep, Status
from freehold.services.forks.record import plain

_COUNTERS = ("recorded", "given", "live", "differing")
_LANE = ("turn", "position", "lane", "place", "digest", "content_type", "taken")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A fork as a call of its session needs it."""

    agent_id: str
    status: Status
    deleted: bool
    step: ForkStep
    change: ForkChange
    engine_arn: str
    turn: int
    reached: bool


async def asked(connection: Connection, tenant: str, id: str) -> Asked | None:
    """Whoever asks next waits for this transaction's end."""
    rows = await connection.execute(
        "SELECT agent_id, status, deleted_at IS NOT NULL, step, change, engine_arn, turn, reached"
        " FROM forks WHERE tenant = %s AND id = %s FOR UPDATE",
        (tenant, id),
    )
    row = await rows.fetchone()
    if row is None:
        return None
    return Asked(
        agent_id=row[0], status=row[1], deleted=row[2], step=msgspec.convert(row[3], ForkStep),
        change=msgspec.convert(row[4], ForkChange), engine_arn=row[5], turn=row[6], reached=row[7],
    )  # fmt: skip


async def lane(
    connection: Connection, tenant: str, id: str, *, turn: int, lane: str
) -> list[CallRow]:
    """Without the answers."""
    rows = await connection.execute(
        f"SELECT {', '.join(_LANE)} FROM fork_calls"
        " WHERE tenant = %s AND fork_id = %s AND turn = %s AND lane = %s ORDER BY position",
        (tenant, id, turn, lane),
    )
    return [CallRow(**dict(zip(_LANE, row, strict=True))) for row in await rows.fetchall()]


async def take(connection: Connection, tenant: str, id: str, call: CallRow) -> bytes:
    """Its answer, this once."""
    rows = await connection.execute(
        "UPDATE fork_calls SET taken = true WHERE tenant = %s AND fork_id = %s AND turn = %s"
        " AND position = %s RETURNING answer",
        (tenant, id, call.turn, call.position),
    )
    row = await rows.fetchone()
    assert row is not None, "it was read in the same transaction"
    return b"" if row[0] is None else bytes(row[0])


async def tell(
    connection: Connection, tenant: str, id: str, *, count: Mapping[str, int] = {},
    reached: bool = False, diverged: str = "",
) -> None:  # fmt: skip
    """`count` is added to the counters; the first reason to diverge stays."""
    counted = "".join(f", {name} = {name} + %({name})s" for name in _COUNTERS if name in count)
    await connection.execute(
        "UPDATE forks SET reached = reached OR %(reached)s, diverged ="
        f" coalesce(nullif(diverged, ''), %(diverged)s){counted}"
        " WHERE tenant = %(tenant)s AND id = %(id)s",
        {"tenant": tenant, "id": id, "reached": reached, "diverged": plain(diverged), **count},
    )
