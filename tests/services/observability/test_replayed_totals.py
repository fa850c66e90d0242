"""What a fork is answered from the record takes no tokens, whatever its agent tells of it."""

from typing import Any

from freehold.ports.replay import REPLAY
from freehold.ports.spans import Facts, SpanRecord
from freehold.services.observability.mapper import facts
from freehold.services.observability.views import summary


def call(at: int, **more: Any) -> SpanRecord:
    return SpanRecord(
        tenant="100000000001", trace_id="1" * 32, span_id=f"{at:016x}", name="chat m",
        started_ns=at, ended_ns=at + 1, **more,
    )  # fmt: skip


def recorded(at: int) -> SpanRecord:
    said = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "freehold.metered": True}
    return call(at, origin="platform", attributes={**said, REPLAY: "recorded"},
                facts=facts("chat m", said))  # fmt: skip


def told(at: int) -> SpanRecord:
    """By the agent's instrumentation, which reads the usage in the recorded answer."""
    used = Facts(operation="chat", model="m", input_tokens=100, output_tokens=10, cost=0.5)
    return call(at, origin="agent", facts=used)


def live(at: int) -> SpanRecord:
    used = Facts(
        operation="chat", model="m", input_tokens=7, output_tokens=3, cost=0.1, metered=True
    )
    return call(at, origin="platform", attributes={REPLAY: "live"}, facts=used)


def test_a_turn_that_was_answered_from_the_record_took_nothing() -> None:
    found = summary([recorded(1), told(2), recorded(3), told(4)])
    assert (found.input_tokens, found.output_tokens, found.cost) == (0, 0, None)


def test_of_the_turn_with_the_step_the_live_calls_count() -> None:
    found = summary([recorded(1), told(2), live(3), told(4)])
    assert (found.model_calls, found.input_tokens, found.output_tokens) == (2, 7, 3)
    assert found.cost == 0.1


def test_elsewhere_the_largest_account_counts_as_ever() -> None:
    assert summary([told(1), told(2)]).input_tokens == 200
