"""Model calls go through as they came, with the platform's key in place of the session's."""

import asyncio
import io
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError
from served_doorway import Doorway, open_doorway, openai_at, upstream
from signed_upstream import expected_signature, signing_provider

from aws_clients import aws_client
from freehold.edges.doorway import PLACEHOLDER_KEY, DoorwayLimits
from freehold.testing.scripted_model import MODEL_NAME, Rule, Script, ScriptedModel

HELLO: Any = [{"role": "user", "content": "hello there"}]
SAID = "I am a scripted stand-in, not a model. You said: hello there"
CHAT = "/model/openai/v1/chat/completions"


def openai_client(door: Doorway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{door.url}/model/openai/v1", api_key=PLACEHOLDER_KEY, max_retries=2
    )


def bedrock_client(door: Doorway) -> Any:
    return aws_client(
        "bedrock-runtime",
        endpoint_url=f"{door.url}/model/bedrock",
        region_name="eu-west-1",
        aws_access_key_id="FHSESSIONXXXXXXXXXXX",
        aws_secret_access_key="marker",
        config=Config(retries={"mode": "standard", "total_max_attempts": 3}),
    )


async def test_the_openai_client_chats_streams_and_lists_models(model: ScriptedModel) -> None:
    async with open_doorway(model.providers("sk-real")) as door, openai_client(door) as client:
        whole = await client.chat.completions.create(model="gpt", messages=HELLO)
        pieces = [
            chunk.choices[0].delta.content or ""
            async for chunk in await client.chat.completions.create(
                model="gpt", messages=HELLO, stream=True
            )
        ]
        response = await client.responses.create(model="gpt", input="hello there")
        models = [each.id async for each in client.models.list()]

    assert whole.choices[0].message.content == SAID
    assert "".join(pieces) == SAID
    assert len(pieces) > 10
    assert response.output_text == SAID
    assert models == [MODEL_NAME]
    assert {request.headers["authorization"] for request in model.requests} == {"Bearer sk-real"}


async def test_the_anthropic_wire_goes_through_with_its_own_key_header(
    model: ScriptedModel,
) -> None:
    asked = {"model": "claude", "max_tokens": 100, "messages": HELLO}
    headers = {"x-api-key": PLACEHOLDER_KEY, "anthropic-version": "2023-06-01"}
    async with open_doorway(model.providers("sk-ant-real")) as door:
        url = f"{door.url}/model/anthropic/v1/messages?beta=true"
        async with door.http.post(url, json=asked, headers=headers) as answer:
            assert (await answer.json())["content"][0]["text"] == SAID
        async with door.http.post(url, json={**asked, "stream": True}, headers=headers) as answer:
            assert answer.content_type == "text/event-stream"
            assert (await answer.read()).count(b"event: content_block_delta") == 12

    assert model.requests[0].path == "/v1/messages?beta=true"
    assert model.requests[0].headers["x-api-key"] == "sk-ant-real"
    assert model.requests[0].headers["anthropic-version"] == "2023-06-01"
    assert model.requests[0].document == asked


