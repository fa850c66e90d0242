"""Each provider's own client, configured by a session's environment alone, and its true wire.

The scripted model stands in for the provider: it calls a tool, and answers only what holds the
tool's result.
"""

import json
import secrets

import pytest
from aiohttp import web
from provider_clients import CLIENTS, OPENAI, SCRIPT, run_client
from served_doorway import open_doorway, upstream

from freehold.edges.doorway import PLACEHOLDER_KEY, session_environment
from freehold.ports.model_spans import PROVIDERS
from freehold.ports.models import ModelKind, ModelProvider
from freehold.testing.scripted_model import MODEL_NAME, ScriptedModel

KEY = "the-key-that-stays-outside"


@pytest.mark.parametrize(("kind", "source"), CLIENTS)
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
