"""What a trace adds up to: the same in lists, which have it from the store's sums, and of the trace
itself, which has it from its spans."""

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from reading_ground import Reading, reading
from told_spans import Trace

from freehold.adapters.postgres.pool import PostgresDatabase

METERED: dict[str, Any] = {"origin": "platform", "attributes": {"freehold.metered": True}}


@pytest.fixture
def own(database: PostgresDatabase, tenant: str) -> Reading:
    return reading(database, tenant)


def metered_and_told(trace: Trace) -> None:
    """By the platform, and by an agent that counts otherwise."""
    root = trace.span("InvokeAgentRuntime", origin="platform")
    agent = trace.span("agent", under=root, attributes=summing(900, 90))
    trace.chat(under=agent, tokens=(100, 10), **METERED)
    trace.chat(under=agent, tokens=(150, 15))


def told_twice(trace: Trace) -> None:
    """By a framework, and by the client that it uses."""
    framework = trace.chat(tokens=(100, 10))
    trace.chat(under=framework, tokens=(120, 12))


def summed_up(trace: Trace) -> None:
    """By the span of the agent alone."""
    agent = trace.span("agent", attributes=summing(900, 90))
    trace.chat(under=agent, tokens=(0, 0))


def begun_elsewhere(trace: Trace) -> None:
    """By whoever called the platform."""
    entry = trace.span(
        "InvokeAgentRuntime", under=secrets.token_hex(8), origin="platform",
        attributes={"freehold.entry": True},
    )  # fmt: skip
    trace.span("session start", under=entry, origin="platform")


def tools_of_both(trace: Trace) -> None:
    """The gateway's spans of two calls, and the agent's own of three."""
    root = trace.span("InvokeAgentRuntime", status=2, origin="platform")
    for number in range(3):
        own = trace.tool(f"tool{number}", under=root)
        if number:
            trace.tool(f"tool{number}", under=own, origin="platform")


def summing(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.usage.input_tokens": input_tokens,
        "gen_ai.usage.output_tokens": output_tokens,
    }


@pytest.mark.parametrize(
    ("told", "sums"),
    [
        (metered_and_told, {"modelCalls": 1, "inputTokens": 100, "outputTokens": 10}),
        (told_twice, {"modelCalls": 1, "inputTokens": 120, "outputTokens": 12}),
        (summed_up, {"modelCalls": 1, "inputTokens": 900, "outputTokens": 90}),
        (begun_elsewhere, {"complete": True, "name": "InvokeAgentRuntime", "spans": 2}),
        (tools_of_both, {"toolCalls": 3, "errors": 1, "status": "error"}),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
async def test_a_trace_tells_of_itself_what_lists_tell_of_it(
    own: Reading, told: Callable[[Trace], None], sums: dict[str, Any]
) -> None:
    trace = Trace(own.tenant)
    told(trace)
    await own.write(trace.spans)
    [listed] = (await own.ask("ListTraces"))["traces"]
    of_itself = (await own.ask("GetTrace", traceId=trace.id))["trace"]
    assert {name: listed[name] for name in sums} == sums
    assert of_itself == listed
