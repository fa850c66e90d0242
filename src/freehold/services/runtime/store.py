"""SQL of the sessions table: what ran, for whom, and what it used."""

import contextlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from freehold.kernel.clock import now
from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.kernel.pages import Page, decode_token, encode_token
from freehold.ports.database import Database
from freehold.ports.placement import SessionRecord, SessionUsage

_COLUMNS = (
    "tenant, sandbox_id, runtime_id, runtime_name, endpoint, version, session_id, user_id, tier, "
    "status, started_at, last_used_at, ended_at, end_reason, invocations, cpu_seconds, "
    "memory_gb_seconds, start, start_note"
)


class CostRow(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of one key in one tier."""

    key: str
    name: str
    tier: str
    sessions: int
    unmeasured: int
    invocations: int
    cpu_seconds: float | None
    memory_gb_seconds: float | None


_COST_KEYS = {
    "agent": ("runtime_id", "max(runtime_name)"),
    "session": ("sandbox_id", "max(session_id)"),
    "user": ("coalesce(user_id, '')", "coalesce(max(user_id), 'nobody named')"),
}
COST_GROUPS = (*_COST_KEYS, "day")
_ROWS_MAX = 5000
_DAY_TOTALS = ("invocations", "cpu_seconds", "memory_gb_seconds")
_KEEP_DAY = """on conflict (sandbox_id, day) do update set invocations = excluded.invocations,
    cpu_seconds = excluded.cpu_seconds, memory_gb_seconds = excluded.memory_gb_seconds"""


def _position(token: str) -> tuple[datetime, str]:
    match decode_token(token):
        case [str(time), str(sandbox_id)]:
            with contextlib.suppress(ValueError):
                return datetime.fromisoformat(time), sandbox_id
    raise ValidationFailed("nextToken is not a token that this list returned")


def _record(row: tuple[Any, ...]) -> SessionRecord:
    return SessionRecord(**dict(zip(SessionRecord.__struct_fields__, row, strict=True)))


class SessionStore:
    """Implements ports.placement.SessionJournal, and what the API shows of sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def started(self, node: str, record: SessionRecord) -> None:
        async with self._database.connection() as connection:
            await connection.execute(
                f"insert into sessions ({_COLUMNS}, node) values ({', '.join(['%s'] * 20)})",  # noqa: S608 - constants only
                (*(getattr(record, f) for f in SessionRecord.__struct_fields__), node),
            )

    async def metered(self, usages: list[SessionUsage]) -> None:
        async with self._database.connection() as connection:
            await connection.execute(
                f"""with live as (
                   update sessions s set status = u.status, last_used_at = u.last_used_at,
                     invocations = u.invocations, cpu_seconds = u.cpu_seconds,
                     memory_gb_seconds = u.memory_gb_seconds, start = u.start,
                     start_note = u.start_note
                   from unnest(%s::text[], %s::text[], %s::timestamptz[], %s::bigint[],
                               %s::float8[], %s::float8[], %s::text[], %s::text[])
                     as u(sandbox_id, status, last_used_at, invocations, cpu_seconds,
                          memory_gb_seconds, start, start_note)
                   where s.sandbox_id = u.sandbox_id and s.ended_at is null
                   returning s.sandbox_id, s.invocations, s.cpu_seconds, s.memory_gb_seconds)
                   insert into session_days (sandbox_id, {", ".join(_DAY_TOTALS)}, day)
                   select live.*, %s from live {_KEEP_DAY}""",  # noqa: S608 - constants only
                [
                    [getattr(u, f) for u in usages]
                    for f in (
                        "sandbox_id", "status", "last_used_at", "invocations", "cpu_seconds",
                        "memory_gb_seconds", "start", "start_note",
                    )
                ]
                + [now().date()],
            )  # fmt: skip

    async def ended(self, usage: SessionUsage, ended_at: datetime, reason: str) -> None:
        async with self._database.connection() as connection:
            await connection.execute(
                f"""with over as (
                   update sessions set status = 'ENDED', last_used_at = %s, invocations = %s,
                     cpu_seconds = %s, memory_gb_seconds = %s, start = %s, start_note = %s,
                     ended_at = %s, end_reason = %s
                   where sandbox_id = %s and ended_at is null
                   returning sandbox_id, invocations, cpu_seconds, memory_gb_seconds)
                   insert into session_days (sandbox_id, {", ".join(_DAY_TOTALS)}, day)
                   select over.*, %s from over {_KEEP_DAY}""",  # noqa: S608 - constants only
                (
                    usage.last_used_at, usage.invocations, usage.cpu_seconds,
                    usage.memory_gb_seconds, usage.start, usage.start_note, ended_at, reason,
                    usage.sandbox_id, ended_at.date(),
                ),
            )  # fmt: skip

    async def counted(self, sandbox_id: str, invocations: int) -> None:
        async with self._database.connection() as connection:
            await connection.execute(
                """with over as (
                   update sessions set invocations = invocations + %s where sandbox_id = %s
                   returning sandbox_id)
                   update session_days d set invocations = d.invocations + %s from over
                   where d.sandbox_id = over.sandbox_id and d.day =
                     (select max(day) from session_days l where l.sandbox_id = over.sandbox_id)""",
                (invocations, sandbox_id, invocations),
            )

    async def unfinished(self, node: str) -> list[SessionRecord]:
        async with self._database.connection() as connection:
            rows = await connection.execute(
                f"select {_COLUMNS} from sessions where node = %s and ended_at is null",  # noqa: S608
                (node,),
            )
            return [_record(row) async for row in rows]

    async def get(self, tenant: str, sandbox_id: str) -> SessionRecord:
        async with self._database.connection() as connection:
            rows = await connection.execute(
                f"select {_COLUMNS} from sessions where tenant = %s and sandbox_id = %s",  # noqa: S608
                (tenant, sandbox_id),
            )
            row = await rows.fetchone()
        if row is None:
            raise NotFound(f"no session {sandbox_id}")
        return _record(row)

    async def page(
        self,
        tenant: str,
        *,
        runtime_id: str | None,
        session_id: str | None,
        live: bool | None,
        limit: int,
        token: str | None,
    ) -> Page[SessionRecord]:
        """Newest first."""
        where: list[str] = ["tenant = %s"]
        values: list[Any] = [tenant]
        if runtime_id is not None:
            where.append("runtime_id = %s")
            values.append(runtime_id)
        if session_id is not None:
            where.append("session_id = %s")
            values.append(session_id)
        if live is not None:
            where.append(f"ended_at is {'' if live else 'not '}null")
        if token is not None:
            where.append("(started_at, sandbox_id) < (%s, %s)")
            values += _position(token)
        async with self._database.connection() as connection:
            rows = await connection.execute(
                f"select {_COLUMNS} from sessions where {' and '.join(where)} "  # noqa: S608
                "order by started_at desc, sandbox_id desc limit %s",
                (*values, limit + 1),
            )
            records = [_record(row) async for row in rows]
        if len(records) <= limit:
            return Page(records)
        last = records[limit - 1]
        return Page(records[:limit], encode_token(last.started_at.isoformat(), last.sandbox_id))

    async def costs(self, tenant: str, *, by: str, since: datetime) -> list[CostRow]:
        """Sums over sessions that were used since then, and how many of them were not measured.
        None where none was. Of one that is just starting nothing is known yet: that is no lack.
        """
        select, values = _costs_by_day(tenant, since) if by == "day" else _costs(tenant, by, since)
        async with self._database.connection() as connection:
            rows = await connection.execute(select, values)
            return [
                CostRow(**dict(zip(CostRow.__struct_fields__, row, strict=True)))
                async for row in rows
            ]


_UNMEASURED = """count(*) filter (where status <> 'STARTING' and
    (cpu_seconds is null or memory_gb_seconds is null))"""


def _costs(tenant: str, by: str, since: datetime) -> tuple[str, tuple[Any, ...]]:
    key, name = _COST_KEYS[by]
    return (
        f"""select {key}, {name}, tier, count(*), {_UNMEASURED},
              sum(invocations)::bigint, sum(cpu_seconds), sum(memory_gb_seconds)
            from sessions where tenant = %s and last_used_at >= %s
            group by 1, tier order by 7 desc nulls last, 1 limit {_ROWS_MAX}""",  # noqa: S608 - constants only
        (tenant, since),
    )


def _costs_by_day(tenant: str, since: datetime) -> tuple[str, tuple[Any, ...]]:
    """Whole days, from that of `since`."""
    own = ", ".join(
        f"d.{total} - coalesce(lag(d.{total}) over whole, 0) as {total}" for total in _DAY_TOTALS
    )
    return (
        f"""select day::text, day::text, tier, count(*), {_UNMEASURED},
              sum(invocations)::bigint, sum(cpu_seconds), sum(memory_gb_seconds)
            from (
              select d.day, s.tier, s.status, {own}
              from sessions s join session_days d on d.sandbox_id = s.sandbox_id
              where s.tenant = %s and (s.ended_at is null or s.ended_at >= %s)
              window whole as (partition by d.sandbox_id order by d.day)
            ) days
            where day >= %s group by day, tier order by day desc limit {_ROWS_MAX}""",  # noqa: S608 - constants only
        (tenant, first := since.astimezone(UTC).date(), first),
    )