async def test_bedrock_is_signed_anew_with_the_platforms_keys() -> None:
    seen: list[dict[str, str]] = []

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        seen.append({name.lower(): value for name, value in request.headers.items()})
        assert seen[-1]["authorization"] == expected_signature(request, body)
        return web.json_response(
            {"output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}}}
        )

    async with (
        upstream(handle) as base_url,
        open_doorway({"bedrock": signing_provider(base_url)}) as door,
    ):
        large = "x" * (3 << 20)
        for text in ("hello", large):
            answer = await asyncio.to_thread(
                bedrock_client(door).converse,
                modelId="arn:aws:bedrock:us-west-2::inference-profile/us.model:0",
                messages=[{"role": "user", "content": [{"text": text}]}],
            )
            assert answer["output"]["message"]["content"] == [{"text": "hi"}]

    assert all("AKIAPLATFORM/" in headers["authorization"] for headers in seen)
    assert seen[0]["x-amz-security-token"] == "platform-token"
    assert not any("FHSESSION" in str(headers) for headers in seen)


async def test_a_stream_arrives_piece_by_piece_while_the_model_still_speaks() -> None:
    go_on = asyncio.Event()

    async def hold(piece: int) -> None:
        if piece == 1:
            await go_on.wait()

    async with (
        ScriptedModel(before_piece=hold) as model,
        open_doorway(model.providers()) as door,
        openai_client(door) as client,
        asyncio.timeout(10),
    ):
        stream = await client.chat.completions.create(model="gpt", messages=HELLO, stream=True)
        pieces: list[str] = []
        async for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")
            if pieces == ["", "I "]:
                go_on.set()  # only the first piece has been spoken: a buffered one never comes

    assert "".join(pieces) == SAID


async def test_a_session_that_hangs_up_ends_the_models_work() -> None:
    spoken: list[int] = []

    async def hold(piece: int) -> None:
        spoken.append(piece)
        if piece == 1:
            await asyncio.Event().wait()

    async with ScriptedModel(before_piece=hold) as model, open_doorway(model.providers()) as door:
        async with asyncio.timeout(10):
            asked = {"model": "gpt", "messages": HELLO, "stream": True}
            answer = await door.http.post(door.url + CHAT, json=asked)
            await answer.content.readany()
            answer.close()
            await model.hung_up.wait()
        [call] = await door.calls()

    assert spoken == [0, 1]
    assert call.name == "chat gpt"
    told = call.attributes
    assert (told["http.response.status_code"], told["freehold.streamed"]) == (499, True)
    assert told["error.type"] == "ClientDisconnected"


async def test_connections_to_the_provider_are_kept() -> None:
    peers: set[Any] = set()

    async def handle(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.json_response({})

    async with upstream(handle) as base_url, open_doorway(openai_at(base_url)) as door:
        for _ in range(5):
            async with door.http.post(door.url + CHAT, json={"model": "m"}) as answer:
                assert answer.status == 200
    assert len(peers) == 1


async def test_headers_cross_only_by_name() -> None:
    received: dict[str, str] = {}

    async def handle(request: web.Request) -> web.Response:
        received.update({name.lower(): value for name, value in request.headers.items()})
        headers = {
            "set-cookie": "a=b",
            "openai-organization": "the-operators",
            "x-ratelimit-remaining-tokens": "7",
            "x-request-id": "req-1",
        }
        return web.json_response({}, headers=headers)

    sent = {
        "Cookie": "a=b",
        "OpenAI-Organization": "somebody-else",
        "OpenAI-Project": "somebody-else",
        "X-Forwarded-For": "10.0.0.1",
        "X-Api-Key": "mine",
        "Idempotency-Key": "once",
    }
    async with upstream(handle) as base_url, open_doorway(openai_at(base_url)) as door:
        answer = await door.http.post(door.url + CHAT, json={"model": "m"}, headers=sent)
        returned = {name.lower() for name in answer.headers}

    assert received["idempotency-key"] == "once"
    assert received["authorization"] == "Bearer sk-upstream"
    forbidden = {"cookie", "openai-organization", "openai-project", "x-forwarded-for", "x-api-key"}
    assert not forbidden & set(received)
    assert {"x-ratelimit-remaining-tokens", "x-request-id"} <= returned
    assert not {"set-cookie", "openai-organization"} & returned


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/model/openai/v1/files"),
        ("GET", "/model/openai/v1/responses/resp_of_another_tenant"),
        ("GET", "/model/openai/v1/chat/completions"),
        ("DELETE", "/model/openai/v1/models/ft:gpt"),
        ("GET", "/model/openai/v1/models/../files"),
        ("GET", "/model/openai/v1/models/x/%2e%2e/%2e%2e/files"),
        ("GET", "/model/openai/v1/models/x%2F..%2F..%2Ffiles"),
        ("POST", "/model/openai/v1//chat/completions"),
        ("POST", "/model/anthropic/v1/messages/batches"),
        ("GET", "/model/anthropic/v1/organizations/me"),
        ("POST", "/model/bedrock/async-invoke"),
        ("POST", "/model/bedrock/model/../async-invoke/converse"),
    ],
)
async def test_what_belongs_to_the_key_and_not_to_the_call_is_not_passed_on(
    model: ScriptedModel, method: str, path: str
) -> None:
    async with open_doorway(model.providers()) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        # By hand: a client would tidy the path up first.
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        line = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        await writer.wait_closed()

    assert line.startswith(b"HTTP/1.1 404 ")
    assert not model.requests


async def test_a_provider_that_is_not_configured_says_what_to_set_on_the_openai_wire() -> None:
    async with open_doorway() as door, openai_client(door) as client:
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(model="gpt", messages=HELLO)
        assert refused.value.status_code == 503
        assert "OPENAI_API_KEY" in refused.value.message
        assert len(door.authorizing.asked) == 0  # refused before; and the SDK did not retry
        assert await door.calls() == []


async def test_a_provider_that_is_not_configured_says_what_to_set_on_the_anthropic_wire() -> None:
    async with open_doorway() as door:
        url = f"{door.url}/model/anthropic/v1/messages"
        async with door.http.post(url, json={}) as answer:
            assert answer.status == 503
            assert answer.headers["x-should-retry"] == "false"
            said = await answer.json()
    assert said["type"] == "error"
    assert said["error"]["type"] == "overloaded_error"
    assert "ANTHROPIC_API_KEY" in said["error"]["message"]


