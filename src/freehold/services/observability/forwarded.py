"""Writers that keep what they get and put it into the queue for the operator's collector: durable
is only what is in both."""

from collections.abc import Sequence
from typing import Protocol

from freehold.kernel.pages import Page
from freehold.ports.spans import SpanRecord
from freehold.ports.telemetry import LogRecord, LogStore, LogsWanted, MetricPoint, MetricStore
from freehold.services.observability.forwarding import Forwarding


class SpanWriter(Protocol):
    async def write(self, spans: Sequence[SpanRecord]) -> None: ...


class ForwardedSpans:
    """Where it fails in between, whoever brought the spans brings them again, and one that is kept
    already changes nothing."""

    def __init__(self, spans: SpanWriter, forwarding: Forwarding) -> None:
        self._spans, self._forwarding = spans, forwarding

    async def write(self, spans: Sequence[SpanRecord]) -> None:
        await self._spans.write(spans)
        await self._forwarding.take_spans(spans)


class ForwardedLogs:
    def __init__(self, records: LogStore, forwarding: Forwarding) -> None:
        self._records, self._forwarding = records, forwarding

    async def write(self, records: Sequence[LogRecord]) -> None:
        await self._records.write(records)
        await self._forwarding.take_logs(records)

    async def logs(
        self, tenant: str, wanted: LogsWanted, *, limit: int, token: str | None = None
    ) -> Page[LogRecord]:
        return await self._records.logs(tenant, wanted, limit=limit, token=token)


class ForwardedPoints:
    def __init__(self, points: MetricStore, forwarding: Forwarding) -> None:
        self._points, self._forwarding = points, forwarding

    async def write(self, points: Sequence[MetricPoint]) -> None:
        await self._points.write(points)
        await self._forwarding.take_points(points)

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
        return await self._points.points(
            tenant, name, since_ns=since_ns, until_ns=until_ns, agent_id=agent_id, limit=limit
        )

    async def names(self, tenant: str, *, since_ns: int) -> list[str]:
        return await self._points.names(tenant, since_ns=since_ns)
