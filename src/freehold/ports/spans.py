"""The store of spans: written in batches, read by trace, list and series. Postgres, by default.

Times are nanoseconds since 1970; costs are US dollars. A tenant sees its own alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from freehold.kernel.pages import Page

Origin = Literal["platform", "agent", "client"]
"""Who says so: the platform itself, code in a sandbox, or somebody who sent OTLP to the edge."""


class SpanEvent(msgspec.Struct, frozen=True, array_like=True):
    name: str
    at_ns: int
    attributes: dict[str, Any] = {}


class SpanLink(msgspec.Struct, frozen=True, array_like=True):
    trace_id: str
    span_id: str
    attributes: dict[str, Any] = {}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the mapper made of the raw attributes when the span came in; lists and sums use it.

    `operation` is one of the GenAI conventions (chat, embeddings, execute_tool, invoke_agent,
    retrieval, ...), "policy" or "credential"; "" for everything else. `metered`: a model call that
    the platform itself counted, where others are told by agents.
    """

    operation: str = ""
    provider: str = ""
    model: str = ""
    tool: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    metered: bool = False


class SpanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`agent_id` is a runtime's id. Ids are lower-case hexadecimal; `parent_id` "" for a root.
    `kind` and `status` as OTLP numbers them. Attributes are raw, as they came."""

    tenant: str
    trace_id: str
    span_id: str
    name: str
    started_ns: int
    ended_ns: int
    origin: Origin
    parent_id: str = ""
    kind: int = 1
    status: int = 0
    message: str = ""
    attributes: dict[str, Any] = {}
    events: Sequence[SpanEvent] = ()
    links: Sequence[SpanLink] = ()
    resource: dict[str, Any] = {}
    scope: str = ""
    scope_version: str = ""
    agent_id: str = ""
    agent_version: str = ""
    endpoint: str = ""
    session_id: str = ""
    user: str = ""
    facts: Facts = Facts()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Traces or sessions; all that are set must hold. `tags` are attributes of any of its spans,
    `text` is in any name, attribute or event, whatever its case."""

    since_ns: int
    until_ns: int
    agent_id: str = ""
    agent_version: str = ""
    user: str = ""
    session_id: str = ""
    status: Literal["", "ok", "error"] = ""
    name: str = ""
    model: str = ""
    tool: str = ""
    duration_ms_min: float | None = None
    duration_ms_max: float | None = None
    tokens_min: int | None = None
    tokens_max: int | None = None
    cost_min: float | None = None
    cost_max: float | None = None
    tags: Mapping[str, str] = {}
    text: str = ""


class TraceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is the root's, or that of its earliest span while the root is not there (`complete`).
    Calls, tokens and costs are what was metered, where anything was, else what was told. Of a trace
    that began elsewhere the platform's own first span (`freehold.entry`) is the root."""

    trace_id: str
    name: str
    started_ns: int
    ended_ns: int
    complete: bool
    agent_id: str
    agent_version: str
    session_id: str
    user: str
    spans: int
    errors: int
    model_calls: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    models: Sequence[str]


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    agent_id: str
    user: str
    started_ns: int
    ended_ns: int
    traces: int
    errors: int
    model_calls: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None


SeriesGroup = Literal["agent", "version", "model", "tool", "operation", "status"]
Measured = Literal["traces", "model_calls", "tool_calls", "spans"]


class SeriesWanted(msgspec.Struct, frozen=True, kw_only=True):
    """`measured` chooses which spans are counted: roots, model calls, tool calls or all."""

    since_ns: int
    until_ns: int
    step_seconds: int
    measured: Measured = "traces"
    by: SeriesGroup | None = None
    agent_id: str = ""
    agent_version: str = ""
    model: str = ""
    tool: str = ""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a series. Percentiles come of a histogram, within 5% of the true ones; None
    where nothing was counted."""

    at_ns: int
    group: str
    count: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    input_tokens: int
    output_tokens: int
    cost: float | None


class SpanStore(Protocol):
    async def write(self, spans: Sequence[SpanRecord]) -> None:
        """Durable on return; a span that is there already changes nothing. Raises Unavailable."""

    async def trace(
        self, tenant: str, trace_id: str, *, spans_max: int = 20_000
    ) -> list[SpanRecord]:
        """By start. Empty: there is none."""

    async def span(self, tenant: str, trace_id: str, span_id: str) -> SpanRecord | None: ...

    async def traces(
        self, tenant: str, wanted: Wanted, *, limit: int, token: str | None = None
    ) -> Page[TraceSummary]:
        """Newest first. Raises ValidationFailed for a token that is none."""

    async def sessions(
        self, tenant: str, wanted: Wanted, *, limit: int, token: str | None = None
    ) -> Page[SessionSummary]:
        """Newest first."""

    async def spans(
        self, tenant: str, wanted: Wanted, *, operation: str = "", limit: int,
        token: str | None = None,
    ) -> Page[SpanRecord]:  # fmt: skip
        """Single spans, newest first; durations, tokens and costs are then the span's own."""

    async def series(self, tenant: str, wanted: SeriesWanted) -> list[Point]:
        """By time, then group. Steps without anything are left out."""

    async def erase_session(self, tenant: str, session_id: str) -> int:
        """How many spans went."""
