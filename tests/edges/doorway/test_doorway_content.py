"""What was said in a model call is in its span where the runtime captures it, and nowhere else."""

import json
from typing import Any

import pytest
from aiohttp import web
from served_doorway import open_doorway, openai_at, upstream

from freehold.kernel.tracing import Span
from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.testing.scripted_model import Rule, Script, ScriptedModel, ScriptedToolCall

SYSTEM, USER = "be brief", "which weather has Oslo?"
SAID: Any = [{"role": "user", "content": USER}]
BLOCKS: Any = [{"role": "user", "content": [{"text": USER}]}]
REPLY = "It is raining in Oslo."
STREAM = {"stream": True}


class Always:
    """Implements ports.content_capture.ContentCapture."""

    async def captures(self, tenant: str, runtime_id: str) -> bool:
        return True


async def called(script: Script, path: str, asked: dict[str, Any]) -> Span:
    async with (
        ScriptedModel(script) as model,
        open_doorway(model.providers(), tracing={"content": Always()}) as door,
    ):
        async with door.http.post(f"{door.url}/model/{path}", json=asked) as answer:
            assert answer.status == 200
            await answer.read()
        [call] = await door.calls()
    return call


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("openai/v1/chat/completions", {"model": "m", "messages": SAID}),
    ("openai/v1/chat/completions", {"model": "m", "messages": SAID, **STREAM}),
    ("openai/v1/responses", {"model": "m", "input": USER}),
    ("openai/v1/responses", {"model": "m", "input": USER, **STREAM}),
    ("anthropic/v1/messages", {"model": "m", "max_tokens": 9, "messages": SAID}),
    ("anthropic/v1/messages", {"model": "m", "max_tokens": 9, "messages": SAID, **STREAM}),
    ("bedrock/model/m/converse", {"messages": BLOCKS}),
    ("bedrock/model/m/converse-stream", {"messages": BLOCKS}),
    ("bedrock/model/m/invoke-with-response-stream", {"max_tokens": 9, "messages": SAID}),
    ("gemini/v1/models/m:generateContent",
     {"contents": [{"role": "user", "parts": [{"text": USER}]}]}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "asked"), CALLS)
async def test_question_and_answer_have_one_form_whatever_the_wire(
    path: str, asked: dict[str, Any]
) -> None:
    call = await called(Script(rules=(Rule(reply=REPLY),)), path, asked)
    told = call.attributes
    [question] = json.loads(told["gen_ai.input.messages"])
    assert question == {"role": "user", "parts": [{"type": "text", "content": USER}]}
    [answer] = json.loads(told["gen_ai.output.messages"])
    assert answer["role"] == "assistant"
    assert answer["parts"] == [{"type": "text", "content": REPLY}]
    assert answer["finish_reason"] == "stop"
    assert json.loads(told["freehold.exchange.request"]) == asked
    assert told["freehold.exchange.response"]
    assert "freehold.exchange.truncated" not in told


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("openai/v1/responses", {"model": "m", "input": USER, "instructions": SYSTEM}),
        ("anthropic/v1/messages",
         {"model": "m", "max_tokens": 9, "messages": SAID, "system": SYSTEM}),
        ("bedrock/model/m/converse", {"messages": BLOCKS, "system": [{"text": SYSTEM}]}),
    ],
)  # fmt: skip
async def test_instructions_of_the_system_are_apart(path: str, asked: dict[str, Any]) -> None:
    call = await called(Script(rules=(Rule(reply=REPLY),)), path, asked)
    system = json.loads(call.attributes["gen_ai.system_instructions"])
    assert system == [{"type": "text", "content": SYSTEM}]


SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: dict[str, Any] = {
    "openai/v1/chat/completions": {
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    },
    "openai/v1/responses": {
        "tools": [{"type": "function", "name": "weather", "parameters": SCHEMA}]
    },
    "anthropic/v1/messages": {"tools": [{"name": "weather", "input_schema": SCHEMA}]},
    "bedrock/model/m/converse": {
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}]
        }
    },
}


@pytest.mark.parametrize(("path", "asked"), CALLS[:8])
async def test_a_call_of_a_tool_is_told_with_its_arguments(
    path: str, asked: dict[str, Any]
) -> None:
    tool = ScriptedToolCall(name="weather", arguments={"city": "Oslo"})
    offered = WEATHER[path.removesuffix("-stream")]
    call = await called(Script(rules=(Rule(tool_call=tool),)), path, asked | offered)
    [answer] = json.loads(call.attributes["gen_ai.output.messages"])
    [part] = [part for part in answer["parts"] if part["type"] == "tool_call"]
    assert (part["name"], part["arguments"]) == ("weather", {"city": "Oslo"})
    assert part["id"]
    assert answer["finish_reason"] == "tool_call"


async def test_the_answers_of_tools_have_a_role_of_their_own() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    asked: dict[str, Any] = {"model": "m", "messages": [
        {"role": "system", "content": SYSTEM}, *SAID, {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]}  # fmt: skip
    told = await called(
        Script(rules=(Rule(role="tool", reply=REPLY),)), "openai/v1/chat/completions", asked
    )
    messages = json.loads(told.attributes["gen_ai.input.messages"])
    assert [each["role"] for each in messages] == ["system", "user", "assistant", "tool"]
    assert messages[2]["parts"] == [
        {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {}}
    ]
    assert messages[3]["parts"] == [{"type": "tool_call_response", "id": "c1", "response": "rain"}]


async def test_what_is_long_is_cut_and_says_so() -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.json_response({"choices": [{"message": {"content": "x" * CONTENT_BYTES_MAX}}]})

    async with (
        upstream(handle) as base_url,
        open_doorway(openai_at(base_url), tracing={"content": Always()}) as door,
    ):
        path = "/model/openai/v1/chat/completions"
        async with door.http.post(door.url + path, json={"messages": SAID}) as answer:
            assert len(await answer.read()) > CONTENT_BYTES_MAX
        [call] = await door.calls()
    assert len(call.attributes["freehold.exchange.response"]) == CONTENT_BYTES_MAX
    assert call.attributes["freehold.exchange.truncated"] is True
    assert "gen_ai.output.messages" not in call.attributes


@pytest.mark.parametrize("body", [b"", b"[]", b'{"messages": 7}', b'{"messages": [7]}', b"\xff{"])
async def test_a_shape_that_nobody_knows_is_told_raw_alone(body: bytes) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async with (
        upstream(handle) as base_url,
        open_doorway(openai_at(base_url), tracing={"content": Always()}) as door,
    ):
        path = "/model/openai/v1/chat/completions"
        async with door.http.post(door.url + path, data=body) as answer:
            assert await answer.read() == body
        [call] = await door.calls()
    assert not [name for name in call.attributes if name.startswith("gen_ai.output")]
    assert call.attributes.get("freehold.exchange.response", "") == body.decode(errors="replace")
