"""Stores of spans and log records, in memory: the ports' words taken literally, in small pages."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from freehold.kernel.pages import Page
from freehold.ports.spans import (
    Point,
    SeriesWanted,
    SessionSummary,
    SpanRecord,
    TraceSummary,
    Wanted,
)
from freehold.ports.telemetry import LogRecord, LogsWanted

T = TypeVar("T")
PAGE = 7


class SpansInMemory:
    def __init__(self) -> None:
        self.kept: list[SpanRecord] = []
        self.asked: list[Wanted] = []

    async def write(self, spans: Sequence[SpanRecord]) -> None:
        self.kept += spans

    async def trace(
        self, tenant: str, trace_id: str, *, spans_max: int = 20_000
    ) -> list[SpanRecord]:
        found = [s for s in self.kept if s.tenant == tenant and s.trace_id == trace_id]
        return sorted(found, key=lambda s: s.started_ns)[:spans_max]

    async def span(self, tenant: str, trace_id: str, span_id: str) -> SpanRecord | None:
        found = await self.trace(tenant, trace_id)
        return next((s for s in found if s.span_id == span_id), None)

    async def spans(
        self, tenant: str, wanted: Wanted, *, operation: str = "", limit: int,
        token: str | None = None,
    ) -> Page[SpanRecord]:  # fmt: skip
        self.asked.append(wanted)

        def fits(span: SpanRecord) -> bool:
            return (
                wanted.since_ns <= span.started_ns < wanted.until_ns
                and wanted.session_id in ("", span.session_id)
                and wanted.agent_id in ("", span.agent_id)
                and wanted.text.lower() in _text_of(span).lower()
            )

        found = [s for s in self.kept if s.tenant == tenant and fits(s)]
        return _page(sorted(found, key=lambda s: -s.started_ns), token)

    async def traces(
        self, tenant: str, wanted: Wanted, *, limit: int, token: str | None = None
    ) -> Page[TraceSummary]:
        raise NotImplementedError

    async def sessions(
        self, tenant: str, wanted: Wanted, *, limit: int, token: str | None = None
    ) -> Page[SessionSummary]:
        raise NotImplementedError

    async def series(self, tenant: str, wanted: SeriesWanted) -> list[Point]:
        raise NotImplementedError

    async def erase_session(self, tenant: str, session_id: str) -> int:
        raise NotImplementedError


class LogsInMemory:
    def __init__(self) -> None:
        self.kept: list[LogRecord] = []

    async def write(self, records: Sequence[LogRecord]) -> None:
        self.kept += records

    async def logs(
        self, tenant: str, wanted: LogsWanted, *, limit: int, token: str | None = None
    ) -> Page[LogRecord]:
        fits: Callable[[LogRecord], bool] = lambda r: (  # noqa: E731
            wanted.since_ns <= r.at_ns < wanted.until_ns
            and wanted.agent_id in ("", r.agent_id)
            and wanted.session_id in ("", r.session_id)
            and wanted.trace_id in ("", r.trace_id)
        )
        found = [r for r in self.kept if r.tenant == tenant and fits(r)]
        return _page(sorted(found, key=lambda r: -r.at_ns), token)


def _page(found: Sequence[T], token: str | None) -> Page[T]:
    begin = int(token or 0)
    end = begin + PAGE
    return Page(list(found[begin:end]), str(end) if end < len(found) else None)


def _text_of(span: SpanRecord) -> str:
    events: list[Any] = [[event.name, event.attributes] for event in span.events]
    return msgspec.json.encode([span.name, span.attributes, events]).decode()
