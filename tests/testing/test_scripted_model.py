"""The scripted model speaks every wire, says that it is scripted, and does what its script says."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import openai
import pytest

from freehold.testing.scripted_model import (
    DEFAULT_SCRIPT,
    MODEL_NAME,
    Rule,
    Script,
    ScriptedModel,
    ScriptedToolCall,
)

HELLO: Any = [{"role": "user", "content": "hello there"}]
SAID = "I am a scripted stand-in, not a model. You said: hello there"
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {}}}
SCRIPT = Script(
    rules=(
        Rule(when=r"weather in (\w+)", tool_call=ScriptedToolCall("weather", {"city": r"\1"})),
        Rule(role="tool", when=r"(\d+)", reply=r"It is \1 degrees."),
        Rule(when="(?i)fail", status=500, reply="as the script says"),
        Rule(when="hello", reply="Hi."),
    )
)


def client_of(model: ScriptedModel, path: str = "") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=model.base_url + path, api_key="any", max_retries=0)


@pytest.mark.parametrize("path", ["", "/v1"])
async def test_without_a_script_it_repeats_what_it_heard_and_counts_words(path: str) -> None:
    async with ScriptedModel() as model, client_of(model, path) as client:
        answer = await client.chat.completions.create(model="gpt-any", messages=HELLO)
        models = [each.id async for each in client.models.list()]
    assert answer.choices[0].message.content == SAID
    assert answer.model == MODEL_NAME
    assert models == [MODEL_NAME]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 12)


async def test_a_chat_with_a_tool_goes_as_scripted() -> None:
    async with ScriptedModel(SCRIPT) as model, client_of(model) as client:
        asked: Any = [{"role": "user", "content": "the weather in Oslo"}]
        stream = await client.chat.completions.create(
            model="m", messages=asked, tools=[TOOL], stream=True
        )
        deltas = [c.choices[0].delta async for c in stream if c.choices]
        [call] = [call for delta in deltas for call in delta.tool_calls or ()]
        assert call.function is not None
        assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Oslo"}')

        asked += [
            {
                "role": "assistant",
                "tool_calls": [{"id": call.id, "type": "function", "function": call.function}],
            },
            {"role": "tool", "tool_call_id": call.id, "content": "4 C"},
        ]
        answer = await client.chat.completions.create(model="m", messages=asked, tools=[TOOL])
    assert answer.choices[0].message.content == "It is 4 degrees."


async def test_a_tool_that_is_not_offered_is_not_called() -> None:
    async with ScriptedModel(SCRIPT) as model, client_of(model) as client:
        asked: Any = [{"role": "user", "content": "hello, the weather in Oslo"}]
        answer = await client.chat.completions.create(model="m", messages=asked)
    assert answer.choices[0].message.content == "Hi."


async def test_the_responses_wire_streams_text_and_tool_calls() -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": {}, "strict": False}
    async with ScriptedModel(SCRIPT) as model, client_of(model) as client:
        async with client.responses.stream(model="m", input="hello") as stream:
            kinds = [event.type async for event in stream]
            assert (await stream.get_final_response()).output_text == "Hi."
        asked = "the weather in Oslo"
        async with client.responses.stream(model="m", input=asked, tools=[tool]) as stream:
            call: Any = (await stream.get_final_response()).output[0]
        told: Any = [
            {"role": "user", "content": asked},
            call.model_dump(exclude={"parsed_arguments"}),
            {"type": "function_call_output", "call_id": call.call_id, "output": "4 C"},
        ]
        answer = await client.responses.create(model="m", input=told)
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert (call.name, call.arguments) == ("weather", '{"city":"Oslo"}')
    assert answer.output_text == "It is 4 degrees."


async def test_the_anthropic_wire_has_its_own_events_and_errors() -> None:
    asked = {"model": "claude", "max_tokens": 9, "messages": HELLO, "stream": True}
    async with ScriptedModel() as model, aiohttp.ClientSession(model.base_url) as http:
        async with http.post("/v1/messages", json=asked) as answer:
            events = [line[7:] async for line in answer.content if line.startswith(b"event: ")]
        async with http.post("/v1/messages", json={"model": "claude"}) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["type"] == "invalid_request_error"
    assert events[0] == b"message_start\n"
    assert events[-2:] == [b"message_delta\n", b"message_stop\n"]
    assert events.count(b"content_block_delta\n") == 12


async def test_an_error_comes_when_the_script_says_and_when_no_rule_fits() -> None:
    async with ScriptedModel(SCRIPT) as model, client_of(model) as client:
        for text, status, message in (
            ("please fail", 500, "as the script says"),
            ("goodbye", 400, "no rule of the script fits"),
        ):
            asked: Any = [{"role": "user", "content": text}]
            with pytest.raises(openai.APIStatusError, match=message) as failed:
                await client.chat.completions.create(model="m", messages=asked)
            assert failed.value.status_code == status


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b"{"),
        ("/v1/chat/completions", b"[]"),
        ("/v1/chat/completions", b'{"model":"m","messages":[]}'),
        ("/v1/chat/completions", b'{"model":"m","messages":["x"]}'),
        ("/v1/chat/completions", b'{"messages":[{"role":"user","content":"x"}]}'),
        ("/v1/responses", b'{"model":"m"}'),
        ("/v1/messages", b'{"max_tokens":1}'),
        ("/model/m/converse", b"{}"),
    ],
)
async def test_what_is_no_request_is_refused(path: str, body: bytes) -> None:
    async with ScriptedModel() as model, aiohttp.ClientSession(model.base_url) as http:
        answer = await http.post(path, data=body)
        assert answer.status == 400
        assert MODEL_NAME in await answer.text()


async def test_the_same_script_gives_the_same_bytes() -> None:
    async def said() -> bytes:
        asked = {"model": "m", "messages": HELLO, "stream": True}
        async with ScriptedModel() as model, aiohttp.ClientSession(model.base_url) as http:
            answer = await http.post("/v1/chat/completions", json=asked)
            return await answer.read()

    assert await said() == await said()


async def test_requests_are_remembered() -> None:
    async with ScriptedModel() as model, client_of(model) as client:
        await client.chat.completions.create(model="m", messages=HELLO)
    [request] = model.requests
    assert request.headers["authorization"] == "Bearer any"
    assert request.document["messages"] == HELLO


def test_a_script_with_an_unknown_field_names_it() -> None:
    with pytest.raises(ValueError, match="wen"):
        Script.from_json('{"rules": [{"wen": "typo"}]}')


async def test_it_runs_by_itself_with_a_script_from_a_file(tmp_path: Path) -> None:
    rules = {"rules": [{"when": "hello", "reply": "from the file"}], "piece_delay_ms": 1}
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "freehold.testing.scripted_model",
        "--port",
        "0",
        "--script",
        str(tmp_path / "rules.json"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            assert line.startswith(f"{MODEL_NAME}: a scripted stand-in, not a model, at http://127")
            client = openai.AsyncOpenAI(base_url=line.split()[-1], api_key="any")
            stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            said = "".join([c.choices[0].delta.content or "" async for c in stream])
            await client.close()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert said == "from the file"


def test_the_default_script_is_a_script_like_any_other() -> None:
    assert Script.from_json(msgspec.json.encode(DEFAULT_SCRIPT)) == DEFAULT_SCRIPT
