"""Each provider's own client, configured by a session's environment alone, and its true wire.

The scripted model stands in for the provider: it calls a tool, and answers only what holds the
tool's result.
"""

import asyncio
import json
import os
import secrets
import sys
import textwrap
from typing import Any

import pytest
from aiohttp import web
from served_doorway import open_doorway, upstream

from freehold.edges.doorway import PLACEHOLDER_KEY, session_environment
from freehold.ports.model_spans import PROVIDERS
from freehold.ports.models import ModelKind, ModelProvider
from freehold.testing.scripted_model import MODEL_NAME, Rule, Script, ScriptedModel
from freehold.testing.scripted_model import ScriptedToolCall as Call

KEY = "the-key-that-stays-outside"
SCRIPT = Script(
    rules=(
        Rule(when="weather in Oslo", tool_call=Call("weather", {"city": "Oslo"})),
        Rule(role="tool", when=r"(\d+) degrees", reply=r"Oslo has \1 degrees today."),
    )
)
PRELUDE = """
    import json, os, sys
    result = sys.argv[1] + " degrees"
    ASKED = "the weather in Oslo"
    SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
"""
OPENAI = """
    from openai import OpenAI
    client, model = OpenAI(), os.environ["OPENAI_MODEL"]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    messages = [{"role": "user", "content": ASKED}]
    first = client.chat.completions.create(model=model, messages=messages, tools=tools)
    call = first.choices[0].message.tool_calls[0]
    messages += [first.choices[0].message,
                 {"role": "tool", "tool_call_id": call.id, "content": result}]
    whole = client.chat.completions.create(model=model, messages=messages, tools=tools)
    stream = client.chat.completions.create(model=model, messages=messages, stream=True)
    pieces = [c.choices[0].delta.content or "" for c in stream if c.choices]
    said = [call.function.name, json.loads(call.function.arguments),
            whole.choices[0].message.content, "".join(pieces), whole.usage.completion_tokens]
"""
RESPONSES = """
    from openai import OpenAI
    client, model = OpenAI(), os.environ["OPENAI_MODEL"]
    tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
    asked = [{"role": "user", "content": ASKED}]
    first = client.responses.create(model=model, input=asked, tools=tools)
    call = first.output[0]
    asked += [*first.output,
              {"type": "function_call_output", "call_id": call.call_id, "output": result}]
    whole = client.responses.create(model=model, input=asked, tools=tools)
    stream = client.responses.create(model=model, input=asked, tools=tools, stream=True)
    pieces = [e.delta for e in stream if e.type == "response.output_text.delta"]
    said = [call.name, json.loads(call.arguments), whole.output_text, "".join(pieces),
            whole.usage.output_tokens]
"""
ANTHROPIC = """
    from anthropic import Anthropic
    client, model = Anthropic(), os.environ["ANTHROPIC_MODEL"]
    tools = [{"name": "weather", "input_schema": SCHEMA}]
    ask = {"model": model, "max_tokens": 100, "tools": tools}
    messages = [{"role": "user", "content": ASKED}]
    first = client.messages.create(messages=messages, **ask)
    call = first.content[0]
    answer = {"type": "tool_result", "tool_use_id": call.id, "content": result}
    messages += [{"role": "assistant", "content": first.content},
                 {"role": "user", "content": [answer]}]
    whole = client.messages.create(messages=messages, **ask)
    with client.messages.stream(messages=messages, **ask) as stream:
        pieces = list(stream.text_stream)
    said = [call.name, call.input, whole.content[0].text, "".join(pieces),
            whole.usage.output_tokens]
"""
BEDROCK = """
    import boto3
    client, model = boto3.client("bedrock-runtime"), os.environ["BEDROCK_MODEL_ID"]
    spec = {"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}
    ask = {"modelId": model, "toolConfig": {"tools": [spec]}}
    messages = [{"role": "user", "content": [{"text": ASKED}]}]
    first = client.converse(messages=messages, **ask)["output"]["message"]
    call = first["content"][0]["toolUse"]
    answer = {"toolUseId": call["toolUseId"], "content": [{"text": result}]}
    messages += [first, {"role": "user", "content": [{"toolResult": answer}]}]
    whole = client.converse(messages=messages, **ask)
    stream = client.converse_stream(messages=messages, **ask)["stream"]
    pieces = [e["contentBlockDelta"]["delta"]["text"] for e in stream if "contentBlockDelta" in e]
    said = [call["name"], call["input"], whole["output"]["message"]["content"][0]["text"],
            "".join(pieces), whole["usage"]["outputTokens"]]
"""
GEMINI = """
    from google import genai
    from google.genai import types
    client, model = genai.Client(), os.environ["GEMINI_MODEL"]
    declared = types.FunctionDeclaration(name="weather", parameters_json_schema=SCHEMA)
    ask = {"model": model,
           "config": types.GenerateContentConfig(
               tools=[types.Tool(function_declarations=[declared])])}
    contents = [types.UserContent(ASKED)]
    first = client.models.generate_content(contents=contents, **ask)
    call = first.function_calls[0]
    answer = types.Part.from_function_response(name=call.name, response={"output": result})
    contents += [first.candidates[0].content, types.UserContent([answer])]
    whole = client.models.generate_content(contents=contents, **ask)
    stream = client.models.generate_content_stream(contents=contents, **ask)
    pieces = [chunk.text or "" for chunk in stream]
    said = [call.name, call.args, whole.text, "".join(pieces),
            whole.usage_metadata.candidates_token_count]
    assert [each.name for each in client.models.list()] == ["models/freehold-scripted"]
"""
MISTRAL = """
    from mistralai.client import Mistral
    base_url, key = os.environ["MISTRAL_BASE_URL"], os.environ["MISTRAL_API_KEY"]
    client = Mistral(api_key=key, server_url=base_url.removesuffix("/v1"))
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    ask = {"model": os.environ["MISTRAL_MODEL"], "tools": [tool]}
    messages = [{"role": "user", "content": ASKED}]
    first = client.chat.complete(messages=messages, **ask).choices[0].message
    call = first.tool_calls[0]
    messages += [first, {"role": "tool", "tool_call_id": call.id, "content": result}]
    whole = client.chat.complete(messages=messages, **ask)
    with client.chat.stream(messages=messages, **ask) as stream:
        chunks = [event.data for event in stream]
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    said = [call.function.name, json.loads(call.function.arguments),
            whole.choices[0].message.content, "".join(pieces), chunks[-1].usage.completion_tokens]
"""


