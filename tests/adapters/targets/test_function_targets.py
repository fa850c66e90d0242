"""A function as a target: its tools, its events, and what a model is told when it fails."""

import json
from typing import Any

import pytest

from freehold.adapters.targets.functions import FunctionTargets
from freehold.kernel.errors import AccessDenied, ValidationFailed
from freehold.ports.functions import FunctionFailed, Invoked
from freehold.ports.targets import Definition, Errand, Place, TargetFailed

ARN = "arn:aws:lambda:us-east-1:111122223333:function:weather"
TOOL = {
    "name": "forecast",
    "description": "The weather to come",
    "inputSchema": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where"},
            "days": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["city"],
    },
}
OUTPUT = {"type": "object", "properties": {"degrees": {"type": "number"}}}
ERRAND = Errand(request_id="call-1", message_id=5, owner="t|p", seconds_max=3)


class Answering:
    """`ports.functions.Functions`: one value or one failure."""

    def __init__(self, said: Any) -> None:
        self._said = said
        self.calls: list[Invoked] = []

    async def invoke(self, invoked: Invoked) -> Any:
        self.calls.append(invoked)
        if isinstance(self._said, Exception):
            raise self._said
        return self._said


def place(*tools: Any, **configuration: Any) -> Place:
    return Place(
        tenant="111122223333", gateway_id="g-1", gateway_arn="arn:g", target_id="T1", name="w",
        kind="mcp.lambda", role_arn="arn:aws:iam::111122223333:role/r",
        configuration={
            "lambdaArn": ARN, "toolSchema": {"inlinePayload": list(tools)}, **configuration
        },
    )  # fmt: skip


async def definition(*, output: bool = False) -> Definition:
    tool = {**TOOL, "outputSchema": OUTPUT} if output else TOOL
    described = await FunctionTargets(Answering(None)).describe(place(tool), ERRAND)
    return described.definitions[0]


async def test_tools_are_those_of_the_schema() -> None:
    found = await definition(output=True)
    assert found.name == "forecast"
    assert found.document == {**TOOL, "outputSchema": OUTPUT}


async def test_a_schema_that_came_from_storage_is_read_too() -> None:
    stored = place(toolSchema={"inlinePayload": json.dumps([TOOL])})
    described = await FunctionTargets(Answering(None)).describe(stored, ERRAND)
    assert described.definitions[0].document == TOOL


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        ({"inputSchema": {"type": "object"}}, "`name`"),
        ({"name": "a", "inputSchema": {"type": "string"}}, "arguments of a tool are an object"),
        ({"name": "a", "inputSchema": {"type": "date"}}, "whose type is one of"),
        ({"name": "a"}, "whose type is one of"),
        ({"name": "a", "inputSchema": {"type": "object", "required": "x"}}, "list of names"),
        ({"name": "forecast", "inputSchema": {"type": "object"}}, "is taken"),
    ],
)
async def test_what_cannot_be_a_tool_is_named_and_the_rest_works(tool: Any, why: str) -> None:
    described = await FunctionTargets(Answering(None)).describe(place(TOOL, tool), ERRAND)
    assert [each.name for each in described.definitions] == ["forecast"]
    (problem,) = described.problems
    assert problem.where == "/toolSchema/inlinePayload/1"
    assert why in problem.why
    assert problem.skipped


async def test_an_output_that_is_no_object_goes_without_its_schema() -> None:
    tool = {**TOOL, "outputSchema": {"type": "string"}}
    described = await FunctionTargets(Answering(None)).describe(place(tool), ERRAND)
    assert "outputSchema" not in described.definitions[0].document
    assert not described.problems[0].skipped


async def test_a_schema_that_is_no_list_is_refused() -> None:
    broken = place(toolSchema={"inlinePayload": "{"})
    with pytest.raises(ValidationFailed, match="no JSON"):
        await FunctionTargets(Answering(None)).describe(broken, ERRAND)


async def test_the_event_is_the_arguments_and_the_rest_is_told_beside_it() -> None:
    functions = Answering({"ok": True})
    errand = Errand(
        request_id="call-1", message_id=5, owner="t|p", seconds_max=3,
        headers={"x-team": "red"}, query={"v": "2"},
    )  # fmt: skip
    await FunctionTargets(functions).call(place(), await definition(), {"city": "Ys"}, errand)
    (call,) = functions.calls
    assert (call.arn, call.event, call.seconds_max) == (ARN, {"city": "Ys"}, 3)
    assert call.role == "arn:aws:iam::111122223333:role/r"
    assert call.context == {
        "bedrockAgentCoreMessageVersion": "1.0",
        "bedrockAgentCoreAwsRequestId": "call-1",
        "bedrockAgentCoreMcpMessageId": "5",
        "bedrockAgentCoreGatewayId": "g-1",
        "bedrockAgentCoreTargetId": "T1",
        "bedrockAgentCoreToolName": "w___forecast",
        "bedrockAgentCorePropagatedHeaders": {"x-team": "red"},
        "bedrockAgentCorePropagatedQueryParameters": {"v": "2"},
    }


async def test_what_it_returns_is_text_of_json_and_structured_where_a_schema_says_so() -> None:
    targets = FunctionTargets(Answering({"degrees": 21.5}))
    result = await targets.call(place(), await definition(output=True), {}, ERRAND)
    assert result == {
        "content": [{"type": "text", "text": '{"degrees":21.5}'}],
        "isError": False,
        "structuredContent": {"degrees": 21.5},
    }
    plain = await targets.call(place(), await definition(), {}, ERRAND)
    assert "structuredContent" not in plain


async def test_what_it_raises_is_a_result_that_a_model_can_act_on() -> None:
    targets = FunctionTargets(Answering(FunctionFailed("no such city: Ys", type="ValueError")))
    result = await targets.call(place(), await definition(), {"city": "Ys"}, ERRAND)
    assert result["isError"] is True
    assert result["content"][0]["text"] == "The function failed: ValueError: no such city: Ys"


async def test_a_function_out_of_time_or_out_of_reach_is_a_failed_target() -> None:
    late = FunctionTargets(Answering(FunctionFailed("late", type="Timeout")))
    with pytest.raises(TargetFailed, match="at most 3 seconds") as timed_out:
        await late.call(place(), await definition(), {}, ERRAND)
    assert timed_out.value.timed_out
    away = FunctionTargets(Answering(FunctionFailed("away", type="Busy", unreached=True)))
    with pytest.raises(TargetFailed, match="away") as unreached:
        await away.call(place(), await definition(), {}, ERRAND)
    assert unreached.value.retriable


async def test_a_role_without_keys_is_a_target_that_cannot_be_called() -> None:
    targets = FunctionTargets(Answering(AccessDenied("the operator gave no keys")))
    with pytest.raises(TargetFailed, match="gave no keys") as failed:
        await targets.call(place(), await definition(), {}, ERRAND)
    assert failed.value.unauthorized
    assert not failed.value.retriable
