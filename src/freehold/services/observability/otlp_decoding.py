"""OTLP's requests as records of ours, one by one; what is broken is told apart from the rest.

Attributes stay as they came, whatever conventions they follow: the mapper knows those.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from freehold.kernel.errors import ValidationFailed
from freehold.ports.exports import RequestTooLarge, Signal, Source
from freehold.ports.spans import SpanEvent, SpanLink, SpanRecord
from freehold.ports.telemetry import LogRecord
from freehold.services.observability import otlp_envelope, otlp_json
from freehold.services.observability.otlp_identity import Whose, known, told
from freehold.services.observability.otlp_spans import SpanPieces, SpanWire
from freehold.services.observability.otlp_values import (
    JSON,
    PROTOBUF,
    NotTaken,
    Wire,
    text,
)

NAME_CHARACTERS_MAX = 1000
MESSAGE_CHARACTERS_MAX = 16_000
_ITEM_BYTES_MAX = 4 << 20
_JSON_OBJECTS_MAX = 1_000_000
_ATTRIBUTES_MAX, _EVENTS_MAX, _LINKS_MAX = 2000, 2000, 1000
_TRACE_ID, _SPAN_ID = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{16}")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_AHEAD_NS_MAX = 3600 * 10**9
_KINDS = tuple(
    "SPAN_KIND_" + name
    for name in ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
)
_STATUSES = ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")
_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_SEVERITIES = (
    "SEVERITY_NUMBER_UNSPECIFIED",
    *(f"SEVERITY_NUMBER_{level}{more}" for level in _LEVELS for more in ("", "2", "3", "4")),
)


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """When telemetry may be of: older is out of the store's days already, later a wrong clock."""

    now_ns: int
    age_ns_max: int = 30 * 86400 * 10**9

    def check(self, at_ns: int) -> None:
        if at_ns <= 0:
            raise NotTaken("no time")
        if at_ns > self.now_ns + _AHEAD_NS_MAX:
            raise NotTaken("a time in the future: check that machine's clock")
        if at_ns < self.now_ns - self.age_ns_max:
            raise NotTaken(f"a time more than {self.age_ns_max // 86400 // 10**9} days ago")


class Group(NamedTuple):
    """What one scope of one resource sent; `open` decodes an item as far as it is not."""

    wire: Wire
    resource: dict[str, Any]
    scope: str
    scope_version: str
    items: Sequence[Any]
    open: Callable[[Any], Any]


class _Kind(NamedTuple):
    """Of a signal: its items in protobuf, in JSON, and their member's names there."""

    protobuf: Any
    json: type[Any]
    resources: str
    scopes: str
    items: str


_KIND_OF: dict[Signal, _Kind] = {
    "traces": _Kind(SpanPieces, otlp_json.Span, "resource_spans", "scope_spans", "spans"),
    "logs": _Kind(
        logs_pb2.LogRecord, otlp_json.LogRecord, "resource_logs", "scope_logs", "log_records"
    ),
    "metrics": _Kind(Metric, otlp_json.Metric, "resource_metrics", "scope_metrics", "metrics"),
}


def groups(body: bytes, signal: Signal, *, json: bool) -> Iterator[Group]:
    """Raises ValidationFailed for a body that is no request at all, RequestTooLarge."""
    kind = _KIND_OF[signal]
    return _json_groups(body, kind) if json else _protobuf_groups(body, kind)


def _protobuf_groups(body: bytes, kind: _Kind) -> Iterator[Group]:
    spans = kind.protobuf is SpanPieces
    wire, open_item = (SpanWire(), SpanPieces) if spans else (PROTOBUF, kind.protobuf.FromString)
    resource_bytes, resource = b"", _resource(PROTOBUF, Resource())
    for sent, scope_bytes, items in otlp_envelope.scopes(body):
        try:
            if sent != resource_bytes:
                resource_bytes, resource = sent, _resource(PROTOBUF, Resource.FromString(sent))
            scope = InstrumentationScope.FromString(scope_bytes)
        except DecodeError as error:
            raise ValidationFailed(f"the body is no OTLP request: {error}") from None
        yield _group(wire, resource, scope, items, open_item)