async def run_client(source: str, environment: dict[str, str], result: str) -> list[Any]:
    """What an agent prints whose environment is a session's, and nothing else."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(PRELUDE) + textwrap.dedent(source) + "\nprint(json.dumps(said))",
        result,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    said: list[Any] = json.loads(out)
    return said


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        pytest.param("openai", OPENAI, id="openai-chat"),
        pytest.param("openai", RESPONSES, id="openai-responses"),
        pytest.param("anthropic", ANTHROPIC, id="anthropic"),
        pytest.param("bedrock", BEDROCK, id="bedrock"),
        pytest.param("gemini", GEMINI, id="gemini"),
        pytest.param("mistral", MISTRAL, id="mistral"),
    ],
)
async def test_a_providers_own_client_calls_a_tool_and_answers_with_its_result(
    kind: str, source: str
) -> None:
    result = str(secrets.randbelow(10**9))
    async with ScriptedModel(SCRIPT) as model, open_doorway(model.providers(KEY)) as door:
        environment = session_environment(
            door.port, region="eu-west-1", providers=model.providers(KEY)
        )
        name, arguments, whole, streamed, tokens = await run_client(source, environment, result)
        calls = await door.calls()

    answer = f"Oslo has {result} degrees today."
    assert (name, arguments) == ("weather", {"city": "Oslo"})
    assert (whole, streamed, tokens) == (answer, answer, 5)
    told = [call.attributes for call in calls]
    assert [t["gen_ai.provider.name"] for t in told] == [PROVIDERS[ModelKind(kind)]] * 3
    assert [t["gen_ai.request.model"] for t in told] == [MODEL_NAME] * 3
    assert [t["http.response.status_code"] for t in told] == [200] * 3
    assert [t["freehold.streamed"] for t in told] == [False, False, True]
    sent = [" ".join(request.headers.values()) for request in model.requests]
    assert all(KEY in headers and PLACEHOLDER_KEY not in headers for headers in sent)


async def test_an_agent_on_openais_wire_can_be_given_a_model_of_mistrals() -> None:
    """By the operator's configuration alone: both have the same chat completions."""
    async with ScriptedModel(SCRIPT) as model:
        provider = ModelProvider(
            kind=ModelKind.OPENAI,
            base_url=f"{model.base_url}/mistral/v1",
            api_key=KEY,
            default_model="mistral-small",
        )
        model_providers = {"openai": provider}
        async with open_doorway(model_providers) as door:
            environment = session_environment(
                door.port, region="eu-west-1", providers=model_providers
            )
            name, _, whole, streamed, _ = await run_client(OPENAI, environment, "7")
    assert (name, whole, streamed) == ("weather", *["Oslo has 7 degrees today."] * 2)
    assert {request.path for request in model.requests} == {"/mistral/v1/chat/completions"}
    assert {request.document["model"] for request in model.requests} == {"mistral-small"}


ASKED = {"contents": [{"parts": [{"text": "hello"}]}]}


