"""Calls past MCP in their traces: of models with their tokens, of other targets by name."""

from collections.abc import AsyncIterator

import httpx
import pytest
from aiohttp import web
from passage_ground import Everybody, Ground, provider, through, upstream

from freehold.edges.pipeline import Pipeline
from freehold.kernel.tracing import Kind, Status
from freehold.testing.scripted_model import ScriptedModel
from kept_spans import KeptSpans

CHAT = "/inference/v1/chat/completions"
SAID = [{"role": "user", "content": "three little words"}]
ANN = {"authorization": "Bearer user-ann"}


@pytest.fixture
def kept(ground: Ground) -> KeptSpans:
    kept = KeptSpans()
    ground.edge.pipeline = Pipeline(authorizer=Everybody(), calls_in_flight_max=10, recorder=kept)
    return kept


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_call_is_told_with_its_tokens_at_its_end(
    ground: Ground, kept: KeptSpans, model: ScriptedModel, stream: bool
) -> None:
    ground.has(provider("own", model.base_url.removesuffix("/v1"), "gpt"))
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    async with httpx.AsyncClient(headers=ANN) as client:
        asked = {"model": "gpt", "messages": SAID, **more}
        answer = await client.post(ground.url + CHAT, json=asked)
    assert answer.status_code == 200, answer.text
    call = kept.one("chat ")
    told = call.attributes
    assert (call.name, call.kind, call.trail.tenant) == ("chat gpt", Kind.CLIENT, ground.tenant)
    assert (told["freehold.target"], told["freehold.streamed"]) == ("own", stream)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (3, 13)
    assert told["freehold.metered"] is True
    assert "little" not in repr([span.attributes for span in kept.spans])


async def test_a_model_that_nobody_reaches_has_failed(ground: Ground, kept: KeptSpans) -> None:
    ground.has(provider("own", "http://127.0.0.1:1", "gpt"))
    async with httpx.AsyncClient(headers=ANN) as client:
        answer = await client.post(ground.url + CHAT, json={"model": "gpt", "messages": SAID})
    assert answer.status_code == 502
    call = kept.one("chat gpt")
    assert (call.status, call.ended_ns > 0) == (Status.ERROR, True)


async def test_another_target_is_told_by_its_name(ground: Ground, kept: KeptSpans) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({})

    async with upstream(answer) as url, httpx.AsyncClient(headers=ANN) as client:
        ground.has(through("pets", url))
        assert (await client.get(f"{ground.url}/pets/all?key=a-secret")).status_code == 200
    span = kept.one("gateway ")
    assert (span.name, span.attributes["freehold.target"]) == ("gateway pets", "pets")
    assert "a-secret" not in repr(span.attributes)
