"""The port of spans on Postgres."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from freehold.adapters.spans import conditions, erasing, pages, series
from freehold.adapters.spans.conditions import Conditions
from freehold.adapters.spans.patience import SECONDS_MAX, Patience
from freehold.adapters.spans.records import (
    READ,
    is_span_id,
    is_trace_id,
    label,
    number,
    span_of,
)
from freehold.adapters.spans.resources import Resources
from freehold.adapters.spans.sums_sql import CALLS, COST, INPUT, OUTPUT, TOOLS
from freehold.adapters.spans.writing import SpanWriter
from freehold.kernel.pages import Page
from freehold.ports.database import Connection, Database
from freehold.ports.spans import (
    Point,
    SeriesWanted,
    SessionSummary,
    SpanRecord,
    TraceSummary,
    Wanted,
)

# The trace's own times say which partitions to look into.
_TRACE = f"""
SELECT {READ} FROM spans s
WHERE s.tenant = %(tenant)s AND s.trace_id = %(trace)s::uuid
    AND s.started_ns BETWEEN %(first)s AND %(last)s
"""  # noqa: S608 - constants alone
_TIMES = "SELECT started_ns, ended_ns FROM traces WHERE tenant = %s AND trace_id = %s::uuid"

_TRACES = f"""
SELECT encode(uuid_send(t.trace_id), 'hex'), t.name, t.started_ns, t.ended_ns, t.complete,
    t.agent_id, t.agent_version, t.session_id, t.user_name, t.spans, t.errors, {CALLS}, {TOOLS},
    {INPUT}, {OUTPUT}, {COST}, t.models
FROM traces t WHERE"""  # noqa: S608 - constants alone

_TRACE_FIELDS = TraceSummary.__struct_fields__
_SESSION_FIELDS = SessionSummary.__struct_fields__

_OF_PART = {
    name: expression.replace("t.", "p.")
    for name, expression in {
        "calls": CALLS, "tools": TOOLS, "input": INPUT, "output": OUTPUT, "cost": COST,
    }.items()
}  # fmt: skip
# Along the newest parts, those that are the first of their session: so the sums are made of no more
# sessions than are told of, unless a filter asks for sums.
_SESSIONS = """
SELECT f.session_id, s.agent_id, s.user_name, f.started_ns, s.ended_ns, s.traces, s.errors, s.calls,
    s.tools, s.input, s.output, s.cost
FROM trace_parts f, LATERAL (
    SELECT (array_agg(p.agent_id ORDER BY p.started_ns))[1] AS agent_id,
        coalesce((array_agg(p.user_name ORDER BY p.started_ns)
            FILTER (WHERE p.user_name <> ''))[1], '') AS user_name,
        max(p.ended_ns) AS ended_ns, count(DISTINCT p.trace_id) AS traces,
        sum(p.errors)::bigint AS errors, sum({calls})::bigint AS calls,
        sum({tools})::bigint AS tools, sum({input})::bigint AS input,
        sum({output})::bigint AS output, sum({cost}) AS cost
    FROM trace_parts p WHERE {{session}}
) s
WHERE f.tenant = %s AND f.session_id <> '' AND {{window}}
    AND (f.trace_id, f.agent_id) = (
        SELECT p.trace_id, p.agent_id FROM trace_parts p WHERE {{session}}
        ORDER BY p.started_ns, p.trace_id, p.agent_id LIMIT 1)
    AND {{content}} AND {{sums}}
