"""Traces, spans, sessions, series and costs in our own API."""

from collections.abc import AsyncIterator

import msgspec

from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.services.observability import asking, series
from freehold.services.observability.asking import AGENTS, FILTERS, PAGES, TIMES
from freehold.services.observability.explaining import SpanExplanation
from freehold.services.observability.queries import (
    SPANS_MAX,
    Queries,
    TracedSessionView,
    TraceView,
    WatchLine,
)
from freehold.services.observability.series import ModelCostReport, SeriesView
from freehold.services.observability.views import SessionLine, SpanView, TraceLine


class TracePage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Newest first."""

    traces: list[TraceLine]
    next_token: str | None = None


class SpanPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Newest first."""

    spans: list[SpanView]
    next_token: str | None = None


class SessionPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Newest first."""

    sessions: list[SessionLine]
    next_token: str | None = None


_TRACE = Parameter(name="traceId", meaning="The trace: 32 hexadecimal digits", where="path")
_SPAN = Parameter(name="spanId", meaning="The span: 16 hexadecimal digits", where="path")
_SESSION = Parameter(name="sessionId", meaning="The session", where="path")
_RAW = Parameter(
    name="raw", kind="boolean", default=False,
    meaning="With attributes, events and resource as they came",
)  # fmt: skip
_CONTENT = Parameter(
    name="content", kind="boolean", default=False,
    meaning="With messages, arguments and results, where they were captured",
)  # fmt: skip


def operations(queries: Queries) -> list[Operation]:
    own = _Own(queries)
    return [*_traces(own), *_sums(own)]


def _traces(own: "_Own") -> list[Operation]:
    span = "/traces/{traceId}/spans/{spanId}"
    return [
        Operation(
            name="ListTraces", method="GET", path="/traces", act=own.traces,
            summary="Traces, newest first", answer=TracePage, parameters=(*FILTERS, *PAGES),
        ),
        # Before the trace by its id: the first path that fits is taken.
        Operation(
            name="WatchTraces", method="GET", path="/traces/live", act=own.watch, streams=True,
            follows=True,
            summary="Traces as they come and change, or the spans of one, as JSON lines",
            answer=WatchLine,
            parameters=(
                *(each for each in FILTERS if each.name not in ("since", "until")),
                Parameter(name="traceId", meaning="The spans of this trace instead"),
            ),
        ),
        Operation(
            name="GetTrace", method="GET", path="/traces/{traceId}", act=own.trace,
            summary="One trace: its sums, and its spans as a tree", answer=TraceView,
            parameters=(
                _TRACE, _CONTENT, _RAW,
                Parameter(
                    name="limit", meaning="Spans at most", kind="integer", default=SPANS_MAX,
                    minimum=1, maximum=SPANS_MAX,
                ),
            ),
        ),
        Operation(
            name="GetSpan", method="GET", path=span, act=own.span, answer=SpanView,
            summary="One span, with what was said in it where that was captured",
            parameters=(_TRACE, _SPAN, _RAW),
        ),
        Operation(
            name="ExplainSpan", method="GET", path=f"{span}/explanation", act=own.explain,
            summary="What led to a tool call: request, memory, model call with its reasoning, "
            "policy decision, credential, earlier results", answer=SpanExplanation,
            parameters=(_TRACE, _SPAN),
        ),
        Operation(
            name="ListSpans", method="GET", path="/spans", act=own.spans,
            summary="Single spans, newest first; durations, tokens and costs are their own",
            answer=SpanPage,
            parameters=(
                *FILTERS, *PAGES, _CONTENT,
                Parameter(
                    name="operation", meaning="Only of this kind: chat, execute_tool, policy, ..."
                ),
            ),
        ),
    ]  # fmt: skip


def _sums(own: "_Own") -> list[Operation]:
    return [
        Operation(
            name="ListTracedSessions", method="GET", path="/traced-sessions", act=own.sessions,
            summary="Sessions that have traces, newest first", answer=SessionPage,
            parameters=(*FILTERS, *PAGES),
        ),
        Operation(
            name="GetTracedSession", method="GET", path="/traced-sessions/{sessionId}",
            act=own.session, answer=TracedSessionView, parameters=(_SESSION, *_WEEK),
            summary="One session: its sums, and its traces from the first to the last",
        ),
        Operation(
            name="GetTraceSeries", method="GET", path="/trace-series", act=own.series,
            summary="Counts, errors, percentiles, tokens and cost over time", answer=SeriesView,
            parameters=(
                *TIMES, *AGENTS,
                Parameter(
                    name="measured", meaning="What is counted", default="traces",
                    choices=("traces", "model_calls", "tool_calls", "spans"),
                ),
                Parameter(
                    name="by", meaning="A series for each",
                    choices=("agent", "version", "model", "tool", "operation", "status"),
                ),
                Parameter(name="model", meaning="Only of this model"),
                Parameter(name="tool", meaning="Only of this tool"),
                Parameter(
                    name="step", meaning="How far points are apart: 30s, 5m, 1h, 1d; of what fits "
                    "the time asked for, if not given",
                ),
            ),
        ),
        Operation(
            name="GetModelCosts", method="GET", path="/model-costs", act=own.costs,
            summary="Tokens of models and what they cost, in US dollars", answer=ModelCostReport,
            parameters=(
                *TIMES, AGENTS[0],
                Parameter(
                    name="by", meaning="What a row stands for", default="model",
                    choices=("model", "agent", "session", "user", "day"),
                ),
            ),
        ),
    ]  # fmt: skip


_WEEK = (msgspec.structs.replace(TIMES[0], default="30d"), TIMES[1])


class _Own:
    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def traces(self, request: Request, params: Params, _: object) -> TracePage:
        page = await self._queries.traces(
            request.tenant, asking.wanted(params), limit=params["limit"], token=params["nextToken"]
        )
        return TracePage(traces=page.items, next_token=page.next_token)

    async def trace(self, request: Request, params: Params, _: object) -> TraceView:
        return await self._queries.trace(
            request.tenant, _trace_id(params), content=params["content"], raw=params["raw"],
            spans_max=params["limit"],
        )  # fmt: skip

    async def span(self, request: Request, params: Params, _: object) -> SpanView:
        return await self._queries.span(
            request.tenant, _trace_id(params), _span_id(params), raw=params["raw"]
        )

    async def explain(self, request: Request, params: Params, _: object) -> SpanExplanation:
        return await self._queries.explanation(request.tenant, _trace_id(params), _span_id(params))

    async def spans(self, request: Request, params: Params, _: object) -> SpanPage:
        page = await self._queries.spans(
            request.tenant, asking.wanted(params), operation=params["operation"] or "",
            limit=params["limit"], token=params["nextToken"], content=params["content"],
        )  # fmt: skip
        return SpanPage(spans=page.items, next_token=page.next_token)

    async def sessions(self, request: Request, params: Params, _: object) -> SessionPage:
        page = await self._queries.sessions(
            request.tenant, asking.wanted(params), limit=params["limit"], token=params["nextToken"]
        )
        return SessionPage(sessions=page.items, next_token=page.next_token)

    async def session(self, request: Request, params: Params, _: object) -> TracedSessionView:
        return await self._queries.session(
            request.tenant, params["sessionId"], window=asking.window(params)
        )

    async def watch(self, request: Request, params: Params, _: object) -> AsyncIterator[bytes]:
        tenant, trace_id = request.tenant, params["traceId"]
        if trace_id is not None:
            trace_id = asking.hexadecimal("traceId", trace_id, 32)
            return _lines(self._queries.watch_trace(tenant, trace_id))
        wanted = asking.wanted({**params, "since": "1h", "until": None})
        return _lines(self._queries.watch(tenant, wanted))

    async def series(self, request: Request, params: Params, _: object) -> SeriesView:
        return await series.series(
            self._queries.store,
            request.tenant,
            window=asking.window(params),
            step=asking.step("step", params["step"]),
            measured=params["measured"],
            by=params["by"],
            agent_id=params["agentId"] or "",
            agent_version=params["agentVersion"] or "",
            model=params["model"] or "",
            tool=params["tool"] or "",
        )

    async def costs(self, request: Request, params: Params, _: object) -> ModelCostReport:
        return await series.costs(
            self._queries.store,
            request.tenant,
            window=asking.window(params),
            by=params["by"],
            agent_id=params["agentId"] or "",
        )


async def _lines(lines: AsyncIterator[WatchLine]) -> AsyncIterator[bytes]:
    async for line in lines:
        yield msgspec.json.encode(line) + b"\n"


def _trace_id(params: Params) -> str:
    return asking.hexadecimal("traceId", params["traceId"], 32)


def _span_id(params: Params) -> str:
    return asking.hexadecimal("spanId", params["spanId"], 16)