async def test_a_key_in_the_query_is_not_the_sessions_to_choose(model: ScriptedModel) -> None:
    async with open_doorway(model.providers(KEY)) as door:
        url = f"{door.url}/model/gemini/v1beta/models/gem:streamGenerateContent"
        query = "?alt=sse&key=mine&%6bey=mine&$key=mine"
        async with door.http.post(url + query, json=ASKED) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/event-stream"
    [request] = model.requests
    assert request.path.endswith(":streamGenerateContent?alt=sse")
    assert request.headers["x-goog-api-key"] == KEY


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "gemini/v1beta/files"),
        ("POST", "gemini/v1beta/cachedContents"),
        ("POST", "gemini/v1beta/models/gem:batchGenerateContent"),
        ("POST", "gemini/v1beta/models/..%2Ffiles:generateContent"),
        ("POST", "gemini/v1beta/tunedModels/mine:generateContent"),
        ("POST", "gemini/upload/v1beta/files"),
        ("POST", "mistral/v1/files"),
        ("POST", "mistral/v1/conversations"),
        ("POST", "mistral/v1/batch/jobs"),
        ("DELETE", "mistral/v1/models/mine"),
    ],
)
async def test_what_belongs_to_the_key_stays_with_its_owner(
    model: ScriptedModel, method: str, path: str
) -> None:
    async with (
        open_doorway(model.providers(KEY)) as door,
        door.http.request(method, f"{door.url}/model/{path}", json={}) as answer,
    ):
        assert answer.status == 404
    assert not model.requests


async def test_a_key_that_google_refuses_is_the_operators_matter() -> None:
    async def handle(request: web.Request) -> web.Response:
        reason = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        error = {"code": 400, "message": "Please pass a valid API key.", "details": [reason]}
        return web.json_response({"error": error}, status=400)

    async with upstream(handle) as base_url:
        provider = ModelProvider(kind=ModelKind.GEMINI, base_url=base_url, api_key=KEY)
        async with open_doorway({"gemini": provider}) as door:
            url = f"{door.url}/model/gemini/v1beta/models/gem:generateContent"
            async with door.http.post(url, json=ASKED) as answer:
                said = (await answer.json())["error"]
    assert (answer.status, said["status"]) == (400, "FAILED_PRECONDITION")
    assert "operator must check GEMINI_API_KEY" in said["message"]


async def test_another_fault_of_a_request_comes_back_from_google_as_it_is() -> None:
    fault = {"error": {"code": 400, "message": "no such field " + "x" * 40_000}}

    async def handle(request: web.Request) -> web.Response:
        return web.json_response(fault, status=400)

    async with upstream(handle) as base_url:
        provider = ModelProvider(kind=ModelKind.GEMINI, base_url=base_url, api_key=KEY)
        async with open_doorway({"gemini": provider}) as door:
            url = f"{door.url}/model/gemini/v1beta/models/gem:generateContent"
            async with door.http.post(url, json=ASKED) as answer:
                assert (answer.status, await answer.json()) == (400, fault)


@pytest.mark.parametrize(
    ("path", "status", "setting"),
    [
        ("gemini/v1/models/gem:generateContent", 400, "GEMINI_API_KEY"),
        ("mistral/v1/chat/completions", 503, "MISTRAL_API_KEY"),
    ],
)
async def test_a_provider_that_is_not_configured_says_what_to_set(
    path: str, status: int, setting: str
) -> None:
    async with (
        open_doorway() as door,
        door.http.post(f"{door.url}/model/{path}", json=ASKED) as answer,
    ):
        assert answer.status == status
        assert setting in await answer.text()


async def test_what_gemini_thought_and_cached_is_counted() -> None:
    counts = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 9,
        "thoughtsTokenCount": 30,
    }

    async def handle(request: web.Request) -> web.Response:
        if "alt=sse" in request.query_string:
            return web.Response(
                text=f"data: {json.dumps({'usageMetadata': {'promptTokenCount': 100}})}\n\n"
                f"data: {json.dumps({'usageMetadata': counts})}\n\n",
                content_type="text/event-stream",
            )
        return web.json_response({"usageMetadata": counts})

    async with upstream(handle) as base_url:
        provider = ModelProvider(kind=ModelKind.GEMINI, base_url=base_url, api_key=KEY)
        async with open_doorway({"gemini": provider}) as door:
            for asked in ("generateContent", "streamGenerateContent?alt=sse"):
                url = f"{door.url}/model/gemini/v1beta/models/gem:{asked}"
                async with door.http.post(url, json=ASKED) as answer:
                    await answer.read()
            recorded = await door.calls()
    for call in recorded:
        told = call.attributes
        assert told["gen_ai.usage.input_tokens"] == 105
        assert told["gen_ai.usage.output_tokens"] == 39
        assert told["gen_ai.usage.cache_read.input_tokens"] == 60
        assert call.name == "generate_content gem"