ORDER BY f.started_ns DESC, f.session_id DESC LIMIT %s
""".format(**_OF_PART)  # noqa: S608 - constants alone
_CONTENT = """EXISTS (
    SELECT FROM trace_parts p JOIN traces t ON t.tenant = p.tenant AND t.trace_id = p.trace_id
    WHERE {session} AND {traces})"""


class PostgresSpans:
    """A batch is one transaction: its spans, and what they add to traces, sessions and series.

    `days_kept` as in `Retention`: older spans are not stored at all. None: everything is, which
    is for tests and tools, as each day then takes a partition.
    """

    def __init__(
        self,
        database: Database,
        *,
        days_kept: int | None = None,
        seconds_max: float = SECONDS_MAX,
    ) -> None:
        self._database = database
        self._patience = Patience(database, seconds_max=seconds_max)
        self._resources = Resources(database)
        self._writer = SpanWriter(database, self._resources, days_kept=days_kept)

    async def write(self, spans: Sequence[SpanRecord]) -> None:
        await self._writer.write(spans)

    async def trace(
        self, tenant: str, trace_id: str, *, spans_max: int = 20_000
    ) -> list[SpanRecord]:
        if not is_trace_id(trace_id):
            return []
        statement = f"{_TRACE} ORDER BY s.started_ns, s.span_id LIMIT %(most)s"
        return await self._of_trace(tenant, trace_id, statement, {"most": spans_max})

    async def span(self, tenant: str, trace_id: str, span_id: str) -> SpanRecord | None:
        if not is_trace_id(trace_id) or not is_span_id(span_id):
            return None
        statement = f"{_TRACE} AND s.span_id = %(span)s ORDER BY s.started_ns LIMIT 1"
        found = await self._of_trace(tenant, trace_id, statement, {"span": number(span_id)})
        return found[0] if found else None

    async def traces(
        self, tenant: str, wanted: Wanted, *, limit: int, token: str | None = None
    ) -> Page[TraceSummary]:
        asked = conditions.of_traces(tenant, wanted)
        if token is not None:
            started, trace_id = pages.position(token, "traces")
            if not is_trace_id(trace_id):
                raise pages.foreign_token()
            asked.add("(t.started_ns, t.trace_id) < (%s, %s::uuid)", started, trace_id)
        order = "ORDER BY t.started_ns DESC, t.trace_id DESC LIMIT %s"
        async with self._looking(wanted) as connection:
            statement = f"{_TRACES} {asked.sql} {order}"
            rows = await _rows(connection, statement, asked.values, limit)
        found = [TraceSummary(**dict(zip(_TRACE_FIELDS, row, strict=True))) for row in rows]
        return pages.page(found, limit, "traces", lambda t: (t.started_ns, t.trace_id))

    async def sessions(
        self, tenant: str, wanted: Wanted, *, limit: int, token: str | None = None
    ) -> Page[SessionSummary]:
        statement, values = _sessions(tenant, wanted, token)
        async with self._looking(wanted) as connection:
            rows = await _rows(connection, statement, values, limit)
        found = [SessionSummary(**dict(zip(_SESSION_FIELDS, row, strict=True))) for row in rows]
        return pages.page(found, limit, "sessions", lambda s: (s.started_ns, s.session_id))

    async def spans(
        self,
        tenant: str,
        wanted: Wanted,
        *,
        operation: str = "",
        limit: int,
        token: str | None = None,
    ) -> Page[SpanRecord]:
        asked = conditions.of_spans(tenant, wanted, operation)
        if token is not None:
            started, place = pages.position(token, "spans")
            trace_id, _, span_id = place.partition("-")
            if not is_trace_id(trace_id) or not is_span_id(span_id):
                raise pages.foreign_token()
            # Said twice: the first half lets partitions be passed over.
            asked.add(
                "s.started_ns <= %s AND (s.started_ns, s.trace_id, s.span_id) < (%s, %s::uuid, %s)",
                started, started, trace_id, number(span_id),
            )  # fmt: skip
        statement = (
            f"SELECT {READ} FROM spans s WHERE {asked.sql}"  # noqa: S608 - see conditions.py
            " ORDER BY s.started_ns DESC, s.trace_id DESC, s.span_id DESC LIMIT %s"
        )
        async with self._looking(wanted) as connection:
            rows = await _rows(connection, statement, asked.values, limit)
            found = await self._read(connection, tenant, rows)
        return pages.page(
            found, limit, "spans", lambda s: (s.started_ns, f"{s.trace_id}-{s.span_id}")
        )

    async def series(self, tenant: str, wanted: SeriesWanted) -> list[Point]:
        async with self._database.connection() as connection:
            return await series.read(connection, tenant, wanted)

    async def erase_session(self, tenant: str, session_id: str) -> int:
        """Also its log records and points of metrics, and what its traces have of nobody's
        session. Series stay: they name no session and no person."""
        return await erasing.erase_session(self._database, tenant, session_id)

    def _looking(self, wanted: Wanted) -> AbstractAsyncContextManager[Connection]:
        return self._patience.search() if wanted.text or wanted.tags else self._patience.list()

    async def _of_trace(
        self, tenant: str, trace_id: str, statement: str, values: dict[str, Any]
    ) -> list[SpanRecord]:
        async with self._database.connection() as connection:
            times = await connection.execute(_TIMES, (label(tenant), trace_id))
            row = await times.fetchone()
            if row is None:
                return []
            first, last = row
            values = {
                **values, "tenant": label(tenant), "trace": trace_id, "first": first, "last": last,
            }  # fmt: skip
            found = await connection.execute(statement.encode(), values, prepare=False)
            rows = await found.fetchall()
            return await self._read(connection, tenant, rows)

    async def _read(
        self, connection: Connection, tenant: str, rows: Iterable[tuple[Any, ...]]
    ) -> list[SpanRecord]:
        rows = list(rows)
        hashes = {row[12] for row in rows} - {None}
        resources = await self._resources.read(connection, label(tenant), hashes)
        return [span_of(row, resources) for row in rows]


def _sessions(tenant: str, wanted: Wanted, token: str | None) -> tuple[str, list[Any]]:
    """The statement, and its values but for the limit."""
    window, of_session = conditions.of_who(wanted, "f"), conditions.of_who(wanted, "p")
    of_session.add("p.tenant = f.tenant AND p.session_id = f.session_id AND p.session_id <> ''")
    conditions.window(of_session, "p.started_ns", wanted.since_ns, wanted.until_ns)
    content, traces = Conditions(), Conditions()
    conditions.window(window, "f.started_ns", wanted.since_ns, wanted.until_ns)
    conditions.of_content(traces, wanted)
    if traces.values:
        content.add(
            _CONTENT.format(session=of_session.sql, traces=traces.sql),
            *of_session.values,
            *traces.values,
        )
    sums = conditions.of_sessions(wanted)
    if token is not None:
        started, session_id = pages.position(token, "sessions")
        sums.add("(f.started_ns, f.session_id) < (%s, %s)", started, session_id)
    parts = {"session": of_session, "window": window, "content": content, "sums": sums}
    statement = _SESSIONS.format(**{name: part.sql for name, part in parts.items()})
    return statement, [
        *of_session.values, label(tenant), *window.values, *of_session.values, *content.values,
        *sums.values,
    ]  # fmt: skip


async def _rows(
    connection: Connection, statement: str, values: Sequence[Any], limit: int
) -> list[tuple[Any, ...]]:
    """One more than `limit`, if there is one. Not prepared: a plan for any agent, user or day is a
    bad one for most, and looks into every partition."""
    rows = await connection.execute(statement.encode(), [*values, limit + 1], prepare=False)
    return await rows.fetchall()
