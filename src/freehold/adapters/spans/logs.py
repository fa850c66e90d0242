"""The port of log records on Postgres."""

import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from freehold.adapters.spans import conditions, pages
from freehold.adapters.spans.arriving import Arriving, first_kept_ns
from freehold.adapters.spans.conditions import Conditions
from freehold.adapters.spans.copying import NULL, TextFields, bytes_field, json_text, within
from freehold.adapters.spans.records import (
    LABEL_CHARACTERS_MAX,
    ORIGINS,
    TEXT_CHARACTERS_MAX,
    label,
)
from freehold.adapters.spans.resources import Resources
from freehold.kernel.pages import Page
from freehold.ports.database import Database
from freehold.ports.telemetry import LogRecord, LogsWanted

_COLUMNS = (
    "at_ns", "origin", "severity", "resource", "tenant", "severity_text", "event", "scope",
    "trace_id", "span_id", "agent_id", "endpoint", "session_id", "body", "attributes",
)  # fmt: skip
_FIXED = struct.Struct("!iqihih")
_READ = """
SELECT l.id, l.at_ns, l.origin, l.severity, l.resource::text, l.tenant, l.severity_text, l.event,
    l.scope, l.trace_id, l.span_id, l.agent_id, l.endpoint, l.session_id, l.body, l.attributes
FROM otlp_logs l WHERE"""


class PostgresLogs:
    """`days_kept` as in `Retention`: what is older is not stored at all."""

    def __init__(self, database: Database, *, days_kept: int | None = None) -> None:
        self._database = database
        self._resources = Resources(database)
        self._arriving = Arriving(database, "otlp_logs", _COLUMNS)
        self._days_kept = days_kept

    async def write(self, records: Sequence[LogRecord]) -> None:
        first = first_kept_ns(self._days_kept)
        records = [record for record in records if record.at_ns >= first]
        if not records:
            return
        names = await self._resources.keep(records)
        labels, texts = TextFields(LABEL_CHARACTERS_MAX), TextFields(TEXT_CHARACTERS_MAX)
        rows = []
        for record in records:
            resource = names[id(record.resource)]
            rows.append(
                b"".join(
                    (
                        _FIXED.pack(
                            8, within(record.at_ns), 2, ORIGINS.index(record.origin),
                            2, within(record.severity, 32_767),
                        ),
                        NULL if resource is None else bytes_field(resource.bytes),
                        labels[record.tenant], labels[record.severity_text],
                        labels[record.event], texts[record.scope], labels[record.trace_id],
                        labels[record.span_id], labels[record.agent_id],
                        labels[record.endpoint], labels[record.session_id],
                        bytes_field(json_text(record.body)),
                        bytes_field(json_text(record.attributes)),
                    )
                )
            )  # fmt: skip
        await self._arriving.add([within(record.at_ns) for record in records], rows)

    async def logs(
        self, tenant: str, wanted: LogsWanted, *, limit: int, token: str | None = None
    ) -> Page[LogRecord]:
        asked = _asked(tenant, wanted)
        order = "ASC" if wanted.oldest_first else "DESC"
        of_list = f"logs {order}"
        if token is not None:
            at_ns, place = pages.position(token, of_list)
            if not place.isdecimal() or len(place) > 18:
                raise pages.foreign_token()
            sign = ">" if wanted.oldest_first else "<"
            # Said twice: the first half lets partitions be passed over.
            asked.add(
                f"l.at_ns {sign}= %s AND (l.at_ns, l.id) {sign} (%s, %s)", at_ns, at_ns, int(place)
            )
        statement = f"{_READ} {asked.sql} ORDER BY l.at_ns {order}, l.id {order} LIMIT %s"
        async with self._database.connection() as connection:
            # Not prepared, as in postgres.py.
            found = await connection.execute(
                statement.encode(), [*asked.values, limit + 1], prepare=False
            )
            rows = await found.fetchall()
            resources = await self._resources.read(
                connection, label(tenant), {row[4] for row in rows} - {None}
            )
        page = pages.page(rows, limit, of_list, lambda row: (row[1], str(row[0])))
        return Page(
            [_record(row, resources.get(row[4], {})) for row in page.items], page.next_token
        )


def _asked(tenant: str, wanted: LogsWanted) -> Conditions:
    found = Conditions()
    found.add("l.tenant = %s", label(tenant))
    conditions.window(found, "l.at_ns", wanted.since_ns, wanted.until_ns)
    for column, value in (
        ("agent_id", wanted.agent_id),
        ("session_id", wanted.session_id),
        ("trace_id", wanted.trace_id),
    ):
        if value:
            # The second half lets the partial index be used, whatever the plan is made for.
            found.add(f"l.{column} = %s AND l.{column} <> ''", label(value))
    if wanted.span_id:
        found.add("l.span_id = %s", label(wanted.span_id))
    if wanted.event:
        found.add("l.event = %s", label(wanted.event))
    if wanted.severity_min:
        found.add("l.severity >= %s", wanted.severity_min)
    if wanted.text:
        text, values = conditions.anywhere(
            wanted.text, plain=("l.event",), json=("l.body", "l.attributes")
        )
        found.add(text, *values)
    return found


def _record(row: tuple[Any, ...], resource: dict[str, Any]) -> LogRecord:
    (
        _, at_ns, origin, severity, _, tenant, severity_text, event, scope, trace_id, span_id,
        agent_id, endpoint, session_id, body, attributes,
    ) = row  # fmt: skip
    return LogRecord(
        tenant=tenant,
        at_ns=at_ns,
        origin=ORIGINS[origin],
        body=msgspec.json.decode(body),
        event=event,
        severity=severity,
        severity_text=severity_text,
        attributes=msgspec.json.decode(attributes),
        resource=resource,
        scope=scope,
        trace_id=trace_id,
        span_id=span_id,
        agent_id=agent_id,
        endpoint=endpoint,
        session_id=session_id,
    )
