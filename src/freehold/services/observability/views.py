"""Traces, spans and sessions as our own API shows them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from freehold.kernel.tracing import Status
from freehold.ports.replay import REPLAY
from freehold.ports.spans import SessionSummary, SpanRecord, TraceSummary
from freehold.ports.telemetry import LogRecord
from freehold.services.observability import conventions as c
from freehold.services.observability import mapper
from freehold.services.observability.model import Normalised

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")
_DEPTH_MAX = 1_000


class EventView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    name: str
    at: datetime
    attributes: Mapping[str, Any] = {}


class RawSpan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """As it came, content and all, after the rules of redaction."""

    attributes: Mapping[str, Any]
    events: list[EventView]
    links: list[dict[str, Any]]
    resource: Mapping[str, Any]


class SpanView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`depth` and `orphan` in a tree: the root is 0; an orphan's parent never came, and it stands
    below the root. `content` is left out of lists and trees unless asked for."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    name: str
    kind: str
    status: str
    message: str = ""
    origin: str
    started_at: datetime
    duration_ms: float
    agent_id: str = ""
    agent_version: str = ""
    session_id: str = ""
    user: str = ""
    scope: str = ""
    depth: int = 0
    orphan: bool = False
    cost: float | None = None
    is_: Normalised = msgspec.field(name="is")
    exceptions: list[EventView] = []
    raw: RawSpan | None = None


class TraceLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`complete`: its root has come. `cost` is null where no price is known."""

    trace_id: str
    name: str
    started_at: datetime
    duration_ms: float
    status: str
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


class SessionLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    session_id: str
    agent_id: str
    user: str
    started_at: datetime
    ended_at: datetime
    traces: int
    errors: int
    model_calls: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None


def at(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)


def trace_line(summary: TraceSummary) -> TraceLine:
    return TraceLine(
        trace_id=summary.trace_id,
        name=summary.name,
        started_at=at(summary.started_ns),
        duration_ms=_ms(summary.started_ns, summary.ended_ns),
        status="error" if summary.errors else "ok",
        complete=summary.complete,
        agent_id=summary.agent_id,
        agent_version=summary.agent_version,
        session_id=summary.session_id,
        user=summary.user,
        spans=summary.spans,
        errors=summary.errors,
        model_calls=summary.model_calls,
        tool_calls=summary.tool_calls,
        input_tokens=summary.input_tokens,
        output_tokens=summary.output_tokens,
        cost=summary.cost,
        models=summary.models,
    )


def session_line(summary: SessionSummary) -> SessionLine:
    same = {name: getattr(summary, name) for name in _SAME_OF_SESSIONS}
    return SessionLine(started_at=at(summary.started_ns), ended_at=at(summary.ended_ns), **same)


_SAME_OF_SESSIONS = tuple(
    name for name in SessionLine.__struct_fields__ if name not in ("started_at", "ended_at")
)


def span_view(
    span: SpanRecord,
    *,
    content: bool = True,
    raw: bool = False,
    logs: Sequence[LogRecord] = (),
    depth: int = 0,
    orphan: bool = False,
) -> SpanView:
    return SpanView(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        name=span.name,
        kind=KINDS[span.kind] if 0 <= span.kind < len(KINDS) else str(span.kind),
        status=STATUSES[span.status] if 0 <= span.status < len(STATUSES) else str(span.status),
        message=span.message,
        origin=span.origin,
        started_at=at(span.started_ns),
        duration_ms=_ms(span.started_ns, span.ended_ns),
        agent_id=span.agent_id,
        agent_version=span.agent_version,
        session_id=span.session_id,
        user=span.user,
        scope=span.scope,
        depth=depth,
        orphan=orphan,
        cost=span.facts.cost,
        is_=mapper.normalised(span, logs, content=content),
        exceptions=[_event(e) for e in span.events if e.name == "exception"],
        raw=_raw(span) if raw else None,
    )


def _event(event: Any) -> EventView:
    return EventView(name=event.name, at=at(event.at_ns), attributes=event.attributes)


def _raw(span: SpanRecord) -> RawSpan:
    links = [
        {"traceId": link.trace_id, "spanId": link.span_id, "attributes": link.attributes}
        for link in span.links
    ]
    return RawSpan(
        attributes=span.attributes,
        events=[_event(event) for event in span.events],
        links=links,
        resource=span.resource,
    )


