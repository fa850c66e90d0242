"""Reading what was traced. Every answer is of one tenant; another's trace is NotFound."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from freehold.kernel.clock import now
from freehold.kernel.errors import NotFound
from freehold.kernel.pages import Page
from freehold.ports.spans import SpanRecord, SpanStore, Wanted
from freehold.ports.telemetry import LogRecord, LogStore, LogsWanted
from freehold.services.observability.explaining import Explaining, SpanExplanation
from freehold.services.observability.ports import SpanNews
from freehold.services.observability.views import (
    SessionLine,
    SpanView,
    TraceLine,
    session_line,
    span_view,
    summary,
    trace_line,
    tree,
)

SPANS_MAX = 20_000
_LOGS_MAX = 1_000
_AT_ONCE = 100
"""Spans that are read before other requests of this worker get their turn."""
_SESSION_TRACES_MAX = 1_000
_NEWEST_LOOKED_AT = 200
_GATHER_SECONDS = 0.25
_ALIVE_SECONDS = 20.0
_HOUR_NS = 3_600 * 10**9


class TraceView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`spans` in the order of the tree: each after its parent, with its depth. `truncated`: there
    are more than were read."""

    trace: TraceLine
    spans: list[SpanView]
    truncated: bool


class TracedSessionView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`traces` as they came one after another: what the session did, from its beginning."""

    session: SessionLine
    traces: list[TraceLine]
    truncated: bool


class WatchLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A trace as it is now, again after each change; or a span, once. A line with neither says
    that the watch goes on."""

    trace: TraceLine | None = None
    span: SpanView | None = None


