"""Series out of the rollups: the coarsest whose rows fit into the steps."""

from typing import Any, Final

from freehold.adapters.spans import histogram
from freehold.adapters.spans.conditions import Conditions
from freehold.adapters.spans.copying import within
from freehold.adapters.spans.records import label
from freehold.adapters.spans.sums import MODEL, ROOT, TOOL
from freehold.ports.database import Connection
from freehold.ports.spans import Measured, Point, SeriesGroup, SeriesWanted

_FAMILIES: Final[dict[Measured, list[int]]] = {
    "traces": [f for f in range(8) if f & ROOT],
    "model_calls": [f for f in range(8) if f & MODEL],
    "tool_calls": [f for f in range(8) if f & TOOL],
    "spans": list(range(8)),
}
_GROUPS: Final[dict[SeriesGroup | None, str]] = {
    None: "''",
    "agent": "agent_id",
    "version": "agent_version",
    "model": "model",
    "tool": "tool",
    "operation": "operation",
    "status": "CASE WHEN failed THEN 'error' ELSE 'ok' END",
}

_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60
_TABLES: Final = {_DAY: "span_days", _HOUR: "span_hours", _MINUTE: "span_minutes"}
"""By the seconds of a row."""

_FOUND = """
found AS MATERIALIZED (
    SELECT at - at %% %s AS step, {group} AS grouped, agent_id, agent_version, failed, told, count,
        input_tokens, output_tokens, cost, histogram
    FROM ({rows}) r
)"""
# A call may be there twice: counted by the platform, and told by the agent that made it. Of each
# agent and step one account counts: of model calls the platform's, of tools the fuller one.
_FULLER = """
fuller AS (
    SELECT DISTINCT ON (step, agent_id, agent_version) step, agent_id, agent_version, told
    FROM found GROUP BY step, agent_id, agent_version, told
    ORDER BY step, agent_id, agent_version, {order}
),
kept AS MATERIALIZED (
    SELECT found.* FROM found JOIN fuller USING (step, agent_id, agent_version, told)
)"""
_COUNTED = _FULLER.format(order="told")
_FULLEST = _FULLER.format(order="sum(count) DESC, told")
_EVERYTHING = "kept AS (SELECT * FROM found)"
_SUMS = """
sums AS (
    SELECT step, grouped, sum(count)::bigint AS count,
        coalesce(sum(count) FILTER (WHERE failed), 0)::bigint AS errors,
        sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
        sum(cost) AS cost, sum(histogram) AS histogram
    FROM kept GROUP BY step, grouped
)"""
_POINTS = """
SELECT step, grouped, count, errors, input_tokens, output_tokens, cost, numeric_send(histogram)
FROM sums ORDER BY step, grouped COLLATE "C"
"""
_TOKENS = "SELECT step, grouped, input_tokens, output_tokens, cost FROM sums"

_Tokens = dict[tuple[int, str], tuple[int, int, float | None]]


async def read(connection: Connection, tenant: str, wanted: SeriesWanted) -> list[Point]:
    """Tokens and costs are always those of the model calls in the same step and group, as spans
    of traces and tools have none. Begins and ends with a whole minute, hour or day, as
    the steps are."""
    fuller = {"model_calls": _COUNTED, "tool_calls": _FULLEST}.get(wanted.measured, _EVERYTHING)
    rows = await _rows(connection, tenant, wanted, wanted.measured, f"{fuller}, {_SUMS} {_POINTS}")
    tokens: _Tokens = {}
    if wanted.measured in ("traces", "spans"):
        found = await _rows(
            connection, tenant, wanted, "model_calls", f"{_COUNTED}, {_SUMS} {_TOKENS}"
        )
        tokens = {(step, group): (i, o, cost) for step, group, i, o, cost in found}
    points = []
    for step, group, count, errors, input_tokens, output_tokens, cost, slots in rows:
        own = (input_tokens, output_tokens, cost)
        if wanted.measured in ("traces", "spans"):
            own = tokens.get((step, group), (0, 0, None))
        p50, p95, p99 = histogram.percentiles_ms(histogram.unpacked(slots), 0.5, 0.95, 0.99)
        points.append(
            Point(
                at_ns=step * 10**9, group=group, count=count, errors=errors, p50_ms=p50,
                p95_ms=p95, p99_ms=p99, input_tokens=own[0], output_tokens=own[1], cost=own[2],
            )
        )  # fmt: skip
    return points


async def _rows(
    connection: Connection, tenant: str, wanted: SeriesWanted, measured: Measured, rest: str
) -> list[tuple[Any, ...]]:
    step = max(_MINUTE, wanted.step_seconds)
    same = Conditions()
    same.add("r.tenant = %s", label(tenant))
    same.add("r.family = ANY(%s::smallint[])", _FAMILIES[measured])
    for column, value in (
        ("agent_id", wanted.agent_id),
        ("agent_version", wanted.agent_version),
        ("model", wanted.model),
        ("tool", wanted.tool),
    ):
        if value:
            same.add(f"r.{column} = %s", label(value))
    selects: list[str] = []
    values: list[Any] = [step]
    for table, since, until in _pieces(wanted, step):
        selects.append(
            f"SELECT * FROM {table} r WHERE {same.sql} AND r.at >= %s AND r.at < %s"  # noqa: S608 - ours
        )
        values += [*same.values, since, until]
    found = _FOUND.format(group=_GROUPS[wanted.by], rows=" UNION ALL ".join(selects))
    # Not prepared, as in postgres.py.
    rows = await connection.execute(f"WITH {found}, {rest}".encode(), values, prepare=False)
    return await rows.fetchall()


def _pieces(wanted: SeriesWanted, step: int) -> list[tuple[str, int, int]]:
    """Tables and the seconds in them that make up what is asked for."""
    since, until = within(wanted.since_ns) // 10**9, -(-within(wanted.until_ns) // 10**9)
    resolution = next(seconds for seconds in _TABLES if step % seconds == 0 or seconds == _MINUTE)
    since -= since % resolution
    one_step = since // step == (until - 1) // step
    first_day, end_day = -(-since // _DAY) * _DAY, until // _DAY * _DAY
    if resolution != _HOUR or not one_step or first_day >= end_day:
        return [(_TABLES[resolution], since, until)]
    # A single sum, of many days: what is in hours is only where it begins and ends.
    return [
        (_TABLES[_HOUR], since, first_day),
        (_TABLES[_DAY], first_day, end_day),
        (_TABLES[_HOUR], end_day, until),
    ]
