"""What every implementation of ports.embeddings.Embeddings promises."""

import asyncio
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from embedding_ground import (
    ENDPOINT_KEY,
    ENDPOINT_MODEL,
    EndpointDouble,
    local_embeddings,
)
from freehold.adapters.embeddings.endpoint import EndpointEmbeddings
from freehold.ports.embeddings import Embeddings

TEXTS = ["refund a payment", "weather in Paris tomorrow", "open an issue in the repository"]


@pytest.fixture(params=["local", "endpoint"], scope="module")
async def embedder(request: pytest.FixtureRequest) -> AsyncIterator[Embeddings]:
    if request.param == "local":
        local = local_embeddings()
        yield local
        await local.close()
        return
    async with EndpointDouble() as double:
        endpoint = EndpointEmbeddings(double.base_url, ENDPOINT_MODEL, key=ENDPOINT_KEY)
        yield endpoint
        await endpoint.close()


async def test_a_text_is_a_row_of_unit_length(embedder: Embeddings) -> None:
    vectors = await embedder.embed(TEXTS)
    assert vectors.shape == (3, embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


async def test_no_texts_are_no_rows(embedder: Embeddings) -> None:
    assert (await embedder.embed([])).shape[0] == 0


async def test_it_says_which_model_made_a_vector(embedder: Embeddings) -> None:
    assert embedder.model


async def test_the_order_of_many_texts_is_kept(embedder: Embeddings) -> None:
    texts = [f"{'word ' * (at % 7)}number {at}" for at in range(150)]
    together = await embedder.embed(texts)
    for at in (0, 63, 64, 101, 149):
        alone = (await embedder.embed([texts[at]]))[0]
        best = int(np.argmax(together @ alone))
        assert texts[best] == texts[at]
        assert float(together[at] @ alone) > 0.98  # int8 differs a little by what is beside it


async def test_a_request_is_nearest_to_what_answers_it(embedder: Embeddings) -> None:
    tools = await embedder.embed(TEXTS)
    asked = await embedder.embed(["the weather tomorrow", "refund the payment of a customer"])
    assert (asked @ tools.T).argmax(axis=1).tolist() == [1, 0]


@pytest.mark.parametrize(
    "text", ["", " ", "\0\x1b[0m", "x" * 200_000, "\u200b\u202e", "東京の天気 🌦", "\udcff"]
)
async def test_any_text_has_a_vector(embedder: Embeddings, text: str) -> None:
    vectors = await embedder.embed([text])
    assert np.isfinite(vectors).all()


async def test_the_event_loop_goes_on_meanwhile(embedder: Embeddings) -> None:
    await embedder.embed(TEXTS)
    pauses = []
    work = asyncio.create_task(embedder.embed([f"{'many words ' * 20}{at}" for at in range(100)]))
    while not work.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        pauses.append(time.perf_counter() - began)
    await work
    assert np.median(pauses) < 0.025  # a batch alone takes longer


async def test_several_may_ask_at_once_and_each_gets_its_own(embedder: Embeddings) -> None:
    alone = [await embedder.embed([text]) for text in TEXTS]
    asked = [TEXTS[at % 3 : at % 3 + 1 + at % 2] for at in range(40)]
    found = await asyncio.gather(*(embedder.embed(texts) for texts in asked))
    for texts, rows in zip(asked, found, strict=True):
        assert len(rows) == len(texts)
        for text, row in zip(texts, rows, strict=True):
            assert float(alone[TEXTS.index(text)][0] @ row) > 0.98


async def test_who_gives_up_harms_no_one_else(embedder: Embeddings) -> None:
    asked = [asyncio.create_task(embedder.embed([text])) for text in TEXTS * 3]
    await asyncio.sleep(0)
    for task in asked[::2]:
        task.cancel()
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(rows, asyncio.CancelledError) for rows in done[:2]] == [True, False]
    assert all(len(rows) == 1 for rows in done[1::2] if not isinstance(rows, BaseException))
    assert (await embedder.embed(TEXTS)).shape[0] == 3
