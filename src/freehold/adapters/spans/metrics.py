"""The port of points of metrics on Postgres."""

import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from freehold.adapters.spans.arriving import Arriving, first_kept_ns
from freehold.adapters.spans.copying import (
    NULL,
    Storable,
    TextFields,
    bytes_field,
    float_field,
    integer_field,
    json_text,
    within,
)
from freehold.adapters.spans.records import LABEL_CHARACTERS_MAX, ORIGINS, label
from freehold.adapters.spans.resources import Resources
from freehold.ports.database import Database
from freehold.ports.telemetry import MetricPoint

_COLUMNS = (
    "at_ns", "started_ns", "origin", "monotonic", "delta", "value", "count", "sum", "resource",
    "tenant", "name", "unit", "kind", "agent_id", "session_id", "attributes", "histogram",
)  # fmt: skip
_FIXED = struct.Struct("!iqiqihi?i?")
_READ = """
SELECT at_ns, started_ns, origin, monotonic, delta, value, count, sum, resource::text, tenant,
    name, unit, kind, agent_id, session_id, attributes, histogram
FROM otlp_points
WHERE tenant = %s AND name = %s AND at_ns >= %s AND at_ns < %s AND (%s = '' OR agent_id = %s)
ORDER BY at_ns LIMIT %s
"""
# Told again when it is this much later: names are listed, not timed.
_NAME_NS = 600 * 10**9
_NAMES_MAX = 10_000
_NAMED = """
INSERT INTO otlp_metrics (tenant, name, last_ns)
SELECT tenant, name, last_ns FROM unnest(%s::text[], %s::text[], %s::bigint[])
    AS n (tenant, name, last_ns) ORDER BY tenant COLLATE "C", name COLLATE "C"
ON CONFLICT (tenant, name) DO UPDATE SET last_ns = excluded.last_ns
WHERE otlp_metrics.last_ns < excluded.last_ns
"""
_NAMES = "SELECT name FROM otlp_metrics WHERE tenant = %s AND last_ns >= %s ORDER BY name"


class PostgresMetrics:
    """`days_kept` as in `Retention`: what is older is not stored at all."""

    def __init__(self, database: Database, *, days_kept: int | None = None) -> None:
        self._database = database
        self._resources = Resources(database)
        self._arriving = Arriving(database, "otlp_points", _COLUMNS)
        self._days_kept = days_kept
        self._named: dict[tuple[str, str], int] = {}

    async def write(self, points: Sequence[MetricPoint]) -> None:
        first = first_kept_ns(self._days_kept)
        points = [point for point in points if point.at_ns >= first]
        if not points:
            return
        await self._name(points)
        names = await self._resources.keep(points)
        labels = TextFields(LABEL_CHARACTERS_MAX)
        rows = []
        for point in points:
            resource = names[id(point.resource)]
            histogram = (point.bounds, point.buckets)
            rows.append(
                b"".join(
                    (
                        _FIXED.pack(
                            8, within(point.at_ns), 8, within(point.started_ns),
                            2, ORIGINS.index(point.origin), 1, point.monotonic, 1, point.delta,
                        ),
                        float_field(point.value), integer_field(point.count),
                        float_field(point.sum),
                        NULL if resource is None else bytes_field(resource.bytes),
                        labels[point.tenant], labels[point.name], labels[point.unit],
                        labels[point.kind], labels[point.agent_id], labels[point.session_id],
                        bytes_field(json_text(point.attributes)),
                        bytes_field(json_text(histogram)) if any(histogram) else NULL,
                    )
                )
            )  # fmt: skip
        await self._arriving.add([within(point.at_ns) for point in points], rows)

    async def points(
        self,
        tenant: str,
        name: str,
        *,
        since_ns: int,
        until_ns: int,
        agent_id: str = "",
        limit: int,
    ) -> list[MetricPoint]:
        agent = label(agent_id)
        values = (
            label(tenant), label(name), within(since_ns), within(until_ns), agent, agent, limit,
        )  # fmt: skip
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_READ, values)).fetchall()
            resources = await self._resources.read(
                connection, label(tenant), {row[8] for row in rows} - {None}
            )
        return [_point(row, resources.get(row[8], {})) for row in rows]

    async def names(self, tenant: str, *, since_ns: int) -> list[str]:
        """Of what was told since then, or up to ten minutes before."""
        async with self._database.connection() as connection:
            rows = await connection.execute(_NAMES, (label(tenant), within(since_ns) - _NAME_NS))
            return [name for (name,) in await rows.fetchall()]

    async def _name(self, points: Sequence[MetricPoint]) -> None:
        text = Storable(LABEL_CHARACTERS_MAX)
        last: dict[tuple[str, str], int] = {}
        for point in points:
            place = text[point.tenant], text[point.name]
            last[place] = max(last.get(place, 0), within(point.at_ns))
        new = {
            place: at
            for place, at in last.items()
            if place not in self._named or at >= self._named[place] + _NAME_NS
        }
        if not new:
            return
        async with self._database.connection() as connection:
            await connection.execute(
                _NAMED,
                (
                    [tenant for tenant, _ in new],
                    [name for _, name in new],
                    list(new.values()),
                ),
            )
        if len(self._named) + len(new) > _NAMES_MAX:
            self._named.clear()
        self._named.update(new)


def _point(row: tuple[Any, ...], resource: dict[str, Any]) -> MetricPoint:
    (
        at_ns, started_ns, origin, monotonic, delta, value, count, sum_, _, tenant, name, unit,
        kind, agent_id, session_id, attributes, histogram,
    ) = row  # fmt: skip
    bounds, buckets = ([], []) if histogram is None else msgspec.json.decode(histogram)
    return MetricPoint(
        tenant=tenant,
        at_ns=at_ns,
        started_ns=started_ns,
        origin=ORIGINS[origin],
        name=name,
        unit=unit,
        kind=kind,
        monotonic=monotonic,
        delta=delta,
        value=value,
        count=count,
        sum=sum_,
        bounds=bounds,
        buckets=buckets,
        attributes=msgspec.json.decode(attributes),
        resource=resource,
        agent_id=agent_id,
        session_id=session_id,
    )