def _json_groups(body: bytes, kind: _Kind) -> Iterator[Group]:
    if body.count(b"{") > _JSON_OBJECTS_MAX:
        raise RequestTooLarge(f"more than {_JSON_OBJECTS_MAX} objects in one request")
    try:
        request = otlp_json.request(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValidationFailed(f"the body is no OTLP request: {str(error)[:200]}") from None
    items_left = otlp_envelope.ITEMS_MAX
    for resource_group in getattr(request, kind.resources) or ():
        resource = _resource(JSON, resource_group.resource)
        for scope_group in getattr(resource_group, kind.scopes) or ():
            items = getattr(scope_group, kind.items) or ()
            items_left -= len(items)
            if items_left < 0:
                raise RequestTooLarge(f"more than {otlp_envelope.ITEMS_MAX} items in one request")
            yield _group(
                JSON, resource, scope_group.scope, items,
                lambda raw: otlp_json.item(raw, kind.json),
            )  # fmt: skip


def _group(
    wire: Wire, resource: dict[str, Any], scope: Any, items: Sequence[Any], open: Any
) -> Group:
    return Group(
        wire,
        resource,
        text(scope.name or "")[:NAME_CHARACTERS_MAX] if scope else "",
        text(scope.version or "")[:NAME_CHARACTERS_MAX] if scope else "",
        items,
        open,
    )


def _resource(wire: Wire, resource: Any) -> dict[str, Any]:
    """A resource whose attributes cannot be read is none: what it has sent is taken still."""
    if resource is None:
        return {}
    try:
        return wire.attributes(resource.attributes)
    except NotTaken:
        return {}


Refused = NotTaken

ASGI_EVENT = "asgi.event.type"
"""Of the spans `... http send` and `... http receive`, which instrumentations of ASGI make for each
message, and so for each piece of a streamed answer, below the request's own. They are not kept, as
AWS's distribution of OpenTelemetry keeps none of agents."""


def each(
    body: bytes,
    signal: Signal,
    read: Callable[[Group, Any, Whose], Iterable[Any]],
    source: Source,
    *,
    json: bool,
) -> Iterator[Any]:
    """What `read` makes of every item, and a Refused for each that cannot be taken."""
    for group in groups(body, signal, json=json):
        whose = told(source, group.resource, known(source))
        for raw in group.items:
            try:
                if len(raw) > _ITEM_BYTES_MAX:
                    raise NotTaken(f"one of more than {_ITEM_BYTES_MAX >> 20} MiB")
                yield from read(group, group.open(raw), whose)
            except NotTaken as reason:
                yield reason
            except (DecodeError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
                yield Refused(f"one that cannot be read: {str(error)[:200]}")


def spans(
    body: bytes, source: Source, bounds: Bounds, *, json: bool
) -> Iterator[SpanRecord | Refused]:
    def read(group: Group, span: Any, whose: Whose) -> Iterator[SpanRecord]:
        record = _span(group, span, whose, source, bounds)
        if ASGI_EVENT not in record.attributes:
            yield record

    yield from each(body, "traces", read, source, json=json)


def logs(
    body: bytes, source: Source, bounds: Bounds, *, json: bool
) -> Iterator[LogRecord | Refused]:
    def read(group: Group, record: Any, whose: Whose) -> Iterator[LogRecord]:
        yield _log(group, record, whose, source, bounds)

    yield from each(body, "logs", read, source, json=json)


def _span(group: Group, span: Any, whose: Whose, source: Source, bounds: Bounds) -> SpanRecord:
    wire = group.wire
    trace_id, span_id, parent_id = ids(wire, span)
    if not trace_id or not span_id:
        raise NotTaken("a span without a trace id or a span id")
    started_ns = wire.integer(span.start_time_unix_nano)
    # A clock that was set back in between: the span is worth more than its length.
    ended_ns = max(started_ns, wire.integer(span.end_time_unix_nano))
    bounds.check(started_ns)
    bounds.check(ended_ns)
    attributes = bounded_attributes(wire, span.attributes)
    whose = told(source, attributes, whose)
    status = span.status
    return SpanRecord(
        tenant=source.tenant,
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=text(span.name or "")[:NAME_CHARACTERS_MAX],
        started_ns=started_ns,
        ended_ns=ended_ns,
        origin=source.origin,
        kind=_within(wire.enum(span.kind, _KINDS), 1, 5, otherwise=1),
        status=_within(wire.enum(status.code, _STATUSES), 0, 2, otherwise=0) if status else 0,
        message=text(status.message or "")[:MESSAGE_CHARACTERS_MAX] if status else "",
        attributes=attributes,
        events=_events(wire, span.events) if span.events else (),
        links=_links(wire, span.links) if span.links else (),
        resource=group.resource,
        scope=group.scope,
        scope_version=group.scope_version,
        agent_id=whose.agent_id,
        agent_version=source.agent_version,
        endpoint=whose.endpoint,
        session_id=whose.session_id,
        user=whose.user,
    )


def _events(wire: Wire, events: Any) -> list[SpanEvent]:
    if len(events) > _EVENTS_MAX:
        raise NotTaken(f"a span of more than {_EVENTS_MAX} events")
    return [
        SpanEvent(
            text(event.name or "")[:NAME_CHARACTERS_MAX],
            wire.integer(event.time_unix_nano),
            bounded_attributes(wire, event.attributes),
        )
        for event in events
    ]


def _links(wire: Wire, links: Any) -> list[SpanLink]:
    """A link that leads nowhere is left out: the span has no less to tell."""
    if len(links) > _LINKS_MAX:
        raise NotTaken(f"a span of more than {_LINKS_MAX} links")
    found = []
    for link in links:
        trace_id, span_id = wire.id(link.trace_id), wire.id(link.span_id)
        if _TRACE_ID.fullmatch(trace_id) and _SPAN_ID.fullmatch(span_id):
            found.append(SpanLink(trace_id, span_id, bounded_attributes(wire, link.attributes)))
    return found


def _log(group: Group, record: Any, whose: Whose, source: Source, bounds: Bounds) -> LogRecord:
    wire = group.wire
    at_ns = wire.integer(record.time_unix_nano) or wire.integer(record.observed_time_unix_nano)
    at_ns = at_ns or bounds.now_ns
    bounds.check(at_ns)
    attributes = bounded_attributes(wire, record.attributes)
    whose = told(source, attributes, whose)
    trace_id, span_id, _ = ids(wire, record)
    named = record.event_name or attributes.get("event.name") or ""
    return LogRecord(
        tenant=source.tenant,
        at_ns=at_ns,
        origin=source.origin,
        body=wire.value(record.body) if record.body is not None else None,
        event=text(str(named))[:NAME_CHARACTERS_MAX],
        severity=_within(wire.enum(record.severity_number, _SEVERITIES), 0, 24, otherwise=0),
        severity_text=text(record.severity_text or "")[:64],
        attributes=attributes,
        resource=group.resource,
        scope=group.scope,
        trace_id=trace_id,
        span_id=span_id if trace_id else "",
        agent_id=whose.agent_id,
        endpoint=whose.endpoint,
        session_id=whose.session_id,
    )


def ids(wire: Wire, item: Any) -> tuple[str, str, str]:
    """Trace, span and parent; all zeros is none. Raises NotTaken for what is no id."""
    trace_id, span_id = wire.id(item.trace_id), wire.id(item.span_id)
    parent = wire.id(item.parent_span_id) if hasattr(item, "parent_span_id") else ""
    for id, pattern in ((trace_id, _TRACE_ID), (span_id, _SPAN_ID), (parent, _SPAN_ID)):
        if id and not pattern.fullmatch(id):
            raise NotTaken("an id that is not 32 or 16 hexadecimal digits")
    return (
        "" if trace_id == _NO_TRACE else trace_id,
        "" if span_id == _NO_SPAN else span_id,
        "" if parent == _NO_SPAN else parent,
    )


def bounded_attributes(wire: Wire, pairs: Any) -> dict[str, Any]:
    if not pairs:
        return {}
    if len(pairs) > _ATTRIBUTES_MAX:
        raise NotTaken(f"more than {_ATTRIBUTES_MAX} attributes")
    return wire.attributes(pairs)


def _within(number: int, low: int, high: int, *, otherwise: int) -> int:
    return number if low <= number <= high else otherwise
