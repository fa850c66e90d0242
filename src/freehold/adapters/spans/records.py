"""A span as a row of the table, and back."""

import math
import struct
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from freehold.adapters.spans.copying import (
    NULL,
    Storable,
    TextFields,
    bytes_field,
    float_field,
    json_text,
    storable,
    within,
)
from freehold.ports.spans import Facts, Origin, SpanEvent, SpanLink, SpanRecord

ORIGINS: tuple[Origin, ...] = ("platform", "agent", "client")
LABEL_CHARACTERS_MAX = 256
"""Of what is in an index or names a group: agents, sessions, users, models, tools."""
TEXT_CHARACTERS_MAX = 4_000
TOKENS_MAX = 10**12
"""Of one span: sums of them stay numbers that Postgres has."""

COLUMNS = (
    "trace_id", "span_id", "started_ns", "ended_ns", "kind", "status", "origin", "metered",
    "input_tokens", "output_tokens", "parent_id", "cost", "resource", "tenant", "name", "message",
    "scope", "scope_version", "agent_id", "agent_version", "endpoint", "session_id", "user_name",
    "operation", "provider", "model", "tool", "attributes", "happenings",
)  # fmt: skip
# trace_id ... output_tokens: each with its length before it.
_FIXED = struct.Struct("!i16siqiqiqihihihi?iqiq")
_PARENT = struct.Struct("!iq")

READ = """encode(uuid_send(s.trace_id), 'hex'), s.span_id, s.started_ns, s.ended_ns, s.kind,
    s.status, s.origin, s.metered, s.input_tokens, s.output_tokens, s.parent_id, s.cost,
    s.resource::text, s.tenant, s.name, s.message, s.scope, s.scope_version, s.agent_id,
    s.agent_version, s.endpoint, s.session_id, s.user_name, s.operation, s.provider, s.model,
    s.tool, s.attributes, s.happenings"""
READ_WITHOUT_CONTENT = READ.replace("s.attributes, s.happenings", "'{}', NULL").replace(
    "s.resource::text", "NULL"
)

Key = tuple[str, str, str, int]
"""Tenant, trace, span, start: what makes a span the same span."""

_attributes = msgspec.json.Decoder(dict[str, Any])
_happenings = msgspec.json.Decoder(tuple[tuple[SpanEvent, ...], tuple[SpanLink, ...]])


def number(span_id: str) -> int:
    """The eight bytes of a span's id as Postgres' bigint."""
    value = int(span_id, 16)
    return value - (1 << 64) if value >> 63 else value


def hexadecimal(number: int) -> str:
    return f"{number & 0xFFFFFFFFFFFFFFFF:016x}"


def is_trace_id(text: str) -> bool:
    return _is_hexadecimal(text, 32)


def is_span_id(text: str) -> bool:
    return _is_hexadecimal(text, 16)


def _is_hexadecimal(text: str, digits: int) -> bool:
    return len(text) == digits and all(digit in "0123456789abcdef" for digit in text)


def key(span: SpanRecord) -> Key:
    """As it is stored."""
    return label(span.tenant), span.trace_id, span.span_id, within(span.started_ns)


def cost_of(facts: Facts) -> float | None:
    return facts.cost if facts.cost is not None and math.isfinite(facts.cost) else None


class Labels(Storable):
    """Of a batch: as the sums have them."""

    def __init__(self) -> None:
        super().__init__(LABEL_CHARACTERS_MAX)


def label(text: str) -> str:
    """As it is stored, for a filter."""
    return storable(text[:LABEL_CHARACTERS_MAX])


class Rows:
    """Rows for COPY of one batch."""

    def __init__(self, resources: Mapping[int, UUID | None]) -> None:
        """`resources` by the identity of the spans' own dict."""
        self._labels = TextFields(LABEL_CHARACTERS_MAX)
        self._texts = TextFields(TEXT_CHARACTERS_MAX)
        self._resources = resources

    def row(self, span: SpanRecord) -> bytes:
        labels, texts, facts = self._labels, self._texts, span.facts
        resource = self._resources[id(span.resource)]
        started = within(span.started_ns)
        happenings = (
            bytes_field(json_text((span.events, span.links))) if span.events or span.links else NULL
        )
        return b"".join(
            (
                _FIXED.pack(
                    16, bytes.fromhex(span.trace_id), 8, number(span.span_id), 8, started,
                    8, max(started, within(span.ended_ns)), 2, within(span.kind, 32_767),
                    2, within(span.status, 32_767), 2, ORIGINS.index(span.origin), 1, facts.metered,
                    8, within(facts.input_tokens, TOKENS_MAX),
                    8, within(facts.output_tokens, TOKENS_MAX),
                ),
                _PARENT.pack(8, number(span.parent_id)) if span.parent_id else NULL,
                float_field(cost_of(facts)),
                NULL if resource is None else bytes_field(resource.bytes),
                labels[span.tenant], texts[span.name], texts[span.message], texts[span.scope],
                labels[span.scope_version], labels[span.agent_id], labels[span.agent_version],
                labels[span.endpoint], labels[span.session_id], labels[span.user],
                labels[facts.operation], labels[facts.provider], labels[facts.model],
                labels[facts.tool], bytes_field(json_text(span.attributes)), happenings,
            )
        )  # fmt: skip


def span_of(row: tuple[Any, ...], resources: Mapping[str, dict[str, Any]]) -> SpanRecord:
    """Of the columns of READ."""
    (
        trace_id, span_id, started_ns, ended_ns, kind, status, origin, metered, input_tokens,
        output_tokens, parent_id, cost, resource, tenant, name, message, scope, scope_version,
        agent_id, agent_version, endpoint, session_id, user, operation, provider, model, tool,
        attributes, happenings,
    ) = row  # fmt: skip
    events, links = ((), ()) if happenings is None else _happenings.decode(happenings)
    return SpanRecord(
        tenant=tenant,
        trace_id=trace_id,
        span_id=hexadecimal(span_id),
        name=name,
        started_ns=started_ns,
        ended_ns=ended_ns,
        origin=ORIGINS[origin],
        parent_id="" if parent_id is None else hexadecimal(parent_id),
        kind=kind,
        status=status,
        message=message,
        attributes=_attributes.decode(attributes),
        events=events,
        links=links,
        resource={} if resource is None else resources.get(resource, {}),
        scope=scope,
        scope_version=scope_version,
        agent_id=agent_id,
        agent_version=agent_version,
        endpoint=endpoint,
        session_id=session_id,
        user=user,
        facts=Facts(
            operation=operation,
            provider=provider,
            model=model,
            tool=tool,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost=cost,
            metered=metered,
        ),
    )
