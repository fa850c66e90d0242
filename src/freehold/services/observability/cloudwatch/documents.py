"""Spans and log records as the JSON documents that AWS's distribution of OpenTelemetry writes to
CloudWatch: spans to `aws/spans`, and what was said in them to the log group of the runtime.

Attributes are as they came, but for `session.id`: that is the session as the platform knows it, by
which clients look for their spans.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from freehold.ports.spans import SpanEvent, SpanRecord
from freehold.ports.telemetry import LogRecord

Document = dict[str, Any]

_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES = ("UNSET", "OK", "ERROR")
_SESSION = "session.id"
_SEVERITY_INFO = 9
_SAMPLED = 1
_ROLES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_CHOICE = "gen_ai.choice"


def span_document(span: SpanRecord) -> Document:
    document: Document = {
        "resource": {"attributes": span.resource},
        "scope": _scope(span.scope, span.scope_version),
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "flags": _SAMPLED,
        "name": span.name,
        "kind": _named(_KINDS, span.kind),
        "startTimeUnixNano": span.started_ns,
        "endTimeUnixNano": span.ended_ns,
        "durationNano": max(0, span.ended_ns - span.started_ns),
        "attributes": _with_session(span.attributes, span.session_id),
        "status": {"code": _named(_STATUSES, span.status)},
    }
    if span.parent_id:
        document["parentSpanId"] = span.parent_id
    if span.message:
        document["status"]["message"] = span.message
    if span.events:
        document["events"] = [_event(event) for event in span.events]
    if span.links:
        document["links"] = [
            {"traceId": link.trace_id, "spanId": link.span_id, "attributes": link.attributes}
            for link in span.links
        ]
    return document


def log_document(record: LogRecord) -> Document:
    attributes = _with_session(record.attributes, record.session_id)
    if record.event and "event.name" not in attributes:
        attributes = {**attributes, "event.name": record.event}
    document: Document = {
        "resource": {"attributes": record.resource},
        "scope": _scope(record.scope, ""),
        "timeUnixNano": record.at_ns,
        "observedTimeUnixNano": record.at_ns,
        "severityNumber": record.severity,
        "severityText": record.severity_text,
        "body": record.body,
        "attributes": attributes,
    }
    if record.trace_id:
        document["traceId"] = record.trace_id
    if record.span_id:
        document["spanId"] = record.span_id
    return document


def said_document(span: SpanRecord) -> Document | None:
    """What went into a step and came out of it, as AWS's distribution takes it out of spans into
    log records. None where the span holds no content."""
    said, answered = _messages(span)
    if not said and not answered:
        return None
    return {
        "resource": {"attributes": span.resource},
        "scope": _scope(span.scope, span.scope_version),
        "timeUnixNano": span.ended_ns,
        "observedTimeUnixNano": span.ended_ns,
        "severityNumber": _SEVERITY_INFO,
        "severityText": "",
        "body": {"output": {"messages": answered}, "input": {"messages": said}},
        "attributes": _with_session({"event.name": span.scope}, span.session_id),
        "flags": _SAMPLED,
        "traceId": span.trace_id,
        "spanId": span.span_id,
    }


def message_of(document: Document) -> str:
    return msgspec.json.encode(document).decode()


Messages = list[dict[str, Any]]


def _messages(span: SpanRecord) -> tuple[Messages, Messages]:
    """By the first of the conventions that the span follows."""
    said = [_said(event) for event in span.events if event.name in _ROLES]
    answered = [
        {"content": dict(event.attributes), "role": "assistant"}
        for event in span.events
        if event.name == _CHOICE
    ]
    if said or answered:
        return said, answered
    attributes = span.attributes
    said = list(_of_parts(attributes.get("gen_ai.input.messages"), "content", "user"))
    answered = list(_of_parts(attributes.get("gen_ai.output.messages"), "message", "assistant"))
    if said or answered:
        return said, answered
    if "gen_ai.tool.call.arguments" in attributes or "gen_ai.tool.call.result" in attributes:
        return _of_tool(attributes)
    return (
        _plain(attributes.get("input.value"), "user"),
        _plain(attributes.get("output.value"), "assistant"),
    )


def _said(event: SpanEvent) -> dict[str, Any]:
    return {"content": dict(event.attributes), "role": _ROLES[event.name]}


def _of_parts(text: Any, member: str, role: str) -> Iterable[dict[str, Any]]:
    """Messages of the current conventions: JSON text of `[{role, parts, finish_reason?}]`."""
    try:
        messages = msgspec.json.decode(text) if isinstance(text, str) else text
    except msgspec.DecodeError:
        messages = None
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        parts = message.get("parts", message.get("content", ""))
        content = {member: parts if isinstance(parts, str) else json.dumps(parts)}
        if finish := message.get("finish_reason"):
            content["finish_reason"] = str(finish)
        yield {"content": content, "role": str(message.get("role") or role)}


def _of_tool(attributes: Mapping[str, Any]) -> tuple[Messages, Messages]:
    id = attributes.get("gen_ai.tool.call.id", "")
    said: Messages = []
    answered: Messages = []
    if "gen_ai.tool.call.arguments" in attributes:
        arguments = attributes["gen_ai.tool.call.arguments"]
        said.append({"content": {"content": arguments, "role": "tool", "id": id}, "role": "tool"})
    if "gen_ai.tool.call.result" in attributes:
        result = attributes["gen_ai.tool.call.result"]
        answered.append({"content": {"message": result, "id": id}, "role": "assistant"})
    return said, answered


def _plain(value: Any, role: str) -> Messages:
    return [] if value is None else [{"content": value, "role": role}]


def _event(event: SpanEvent) -> dict[str, Any]:
    return {"timeUnixNano": event.at_ns, "name": event.name, "attributes": event.attributes}


def _scope(name: str, version: str) -> dict[str, str]:
    scope = {"name": name} if name else {}
    return {**scope, "version": version} if version else scope


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else names[0]


def _with_session(attributes: dict[str, Any], session_id: str) -> dict[str, Any]:
    return {**attributes, _SESSION: session_id} if session_id else attributes
