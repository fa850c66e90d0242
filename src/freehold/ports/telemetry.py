"""The stores of what OTLP brings besides spans: log records and points of metrics."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from freehold.kernel.pages import Page
from freehold.ports.spans import Origin


class LogRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`severity` as OTLP numbers it, 1 to 24; 0: not said. `body` is any JSON. `event` is the
    record's event name, where it has one."""

    tenant: str
    at_ns: int
    origin: Origin
    body: Any = None
    event: str = ""
    severity: int = 0
    severity_text: str = ""
    attributes: dict[str, Any] = {}
    resource: dict[str, Any] = {}
    scope: str = ""
    trace_id: str = ""
    span_id: str = ""
    agent_id: str = ""
    endpoint: str = ""
    session_id: str = ""


class LogsWanted(msgspec.Struct, frozen=True, kw_only=True):
    since_ns: int
    until_ns: int
    agent_id: str = ""
    session_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    event: str = ""
    severity_min: int = 0
    text: str = ""
    oldest_first: bool = False


class LogStore(Protocol):
    async def write(self, records: Sequence[LogRecord]) -> None:
        """Durable on return. Raises Unavailable."""

    async def logs(
        self, tenant: str, wanted: LogsWanted, *, limit: int, token: str | None = None
    ) -> Page[LogRecord]: ...


class MetricPoint(msgspec.Struct, frozen=True, kw_only=True):
    """`value` of a gauge or a sum; of a histogram `count`, `sum`, `bounds` and `buckets`."""

    tenant: str
    at_ns: int
    started_ns: int
    origin: Origin
    name: str
    unit: str = ""
    kind: Literal["gauge", "sum", "histogram"]
    monotonic: bool = False
    delta: bool = False
    value: float | None = None
    count: int | None = None
    sum: float | None = None
    bounds: Sequence[float] = ()
    buckets: Sequence[int] = ()
    attributes: dict[str, Any] = {}
    resource: dict[str, Any] = {}
    agent_id: str = ""
    session_id: str = ""


class MetricStore(Protocol):
    async def write(self, points: Sequence[MetricPoint]) -> None:
        """Durable on return. Raises Unavailable."""

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
        """Oldest first."""

    async def names(self, tenant: str, *, since_ns: int) -> list[str]: ...
