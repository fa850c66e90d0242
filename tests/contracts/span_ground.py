"""Spans for tests of stores: made from few words, each with ids of its own."""

import secrets
import time
from typing import Any

from freehold.ports.spans import Facts, SeriesWanted, SpanRecord, Wanted

SECOND_NS = 10**9
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 3600 * SECOND_NS
DAY_NS = 24 * HOUR_NS
NOW_NS = time.time_ns() // HOUR_NS * HOUR_NS
"""The beginning of this hour: what begins within minutes of it is in one hour and one day."""


def trace_id() -> str:
    return secrets.token_hex(16)


def span_id() -> str:
    return secrets.token_hex(8)


def span(
    tenant: str,
    *,
    at_ns: int = NOW_NS,
    took_ms: float = 10,
    facts: dict[str, Any] | None = None,
    **values: Any,
) -> SpanRecord:
    """A root of a new trace unless it is said otherwise."""
    return SpanRecord(
        **{
            "tenant": tenant,
            "trace_id": trace_id(),
            "span_id": span_id(),
            "name": "InvokeAgentRuntime",
            "started_ns": at_ns,
            "ended_ns": at_ns + int(took_ms * 1e6),
            "origin": "platform",
            **values,
        },
        facts=Facts(**(facts or {})),
    )


def child(parent: SpanRecord, *, after_ms: float = 1, **values: Any) -> SpanRecord:
    """Of the same agent and session."""
    return span(
        parent.tenant,
        **{
            "trace_id": parent.trace_id,
            "parent_id": parent.span_id,
            "at_ns": parent.started_ns + int(after_ms * 1e6),
            "agent_id": parent.agent_id,
            "agent_version": parent.agent_version,
            "session_id": parent.session_id,
            "user": parent.user,
            "name": "step",
            **values,
        },
    )


def model_call(
    parent: SpanRecord,
    *,
    tokens: tuple[int, int] = (100, 10),
    cost: float | None = 0.5,
    model: str = "gpt-4o",
    metered: bool = False,
    **values: Any,
) -> SpanRecord:
    facts = {
        "operation": "chat", "provider": "openai", "model": model, "input_tokens": tokens[0],
        "output_tokens": tokens[1], "cost": cost, "metered": metered,
    }  # fmt: skip
    origin = "platform" if metered else "agent"
    return child(parent, facts=facts, **{"name": f"chat {model}", "origin": origin, **values})


def tool_call(parent: SpanRecord, tool: str, **values: Any) -> SpanRecord:
    facts = {"operation": "execute_tool", "tool": tool}
    return child(
        parent, facts=facts, **{"name": f"execute_tool {tool}", "origin": "agent", **values}
    )


def wanted(**values: Any) -> Wanted:
    return Wanted(**{"since_ns": NOW_NS - 40 * DAY_NS, "until_ns": NOW_NS + DAY_NS, **values})


def series_wanted(**values: Any) -> SeriesWanted:
    """The hours of some days; one step."""
    return SeriesWanted(
        **{
            "since_ns": NOW_NS - 4 * DAY_NS,
            "until_ns": NOW_NS + DAY_NS,
            "step_seconds": 3600,
            **values,
        }
    )
