"""A session is forgotten: its spans, and what of their traces nobody else has a part in."""

from collections.abc import Iterable
from typing import Any

from freehold.adapters.spans import sums_sql
from freehold.adapters.spans.records import READ_WITHOUT_CONTENT, label, span_of
from freehold.adapters.spans.sums import summed
from freehold.ports.database import Connection, Database

_TRACES = """
SELECT t.trace_id, t.started_ns, t.ended_ns FROM traces t
WHERE t.tenant = %s AND t.trace_id IN (
    SELECT p.trace_id FROM trace_parts p WHERE p.tenant = %s AND p.session_id = %s)
ORDER BY t.trace_id FOR UPDATE
"""
_ERASE = """
DELETE FROM spans s WHERE s.tenant = %(tenant)s AND s.trace_id = %(trace)s
    AND s.started_ns BETWEEN %(first)s AND %(last)s AND s.session_id IN (%(session)s, '')
"""
_LEFT = f"""
SELECT {READ_WITHOUT_CONTENT} FROM spans s WHERE s.tenant = %(tenant)s
    AND s.trace_id = %(trace)s AND s.started_ns BETWEEN %(first)s AND %(last)s
"""  # noqa: S608 - constants alone
_FORGET = (
    "DELETE FROM trace_parts WHERE tenant = %(tenant)s AND trace_id = %(trace)s",
    "DELETE FROM traces WHERE tenant = %(tenant)s AND trace_id = %(trace)s",
    """DELETE FROM otlp_logs WHERE tenant = %(tenant)s AND session_id = ''
       AND trace_id = replace(%(trace)s::text, '-', '')""",
)
_BESIDE = (
    "DELETE FROM otlp_logs WHERE tenant = %s AND session_id = %s AND session_id <> ''",
    "DELETE FROM otlp_points WHERE tenant = %s AND session_id = %s AND session_id <> ''",
)


async def erase_session(database: Database, tenant: str, session_id: str) -> int:
    """How many spans went. A span that comes later makes its session known again."""
    if not session_id:
        return 0
    place = label(tenant), label(session_id)
    erased = 0
    async with database.transaction() as connection:
        rows = await connection.execute(_TRACES, (place[0], *place))
        for trace_id, first, last in await rows.fetchall():
            values = {
                "tenant": place[0], "session": place[1], "trace": trace_id,
                "first": first, "last": last,
            }  # fmt: skip
            erased += (await connection.execute(_ERASE, values)).rowcount
            left = await (await connection.execute(_LEFT, values)).fetchall()
            for statement in _FORGET:
                await connection.execute(statement, values)
            await _sum_again(connection, left)
        for statement in _BESIDE:
            await connection.execute(statement, place)
    return erased


async def _sum_again(connection: Connection, left: Iterable[tuple[Any, ...]]) -> None:
    spans = [span_of(row, {}) for row in left]
    if spans:
        await sums_sql.add_traces(connection, summed(spans))
