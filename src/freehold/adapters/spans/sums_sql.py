"""The statements that add sums to what is there. Each takes rows in the order of its key, so that
two writers never wait for each other in a circle. Only names of this module are put into them."""

from collections.abc import Sequence

import msgspec

from freehold.adapters.spans import histogram
from freehold.adapters.spans.sums import Rollups, Sums, coarser, digest
from freehold.ports.database import Connection

_ADDED = (
    "spans", "errors", "metered_calls", "told_calls", "platform_tools", "told_tools",
    "metered_input", "metered_output", "told_input", "told_output",
)  # fmt: skip
_COSTS = ("metered_cost", "told_cost")
_MEASURES = ", ".join((*_ADDED, "whole_input", "whole_output", *_COSTS, "whole_cost"))

# What a reader is told, of `t`: what the platform counted itself goes before what others say, since
# a framework and the client that it uses may each tell of the same call.
_COUNTED = "CASE WHEN t.metered_calls > 0 THEN t.metered_{0} ELSE greatest({1}) END"
INPUT = _COUNTED.format("input", "t.told_input, t.whole_input")
OUTPUT = _COUNTED.format("output", "t.told_output, t.whole_output")
TOKENS = f"({INPUT} + {OUTPUT})"
COST = _COUNTED.format("cost", "t.told_cost, t.whole_cost")
CALLS = _COUNTED.format("calls", "t.told_calls")
TOOLS = "greatest(t.platform_tools, t.told_tools)"


def _sums_of(table: str) -> str:
    return ",\n".join(
        [
            f"started_ns = least({table}.started_ns, excluded.started_ns)",
            f"ended_ns = greatest({table}.ended_ns, excluded.ended_ns)",
            *(f"{name} = {table}.{name} + excluded.{name}" for name in _ADDED),
            *(
                f"{name} = greatest({table}.{name}, excluded.{name})"
                for name in ("whole_input", "whole_output", "whole_cost")
            ),
            *(
                f"{name} = coalesce({table}.{name} + excluded.{name}, {table}.{name},"
                f" excluded.{name})"
                for name in _COSTS
            ),
        ]
    )


def _whose(name: str) -> str:
    """The root's word counts most, then that of the earlier."""
    return f"""{name} = CASE
        WHEN excluded.{name} = '' THEN traces.{name}
        WHEN traces.{name} = '' OR excluded.complete THEN excluded.{name}
        WHEN NOT traces.complete AND excluded.started_ns < traces.started_ns THEN excluded.{name}
        ELSE traces.{name} END"""


def _listed(name: str) -> str:
    return f"""{name} = CASE WHEN traces.{name} @> excluded.{name} THEN traces.{name}
        ELSE ARRAY(SELECT DISTINCT x FROM unnest(traces.{name} || excluded.{name}) x
                   ORDER BY x LIMIT 100) END"""  # noqa: S608 - names of this module


_WHO = "session_id, agent_id, agent_version, user_name"
_ROWS = """FROM json_to_recordset(%s::json) AS r (
    tenant text, trace_id uuid, session_id text, agent_id text, agent_version text, user_name text,
    started_ns bigint, ended_ns bigint, name text, complete boolean, spans bigint, errors bigint,
    metered_calls bigint, told_calls bigint, platform_tools bigint, told_tools bigint,
    metered_input bigint, metered_output bigint, told_input bigint, told_output bigint,
    whole_input bigint, whole_output bigint, metered_cost double precision,
    told_cost double precision, whole_cost double precision, models text[], tools text[])"""

_TRACE_COLUMNS = f"""tenant, trace_id, complete, name, {_WHO}, started_ns, ended_ns, {_MEASURES},
    models, tools"""
