"""What the platform's own spans tell of models, tools, policies, memories and sessions, counted."""

from typing import Any

from freehold.kernel.tracing import Recorder, Span, Status
from freehold.ports.replay import REPLAY
from freehold.ports.signals import Signals

_MODEL = frozenset({"chat", "generate_content", "text_completion", "embeddings"})
_TOOL = "execute_tool"
_SEARCH = frozenset({"retrieval", "search_memory"})
_START = "session start"
_CREDENTIAL = "credential"
_NOT_MADE = ("recorded", "given")
"""A fork's calls that were answered without anybody being called."""


class CountedSpans:
    """A recorder around another one. A trace that its client asked not to have recorded is not
    counted either."""

    def __init__(self, recorder: Recorder, signals: Signals) -> None:
        self._recorder, self._signals = recorder, signals

    def record(self, span: Span) -> None:
        if span.attributes.get(REPLAY) not in _NOT_MADE:
            self._count(span)
        self._recorder.record(span)

    def _count(self, span: Span) -> None:
        signals, attributes = self._signals, span.attributes
        outcome = "error" if span.status is Status.ERROR else "ok"
        seconds = (span.ended_ns - span.started_ns) / 1e9
        operation = attributes.get("gen_ai.operation.name")
        decision = attributes.get("freehold.policy.decision")
        if decision in ("allow", "deny"):
            signals.add("freehold_policy_decisions_total", decision=decision)
        if operation in _MODEL and attributes.get("freehold.metered") is True:
            signals.add("freehold_model_calls_total", operation=operation, outcome=outcome)
            signals.measure("freehold_model_seconds", seconds, operation=operation)
            for direction in ("input", "output"):
                tokens = _count_of(attributes.get(f"gen_ai.usage.{direction}_tokens"))
                signals.add("freehold_model_tokens_total", tokens, direction=direction)
        elif operation == _TOOL:
            signals.add("freehold_tool_calls_total", outcome=outcome)
            signals.measure("freehold_tool_seconds", seconds)
        elif operation in _SEARCH:
            signals.add("freehold_memory_searches_total", outcome=outcome)
            signals.measure("freehold_memory_search_seconds", seconds)
        elif span.name == _START:
            signals.add("freehold_session_starts_total", outcome=outcome)
            signals.measure("freehold_session_start_seconds", seconds)
        elif span.name == _CREDENTIAL:
            signals.add("freehold_credential_uses_total", outcome=outcome)


def _count_of(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0
