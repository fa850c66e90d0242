"""A fork's call that is none of the record's is refused once, in the shape of its wire."""

import asyncio
import json
from typing import Any

import anthropic
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from replayed_session import CALLS, FORK_SESSION, SAID, Record, doorway

from aws_clients import aws_client
from freehold.edges.doorway import PLACEHOLDER_KEY
from freehold.kernel.errors import Conflict
from freehold.ports.replay import FORK_ID, REPLAY
from freehold.testing.scripted_model import ScriptedModel

WHY = "the fork asks for a model call that the record does not have"


def diverged() -> Record:
    return Record(then=Conflict(WHY))


SHAPES: dict[str, Any] = {
    "openai": {"error": {"message": WHY, "type": "invalid_request_error", "param": None,
                         "code": "ConflictException"}},
    "anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": WHY}},
    "bedrock": {"message": WHY},
    "gemini": {"error": {"code": 409, "message": WHY, "status": "ABORTED"}},
    "mistral": {"object": "error", "message": WHY, "type": "invalid_request_error", "param": None,
                "code": "ConflictException"},
}  # fmt: skip


@pytest.mark.parametrize(("path", "asked"), CALLS)
async def test_every_wire_says_why(path: str, asked: dict[str, Any]) -> None:
    async with ScriptedModel() as model, doorway(model.providers(), diverged()) as door:
        async with door.http.post(f"{door.url}/model/{path}", json=asked) as answer:
            assert answer.status == 409
            assert answer.headers["x-should-retry"] == "false"
            assert json.loads(await answer.read()) == SHAPES[path.partition("/")[0]]
        assert not model.requests
    [call] = await door.calls()
    assert call.attributes["http.response.status_code"] == 409
    assert call.attributes["error.type"] == "ConflictException"
    assert call.attributes[FORK_ID] == FORK_SESSION.session_id
    assert REPLAY not in call.attributes


async def test_openais_client_raises_it_and_does_not_try_again() -> None:
    replays = diverged()
    async with (
        doorway({}, replays) as door,
        openai.AsyncOpenAI(
            base_url=f"{door.url}/model/openai/v1", api_key=PLACEHOLDER_KEY, max_retries=2
        ) as client,
    ):
        with pytest.raises(openai.ConflictError, match=WHY):
            await client.chat.completions.create(model="m", messages=SAID)
        with pytest.raises(openai.ConflictError, match=WHY):
            await client.responses.create(model="m", input="hello", stream=True)
    assert len(replays.asked) == 2


async def test_anthropics_client_raises_it_and_does_not_try_again() -> None:
    replays = diverged()
    async with (
        doorway({}, replays) as door,
        anthropic.AsyncAnthropic(
            base_url=f"{door.url}/model/anthropic", api_key=PLACEHOLDER_KEY, max_retries=2
        ) as client,
    ):
        with pytest.raises(anthropic.ConflictError, match=WHY):
            await client.messages.create(model="m", max_tokens=9, messages=SAID)
    assert len(replays.asked) == 1


@pytest.mark.parametrize("mode", ["standard", "legacy", "adaptive"])
async def test_boto3_raises_it_and_does_not_try_again(mode: str) -> None:
    replays = diverged()
    async with doorway({}, replays) as door:
        client = aws_client(
            "bedrock-runtime",
            endpoint_url=f"{door.url}/model/bedrock",
            region_name="eu-west-1",
            aws_access_key_id="FHSESSIONXXXXXXXXXXX",
            aws_secret_access_key="marker",
            config=Config(retries={"mode": mode, "total_max_attempts": 3}),
        )
        said = [{"role": "user", "content": [{"text": "hello"}]}]
        for call in (client.converse, client.converse_stream):
            with pytest.raises(ClientError, match=WHY) as raised:
                await asyncio.to_thread(call, modelId="m", messages=said)
            assert raised.value.response["Error"]["Code"] == "ConflictException"
    assert len(replays.asked) == 2


@pytest.mark.slow
async def test_googles_client_raises_it_and_does_not_try_again() -> None:
    from google import genai  # slow to import
    from google.genai import errors, types

    replays = diverged()
    async with doorway({}, replays) as door:
        options = types.HttpOptions(
            base_url=f"{door.url}/model/gemini", retry_options=types.HttpRetryOptions(attempts=3)
        )
        client = genai.Client(api_key=PLACEHOLDER_KEY, http_options=options)
        with pytest.raises(errors.ClientError, match=WHY):
            await asyncio.to_thread(client.models.generate_content, model="m", contents="hello")
        client.close()
    assert len(replays.asked) == 1