_ADD_TRACES = f"""
INSERT INTO traces ({_TRACE_COLUMNS})
SELECT {_TRACE_COLUMNS} {_ROWS} ORDER BY tenant COLLATE "C", trace_id
ON CONFLICT (tenant, trace_id) DO UPDATE SET
complete = traces.complete OR excluded.complete,
name = CASE WHEN excluded.complete OR NOT traces.complete
        AND excluded.started_ns < traces.started_ns THEN excluded.name ELSE traces.name END,
{", ".join(_whose(name) for name in ("session_id", "agent_id", "agent_version", "user_name"))},
{_listed("models")}, {_listed("tools")}, {_sums_of("traces")}
"""

_PART_COLUMNS = f"tenant, trace_id, {_WHO}, started_ns, ended_ns, {_MEASURES}"
_ADD_PARTS = f"""
INSERT INTO trace_parts ({_PART_COLUMNS})
SELECT {_PART_COLUMNS} {_ROWS}
ORDER BY tenant COLLATE "C", trace_id, session_id COLLATE "C", agent_id COLLATE "C"
ON CONFLICT (tenant, trace_id, session_id, agent_id) DO UPDATE SET
agent_version = coalesce(nullif(trace_parts.agent_version, ''), excluded.agent_version),
user_name = coalesce(nullif(trace_parts.user_name, ''), excluded.user_name),
{_sums_of("trace_parts")}
"""

_ROLLUP_COLUMNS = """tenant, family, at, key, agent_id, agent_version, operation, model, tool,
    failed, told, count, input_tokens, output_tokens, cost, histogram"""


def _add_rollups(table: str) -> str:
    return f"""
INSERT INTO {table} AS t ({_ROLLUP_COLUMNS})
SELECT {_ROLLUP_COLUMNS} FROM json_to_recordset(%s::json) AS r (
    tenant text, family smallint, at bigint, key uuid, agent_id text, agent_version text,
    operation text, model text, tool text, failed boolean, told boolean, count bigint,
    input_tokens bigint, output_tokens bigint, cost double precision, histogram numeric)
ORDER BY tenant COLLATE "C", family, at, key
ON CONFLICT (tenant, family, at, key) DO UPDATE SET
count = t.count + excluded.count,
input_tokens = t.input_tokens + excluded.input_tokens,
output_tokens = t.output_tokens + excluded.output_tokens,
cost = coalesce(t.cost + excluded.cost, t.cost, excluded.cost),
histogram = t.histogram + excluded.histogram
"""  # noqa: S608 - constants alone


_ADD_MINUTES = _add_rollups("span_minutes")
_ADD_HOURS = _add_rollups("span_hours")
_ADD_DAYS = _add_rollups("span_days")


async def add(connection: Connection, sums: Sums) -> None:
    """Traces before parts before rollups: the day's, which everybody waits for, at the end."""
    await add_traces(connection, sums)
    hours = coarser(sums.minutes, 3600)
    await connection.execute(_ADD_MINUTES, (_rollup_rows(sums.minutes),))
    await connection.execute(_ADD_HOURS, (_rollup_rows(hours),))
    await connection.execute(_ADD_DAYS, (_rollup_rows(coarser(hours, 86_400)),))


async def add_traces(connection: Connection, sums: Sums) -> None:
    await connection.execute(_ADD_TRACES, (_text(sums.traces()),))
    parts = sums.parts_of_someone()
    if parts:
        await connection.execute(_ADD_PARTS, (_text(parts),))


class _RollupRow(msgspec.Struct):
    """Those of a group first, in its order."""

    tenant: str
    family: int
    agent_id: str
    agent_version: str
    operation: str
    model: str
    tool: str
    failed: bool
    told: bool
    at: int
    key: str
    count: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    histogram: str


def _rollup_rows(rollups: Rollups) -> str:
    rows = []
    for (group, at), rollup in rollups.items():
        rows.append(
            _RollupRow(
                *group, at, digest(group), rollup.count, rollup.input_tokens,
                rollup.output_tokens, rollup.cost, histogram.packed(rollup.slots),
            )
        )  # fmt: skip
    return _text(rows)


def _text(rows: Sequence[object]) -> str:
    return msgspec.json.encode(rows).decode()
