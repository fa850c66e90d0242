"""What a span says of a tool's call: the outcome always, the texts where they are captured."""

import json
from typing import Any

import pytest

from freehold.kernel import tracing
from freehold.kernel.errors import Unavailable
from freehold.kernel.tracing import Kind, Span, Status, Trail
from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.ports.targets import RpcRefused, TargetFailed
from freehold.services.gateway import results
from freehold.services.gateway.traces import tell_result, tool_call
from kept_spans import KeptSpans

ARGUMENTS = {"city": "Oslo"}


@pytest.fixture
def kept() -> KeptSpans:
    return KeptSpans()


def called(kept: KeptSpans, result: Any, *, content: bool = False) -> Span:
    trail = Trail(kept)
    trail.content = content
    around = Span(trail, "mcp tools/call", kind=Kind.SERVER, parent=None)
    with tracing.within(around), tool_call("gw-1", "weather___forecast", ARGUMENTS) as span:
        if isinstance(result, Exception):
            raise result
        tell_result(span, result)
    return kept.one("execute_tool ")


def good(text: str = "rain") -> dict[str, Any]:
    return results.labelled({"content": [{"type": "text", "text": text}]}, "weather")


def test_a_call_is_told_with_its_target_and_without_its_texts(kept: KeptSpans) -> None:
    span = called(kept, good())
    assert span.name == "execute_tool weather___forecast"
    assert span.attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "weather___forecast",
        "mcp.method.name": "tools/call",
        "freehold.gateway.id": "gw-1",
        "freehold.target": "weather",
        "freehold.tool.is_error": False,
    }
    assert span.status is Status.UNSET


def test_captured_it_has_arguments_and_result(kept: KeptSpans) -> None:
    told = called(kept, good(), content=True).attributes
    assert json.loads(told["gen_ai.tool.call.arguments"]) == ARGUMENTS
    assert json.loads(told["gen_ai.tool.call.result"])["content"][0]["text"] == "rain"
    assert "freehold.exchange.truncated" not in told


def test_what_is_too_long_is_cut(kept: KeptSpans) -> None:
    told = called(kept, good("x" * (2 * CONTENT_BYTES_MAX)), content=True).attributes
    assert len(told["gen_ai.tool.call.result"]) == CONTENT_BYTES_MAX
    assert told["freehold.exchange.truncated"] is True


def test_what_the_gateway_refused_says_by_what(kept: KeptSpans) -> None:
    span = called(kept, results.refused("not these words", "policy"))
    assert (span.status, span.message) == (Status.ERROR, "refused: policy")
    assert span.attributes["freehold.refused"] == "policy"
    assert "not these words" not in repr(span.attributes)


def test_what_failed_at_the_target_has_its_status(kept: KeptSpans) -> None:
    failed = results.failed("weather", TargetFailed("it is away", status=503))
    span = called(kept, failed)
    assert (span.status, span.message) == (Status.ERROR, "the tool failed")
    assert span.attributes["freehold.upstream.status_code"] == 503


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RpcRefused(-32602, "Unknown tool: of-a-client"), "JSON-RPC -32602"),
        (Unavailable("of the platform"), Unavailable.code),
    ],
)
def test_an_error_is_told_by_its_code(kept: KeptSpans, error: Exception, said: str) -> None:
    with pytest.raises(type(error)):
        called(kept, error)
    span = kept.one("execute_tool ")
    assert (span.status, span.message) == (Status.ERROR, said)
