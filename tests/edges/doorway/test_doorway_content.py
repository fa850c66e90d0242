"""What was said in a model call is in its span where the runtime captures it, and nowhere else."""

import io
import json
from typing import Any

import pytest
from aiohttp import web
from replayed_session import BLOCKS, CALLS, SAID, USER, Always
from served_doorway import open_doorway, openai_at, upstream

from freehold.kernel.tracing import Span
from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.ports.exchanges import recorded_bytes
from freehold.testing.scripted_model import Rule, Script, ScriptedModel, ScriptedToolCall

SYSTEM = "be brief"
REPLY = "It is raining in Oslo."


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
    assert told["freehold.exchange.content_type"]
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


async def test_a_request_that_is_too_long_to_be_held_leaves_a_mark() -> None:
    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"choices": []})

    body = io.BytesIO(b'{"messages": "%s"}' % (b"x" * (1 << 20)))
    async with (
        upstream(handle) as base_url,
        open_doorway(openai_at(base_url), tracing={"content": Always()}) as door,
        door.http.post(f"{door.url}/model/openai/v1/chat/completions", data=body) as answer,
    ):
        await answer.read()
    [call] = await door.calls()
    assert "freehold.exchange.request" not in call.attributes
    assert call.attributes["freehold.exchange.truncated"] is True


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
    assert recorded_bytes(call.attributes.get("freehold.exchange.response", "")) == body