class Queries:
    def __init__(
        self, store: SpanStore, *, logs: LogStore | None = None, news: SpanNews | None = None
    ) -> None:
        self.store = store
        self._logs, self._news = logs, news

    async def trace(
        self,
        tenant: str,
        trace_id: str,
        *,
        content: bool = False,
        raw: bool = False,
        spans_max: int = SPANS_MAX,
    ) -> TraceView:
        spans = await self._spans(tenant, trace_id, spans_max + 1)
        logs = await self._logs_of(tenant, spans) if content else {}
        shown = spans[:spans_max]
        views: list[SpanView] = []
        for number, (span, depth, orphan) in enumerate(tree(shown)):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            views.append(
                span_view(
                    span, content=content, raw=raw, logs=logs.get(span.span_id, ()), depth=depth,
                    orphan=orphan,
                )
            )  # fmt: skip
        return TraceView(
            trace=trace_line(summary(shown)),
            spans=views,
            truncated=len(spans) > spans_max,
        )

    async def span(
        self, tenant: str, trace_id: str, span_id: str, *, raw: bool = False
    ) -> SpanView:
        span = await self.store.span(tenant, trace_id, span_id)
        if span is None:
            raise NotFound(f"no span {span_id} in a trace {trace_id}")
        logs = await self._logs_of(tenant, [span], span_id=span_id)
        return span_view(span, raw=raw, logs=logs.get(span_id, ()))

    async def explanation(self, tenant: str, trace_id: str, span_id: str) -> SpanExplanation:
        spans = await self._spans(tenant, trace_id, SPANS_MAX)
        target = next((span for span in spans if span.span_id == span_id), None)
        if target is None:
            raise NotFound(f"no span {span_id} in a trace {trace_id}")
        return Explaining(spans, await self._logs_of(tenant, spans)).explain(target)

    async def traces(
        self, tenant: str, wanted: Wanted, *, limit: int, token: str | None
    ) -> Page[TraceLine]:
        page = await self.store.traces(tenant, wanted, limit=limit, token=token)
        return Page([trace_line(each) for each in page.items], page.next_token)

    async def spans(
        self, tenant: str, wanted: Wanted, *, operation: str, limit: int, token: str | None,
        content: bool,
    ) -> Page[SpanView]:  # fmt: skip
        page = await self.store.spans(tenant, wanted, operation=operation, limit=limit, token=token)
        return Page([span_view(each, content=content) for each in page.items], page.next_token)

    async def sessions(
        self, tenant: str, wanted: Wanted, *, limit: int, token: str | None
    ) -> Page[SessionLine]:
        page = await self.store.sessions(tenant, wanted, limit=limit, token=token)
        return Page([session_line(each) for each in page.items], page.next_token)

    async def session(
        self, tenant: str, session_id: str, *, window: tuple[int, int]
    ) -> TracedSessionView:
        wanted = Wanted(since_ns=window[0], until_ns=window[1], session_id=session_id)
        found = await self.store.sessions(tenant, wanted, limit=1)
        if not found.items:
            raise NotFound(f"no traces of a session {session_id} in that time")
        page = await self.store.traces(tenant, wanted, limit=_SESSION_TRACES_MAX)
        traces = sorted(page.items, key=lambda trace: (trace.started_ns, trace.trace_id))
        return TracedSessionView(
            session=session_line(found.items[0]),
            traces=[trace_line(each) for each in traces],
            truncated=page.next_token is not None,
        )

    async def watch(self, tenant: str, wanted: Wanted) -> AsyncIterator[WatchLine]:
        """Traces that fit, as they come and change, until the reader goes away. What news came
        within a moment is looked up together. Where nothing comes, a line says so now and then:
        else nobody would notice that the reader has gone."""
        async for changed in self._changes(tenant):
            if changed is None:
                yield WatchLine()
                continue
            recent = msgspec.structs.replace(
                wanted, until_ns=_now_ns() + _HOUR_NS, since_ns=_now_ns() - _HOUR_NS
            )
            page = await self.store.traces(tenant, recent, limit=_NEWEST_LOOKED_AT)
            for each in reversed(page.items):
                if not changed or each.trace_id in changed:
                    yield WatchLine(trace=trace_line(each))

    async def watch_trace(self, tenant: str, trace_id: str) -> AsyncIterator[WatchLine]:
        """The spans of one trace that are there, then those that come."""
        seen: set[str] = set()
        for span in await self.store.trace(tenant, trace_id, spans_max=SPANS_MAX):
            seen.add(span.span_id)
            yield WatchLine(span=span_view(span, content=False))
        async for changed in self._changes(tenant, again=True):
            if changed is None:
                yield WatchLine()
                continue
            if changed and trace_id not in changed:
                continue
            for span in await self.store.trace(tenant, trace_id, spans_max=SPANS_MAX):
                if span.span_id not in seen:
                    seen.add(span.span_id)
                    yield WatchLine(span=span_view(span, content=False))

    async def _changes(
        self, tenant: str, *, again: bool = False
    ) -> AsyncIterator[frozenset[str] | None]:
        """Trace ids as they are told of; None after a while of silence. `again`: what came before
        this began to listen may have been missed."""
        assert self._news is not None, "who watches is given news"
        async with self._news.follow(tenant) as news:
            if again:
                yield frozenset()
            coming = asyncio.ensure_future(anext(news))
            try:
                while True:
                    done, _ = await asyncio.wait((coming,), timeout=_ALIVE_SECONDS)
                    if not done:
                        yield None
                        continue
                    first = coming.result()
                    coming = asyncio.ensure_future(anext(news))
                    await asyncio.sleep(_GATHER_SECONDS)
                    if coming.done() and not coming.cancelled():
                        more = coming.result()
                        first = first | more if first and more else frozenset()
                        coming = asyncio.ensure_future(anext(news))
                    yield first
            finally:
                coming.cancel()

    async def _spans(self, tenant: str, trace_id: str, spans_max: int) -> list[SpanRecord]:
        spans = await self.store.trace(tenant, trace_id, spans_max=spans_max)
        if not spans:
            raise NotFound(f"there is no trace {trace_id}")
        return spans

    async def _logs_of(
        self, tenant: str, spans: Sequence[SpanRecord], *, span_id: str = ""
    ) -> Mapping[str, list[LogRecord]]:
        """By span. Instrumentations wrote messages as logs before they wrote them as attributes."""
        if self._logs is None:
            return {}
        wanted = LogsWanted(
            since_ns=min(span.started_ns for span in spans) - _HOUR_NS,
            until_ns=max(span.ended_ns for span in spans) + _HOUR_NS,
            trace_id=spans[0].trace_id,
            span_id=span_id,
            oldest_first=True,
        )
        found: defaultdict[str, list[LogRecord]] = defaultdict(list)
        for log in (await self._logs.logs(tenant, wanted, limit=_LOGS_MAX)).items:
            if log.span_id:
                found[log.span_id].append(log)
        return found


def _now_ns() -> int:
    return int(now().timestamp() * 1e9)