async def test_a_provider_that_is_not_configured_says_what_to_set_on_the_bedrock_wire() -> None:
    async with open_doorway() as door:
        client = bedrock_client(door)
        with pytest.raises(ClientError, match="AWS_ACCESS_KEY_ID") as refused:
            await asyncio.to_thread(
                client.converse,
                modelId="m",
                messages=[{"role": "user", "content": [{"text": "hi"}]}],
            )
    assert isinstance(refused.value, client.exceptions.ModelErrorException)
    assert refused.value.response["ResponseMetadata"]["RetryAttempts"] == 0


async def test_a_denied_operation_is_an_error_of_the_wire(model: ScriptedModel) -> None:
    denied = frozenset({"models:ChatCompletions", "models:Converse"})
    async with open_doorway(model.providers(), denied=denied) as door:
        async with openai_client(door) as client:
            with pytest.raises(openai.PermissionDeniedError):
                await client.chat.completions.create(model="gpt", messages=HELLO)
        with pytest.raises(ClientError, match="AccessDeniedException"):
            await asyncio.to_thread(
                bedrock_client(door).converse,
                modelId="m",
                messages=[{"role": "user", "content": [{"text": "hi"}]}],
            )
    assert not model.requests


async def test_an_error_of_the_provider_passes_unchanged() -> None:
    script = Script(rules=(Rule(status=429, reply="slow down, please"),))
    async with ScriptedModel(script) as model, open_doorway(model.providers()) as door:
        async with door.http.post(
            door.url + CHAT, json={"model": "gpt", "messages": HELLO}
        ) as answer:
            assert answer.status == 429
            assert (await answer.json())["error"]["message"] == "slow down, please"
        [call] = await door.calls()
    assert call.attributes["http.response.status_code"] == 429
    assert "gen_ai.usage.input_tokens" not in call.attributes


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_the_limit_is_refused(declared: bool) -> None:
    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({})

    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 65536

    limits = DoorwayLimits(body_bytes_max=1 << 20)
    async with upstream(handle) as base_url, open_doorway(openai_at(base_url), limits=limits) as d:
        data: Any = io.BytesIO(b"x" * (20 * 65536)) if declared else chunks()
        async with d.http.post(d.url + CHAT, data=data) as answer:
            assert answer.status == 413
            assert "larger than 1 MiB" in (await answer.json())["error"]["message"]


async def test_a_provider_that_is_away_slow_or_elsewhere_is_a_clear_error() -> None:
    async def handle(request: web.Request) -> web.Response:
        if request.path.endswith("/models"):
            raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/steal")
        await asyncio.sleep(30)
        return web.json_response({})

    limits = DoorwayLimits(idle_seconds_max=0.2)
    async with upstream(handle) as base_url, open_doorway(openai_at(base_url), limits=limits) as d:
        async with d.http.post(d.url + CHAT, json={"model": "m"}) as answer:
            assert answer.status == 504
            assert (await answer.json())["error"]["code"] == "ProviderTimeout"
        async with d.http.get(f"{d.url}/model/openai/v1/models") as answer:
            assert answer.status == 502
            assert "location" not in answer.headers
    async with open_doorway(openai_at(base_url)) as door:
        async with door.http.post(door.url + CHAT, json={"model": "m"}) as answer:
            assert answer.status == 502
            assert (await answer.json())["error"]["code"] == "ProviderFailed"
        [call] = await door.calls()
    assert (call.name, call.message) == ("chat m", "ProviderFailed")
    assert call.attributes["http.response.status_code"] == 502


async def test_an_answer_that_breaks_off_is_seen_to_be_cut() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: {}\n\n")
        assert request.transport is not None
        request.transport.close()
        return response

    async with upstream(handle) as base_url, open_doorway(openai_at(base_url)) as door:
        answer = await door.http.post(door.url + CHAT, json={"model": "m"})
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
        [call] = await door.calls()
    assert call.attributes["http.response.status_code"] == 502


async def test_a_session_has_so_many_calls_at_once_and_another_session_is_unaffected() -> None:
    arrived, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        arrived.release()
        await go_on.wait()
        return web.json_response({})

    limits = DoorwayLimits(calls_per_session_max=2)
    async with upstream(handle) as base_url, open_doorway(openai_at(base_url), limits=limits) as d:

        async def call() -> int:
            async with d.http.post(d.url + CHAT, json={"model": "m"}) as answer:
                return answer.status

        async with asyncio.timeout(10):
            first = [asyncio.create_task(call()) for _ in range(2)]
            for _ in range(2):
                await arrived.acquire()
            assert await call() == 429
            go_on.set()
            assert [await task for task in first] == [200, 200]
            assert await call() == 200
