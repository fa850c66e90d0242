"""An OpenAI-compatible endpoint: what is asked, and what may go wrong."""

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from embedding_ground import ENDPOINT_KEY, ENDPOINT_MODEL, EndpointDouble
from freehold.adapters.embeddings.endpoint import EndpointEmbeddings
from freehold.ports.embeddings import EmbeddingsUnavailable


@pytest.fixture
async def double() -> AsyncIterator[EndpointDouble]:
    async with EndpointDouble() as double:
        yield double


@pytest.fixture
async def endpoint(double: EndpointDouble) -> AsyncIterator[EndpointEmbeddings]:
    endpoint = EndpointEmbeddings(double.base_url + "/", ENDPOINT_MODEL, key=ENDPOINT_KEY)
    yield endpoint
    await endpoint.close()


async def test_it_asks_for_the_model_and_floats(
    endpoint: EndpointEmbeddings, double: EndpointDouble
) -> None:
    await endpoint.embed(["a tool"])
    assert double.requests == [
        {"model": ENDPOINT_MODEL, "input": ["a tool"], "encoding_format": "float"}
    ]


async def test_many_texts_are_several_requests(
    endpoint: EndpointEmbeddings, double: EndpointDouble
) -> None:
    await endpoint.embed([str(at) for at in range(130)])
    assert [len(asked["input"]) for asked in double.requests] == [64, 64, 2]


async def test_a_wrong_key_is_told_without_the_key(double: EndpointDouble) -> None:
    endpoint = EndpointEmbeddings(double.base_url, ENDPOINT_MODEL, key="sk-very-wrong")
    with pytest.raises(EmbeddingsUnavailable, match="401: see FREEHOLD_EMBEDDINGS_KEY") as refused:
        await endpoint.embed(["a"])
    assert "sk-very-wrong" not in str(refused.value) + repr(endpoint)
    await endpoint.close()


async def test_a_model_that_is_not_there_is_told(double: EndpointDouble) -> None:
    endpoint = EndpointEmbeddings(double.base_url, "other", key=ENDPOINT_KEY)
    with pytest.raises(EmbeddingsUnavailable, match="404: see FREEHOLD_EMBEDDINGS and"):
        await endpoint.embed(["a"])
    await endpoint.close()


async def test_nobody_there_is_told() -> None:
    endpoint = EndpointEmbeddings("http://127.0.0.1:9/v1", ENDPOINT_MODEL)
    with pytest.raises(EmbeddingsUnavailable, match="cannot be reached"):
        await endpoint.embed(["a"])
    await endpoint.close()


@pytest.mark.parametrize(
    "answer",
    [
        "not json",
        "{}",
        '{"data": []}',
        '{"data": [{"index": 7, "embedding": [1.0]}]}',
        '{"data": [{"index": 0, "embedding": []}]}',
        '{"data": [{"index": 0, "embedding": [1e39]}]}',
        '{"data": [{"index": 0, "embedding": "AAAA"}]}',
        '{"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0]}]}',
    ],
)
async def test_an_answer_that_is_none_is_told(
    endpoint: EndpointEmbeddings, double: EndpointDouble, answer: str
) -> None:
    double.answers.append(web.Response(text=answer, content_type="application/json"))
    with pytest.raises(EmbeddingsUnavailable, match="answered"):
        await endpoint.embed(["a"])


async def test_vectors_of_another_length_than_before_are_refused(
    endpoint: EndpointEmbeddings, double: EndpointDouble
) -> None:
    await endpoint.embed(["a"])
    short = json.dumps({"data": [{"index": 0, "embedding": [1.0, 0.0]}]})
    double.answers.append(web.Response(text=short, content_type="application/json"))
    with pytest.raises(EmbeddingsUnavailable, match="2 dimensions"):
        await endpoint.embed(["a"])


async def test_a_redirect_is_not_followed_with_the_key(
    endpoint: EndpointEmbeddings, double: EndpointDouble
) -> None:
    elsewhere = {"Location": f"{double.base_url}/embeddings"}
    double.answers.append(web.Response(status=307, headers=elsewhere))
    with pytest.raises(EmbeddingsUnavailable, match="307"):
        await endpoint.embed(["a"])
    assert len(double.requests) == 1
