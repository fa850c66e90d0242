"""What of telemetry is stored: content only where it was asked for, and never what rules take out.

Content (`content_names`) of an agent's spans and logs, and of the platform's about it, is kept when
its runtime captures it; that of a client outside when its tenant says so (`captureClients`, off by
default: a client names itself, so that no runtime's choice may speak for it). Redaction is for
every string that is left, captured or not.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from freehold.ports.content_capture import ContentCapture
from freehold.ports.spans import Origin, SpanEvent, SpanLink, SpanRecord
from freehold.ports.telemetry import LogRecord, MetricPoint
from freehold.services.observability.content_names import (
    body_without_content,
    is_content,
    is_message,
    of_a_message,
    without_content,
)
from freehold.services.observability.redaction import Redactor


class Choice(Protocol):
    """A tenant's configuration, compiled."""

    @property
    def capture_clients(self) -> bool: ...

    @property
    def redactor(self) -> Redactor: ...


class Choices(Protocol):
    async def of(self, tenant: str) -> Choice: ...


class Handling(msgspec.Struct, frozen=True):
    captured: bool
    redactor: Redactor

    def span(self, span: SpanRecord) -> SpanRecord:
        kept = span if self.captured else _without_content(span)
        if self.redactor.silent or not self.redactor.touches(
            kept.name, kept.message, kept.attributes, kept.resource, kept.events, kept.links
        ):
            return kept
        redact = self.redactor.value
        return msgspec.structs.replace(
            kept,
            name=self.redactor.text(kept.name),
            message=self.redactor.text(kept.message),
            attributes=redact(kept.attributes),
            events=[SpanEvent(e.name, e.at_ns, redact(e.attributes)) for e in kept.events],
            links=[SpanLink(x.trace_id, x.span_id, redact(x.attributes)) for x in kept.links],
            resource=redact(kept.resource),
        )

    def log(self, record: LogRecord) -> LogRecord:
        body, attributes = record.body, record.attributes
        if not self.captured:
            body = body_without_content(body, record.event)
            attributes = without_content(attributes)
            if is_message(record.event):
                attributes = of_a_message(attributes)
        redact = self.redactor.value
        if not self.redactor.silent:
            body, attributes = redact(body), redact(attributes)
        return msgspec.structs.replace(
            record,
            body=body,
            attributes=attributes,
            resource=record.resource if self.redactor.silent else redact(record.resource),
        )

    def point(self, point: MetricPoint) -> MetricPoint:
        redact = self.redactor.value
        attributes = point.attributes if self.captured else without_content(point.attributes)
        if self.redactor.silent:
            return msgspec.structs.replace(point, attributes=attributes)
        return msgspec.structs.replace(
            point, attributes=redact(attributes), resource=redact(point.resource)
        )


class ContentPolicy:
    """`capturing` is asked for each batch: its answers are cached, and a change is heard at once.

    Of the platform's own spans it was decided where they were made: see `recording`.
    """

    def __init__(self, capturing: ContentCapture, choices: Choices) -> None:
        self._capturing, self._choices = capturing, choices

    async def handling(self, tenant: str, agent_id: str, origin: Origin) -> Handling:
        """Unavailable where it cannot be known: nothing is stored then."""
        choice = await self._choices.of(tenant)
        if origin == "platform":
            captured = True
        elif origin == "client":
            captured = choice.capture_clients
        else:
            captured = bool(agent_id) and await self._capturing.captures(tenant, agent_id)
        return Handling(captured, choice.redactor)


def _without_content(span: SpanRecord) -> SpanRecord:
    events = span.events
    attributes: Mapping[str, Any] = span.attributes
    if not events and not any(map(is_content, attributes)):
        return span
    return msgspec.structs.replace(
        span, attributes=without_content(attributes), events=[_event(each) for each in events]
    )


def _event(event: SpanEvent) -> SpanEvent:
    kept = without_content(event.attributes)
    if is_message(event.name):
        kept = of_a_message(kept)
    return SpanEvent(event.name, event.at_ns, kept)