def tree(spans: Iterable[SpanRecord]) -> list[tuple[SpanRecord, int, bool]]:
    """Each span after its parent, children by their start, with depth and whether it is an orphan.

    The root is the earliest span without a parent, or where the platform was entered in a trace
    that began elsewhere. What has a parent that never came stands below it, or on the first level
    where there is no root. Spans that are each other's parents too.
    """
    ordered = sorted(spans, key=lambda span: (span.started_ns, span.span_id))
    known = {span.span_id for span in ordered}
    begins = [span for span in ordered if not span.parent_id]
    begins += [span for span in ordered if _enters(span) and span.parent_id not in known]
    root = begins[0] if begins else None
    first = {span.span_id for span in begins}
    children: defaultdict[str, list[SpanRecord]] = defaultdict(list)
    tops, orphans = [], set()
    for span in ordered:
        if span.span_id in first:
            tops.append(span)
        elif span.parent_id in known and span.parent_id != span.span_id:
            children[span.parent_id].append(span)
        else:
            orphans.add(span.span_id)
            (tops if root is None else children[root.span_id]).append(span)
    found: list[tuple[SpanRecord, int, bool]] = []
    seen: set[str] = set()
    _walk(tops, children, orphans, found, seen)
    for span in ordered:  # a ring of parents hangs from nowhere
        if span.span_id not in seen:
            orphans.add(span.span_id)
            _walk([span], children, orphans, found, seen)
    return found


def _enters(span: SpanRecord) -> bool:
    return span.origin == "platform" and bool(span.attributes.get("freehold.entry"))


def _walk(
    tops: Sequence[SpanRecord],
    children: Mapping[str, list[SpanRecord]],
    orphans: set[str],
    found: list[tuple[SpanRecord, int, bool]],
    seen: set[str],
) -> None:
    """Without recursion: an agent may send a chain of any depth."""
    stack = [(span, 0) for span in reversed(tops)]
    while stack:
        span, depth = stack.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        found.append((span, depth, span.span_id in orphans))
        below = sorted(
            children.get(span.span_id, ()), key=lambda child: (child.started_ns, child.span_id)
        )
        stack += [(child, min(depth + 1, _DEPTH_MAX)) for child in reversed(below)]


def summary(spans: Sequence[SpanRecord]) -> TraceSummary:
    """Of all the spans of a trace, as the store's lists have it. Model calls may be there thrice:
    metered by the platform, told by whoever made them, summed up by the agent around them. What was
    metered counts, where anything was, else the larger of the others' accounts."""
    ordered = sorted(spans, key=lambda span: span.started_ns)
    root = next((span for span in ordered if not span.parent_id), None)
    root = root or next((span for span in ordered if _enters(span)), None)
    calls = [s for s in ordered if s.facts.operation in c.MODEL_OPERATIONS]
    metered = _Account.of(s for s in calls if s.facts.metered)
    # One within another is the same call, told by a framework and by the client that it uses.
    around = {call.span_id for call in calls}
    own = [s for s in calls if not s.facts.metered and s.parent_id not in around]
    again = [s for s in calls if not s.facts.metered and s.parent_id in around]
    told = _Account.of(own)
    whole = (s for s in ordered if s.facts.operation in c.SUMMING_OPERATIONS)
    accounts = [told, *(_Account.of([span]) for span in (*whole, *again))]
    # Where calls were answered from a record, an agent tells what they took when it was recorded.
    if metered.calls or any(REPLAY in span.attributes for span in calls):
        accounts = [metered]
    costs = [account.cost for account in accounts if account.cost is not None]
    tools = [s for s in ordered if s.facts.operation == c.TOOL_OPERATION]
    of_platform = sum(1 for s in tools if s.origin == "platform")
    return TraceSummary(
        trace_id=ordered[0].trace_id,
        name=(root or ordered[0]).name,
        started_ns=ordered[0].started_ns,
        ended_ns=max(span.ended_ns for span in ordered),
        complete=root is not None,
        agent_id=_first(ordered, root, "agent_id"),
        agent_version=_first(ordered, root, "agent_version"),
        session_id=_first(ordered, root, "session_id"),
        user=_first(ordered, root, "user"),
        spans=len(ordered),
        errors=sum(1 for span in ordered if span.status == Status.ERROR),
        model_calls=metered.calls or told.calls,
        tool_calls=max(of_platform, len(tools) - of_platform),
        input_tokens=max(account.input for account in accounts),
        output_tokens=max(account.output for account in accounts),
        cost=max(costs) if costs else None,
        models=sorted({s.facts.model for s in ordered if s.facts.model}),
    )


class _Account(NamedTuple):
    calls: int
    input: int
    output: int
    cost: float | None

    @classmethod
    def of(cls, spans: Iterable[SpanRecord]) -> "_Account":
        facts = [span.facts for span in spans]
        known = [each.cost for each in facts if each.cost is not None]
        return cls(
            len(facts),
            sum(each.input_tokens for each in facts),
            sum(each.output_tokens for each in facts),
            sum(known) if known else None,
        )


def _first(spans: Sequence[SpanRecord], root: SpanRecord | None, name: str) -> str:
    candidates = spans if root is None else (root, *spans)
    return next((value for span in candidates if (value := getattr(span, name))), "")


def _ms(started_ns: int, ended_ns: int) -> float:
    return round(max(ended_ns - started_ns, 0) / 1e6, 3)
