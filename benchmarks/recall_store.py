"""The questions of recall.py, asked of the index on an embedded PostgreSQL."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from database_under_test import database

from freehold.adapters.embeddings.local import LocalEmbeddings
from freehold.adapters.embeddings.weights import Weights, beside_python
from freehold.services.memory.index import fusion, queries
from freehold.services.memory.index.filling import Filling
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.model import Memory
from freehold.services.memory.ports import Hit, Where

if TYPE_CHECKING:
    from recall import Asked, Conversation

    from freehold.ports.embeddings import Vectors

TENANT = "123456789012"
LIMIT = 20
TIE = 0.002
"""Vectors are stored in 16 bits."""
_FILL_SECONDS_MAX = 600


class OneByOne:
    """In int8 a vector differs a little with the texts that share its run; here it must not."""

    def __init__(self) -> None:
        self._local = LocalEmbeddings(Weights([beside_python()]))
        self.model, self.dimensions = self._local.model, self._local.dimensions

    async def embed(self, texts: Sequence[str]) -> "Vectors":
        return np.concatenate([await self._local.embed([text]) for text in texts])

    async def close(self) -> None:
        await self._local.close()


class Answers:
    """The store's first hits for each question, beside the scores in memory."""

    def __init__(self) -> None:
        self.hits: list[Sequence[Hit]] = []
        self.differing: list[str] = []

    async def add(self, asked: "Asked", hits: Sequence[Hit], embeddings: OneByOne) -> None:
        # The store reckons "last week" against today, and so must the other.
        query = queries.understand(
            asked.query.text, speakers=asked.corpus.speakers, now=datetime.now(UTC)
        )
        for text in query.vector_texts:
            if text not in asked.corpus.vectors:
                asked.corpus.vectors[text] = (await embeddings.embed([text]))[0]
        seen = asked.corpus.seen(query)
        ours = dict(fusion.ranked(query, seen.found, seen.statistics))
        self.hits.append(hits)
        if not same(ours, hits):
            self.differing.append(asked.query.text)


def same(ours: Mapping[str, float], hits: Sequence[Hit]) -> bool:
    """The same units in the same order, but for those whose scores are nearly equal."""
    best = sorted(ours.values(), reverse=True)
    return len(hits) == min(LIMIT, len(ours)) and all(
        abs(ours[hit.id] - score) <= TIE for hit, score in zip(hits, best, strict=False)
    )


async def answered(given: Sequence["Conversation"], asked: Sequence["Asked"], pool: Any) -> Answers:
    embeddings = OneByOne()
    memory = Memory(
        tenant=TENANT, id="recall-1", arn="", name="recall", status="ACTIVE", expiry_days=90
    )
    index = MemoryIndex(pool, embeddings, query_seconds_max=60)
    filling = Filling(pool, embeddings)
    answers = Answers()
    try:
        for part in given:
            async with pool.transaction() as connection:
                await index.put(connection, memory, part.units)
        filling.start()
        async with asyncio.timeout(_FILL_SECONDS_MAX):
            while (await index.status(TENANT, memory.id)).waiting:
                await asyncio.sleep(0.2)
        for one in asked:
            where = Where(path=one.corpus.path)
            hits = await index.search(memory, where, one.query.text, LIMIT)
            await answers.add(one, hits, embeddings)
    finally:
        await filling.close()
        await embeddings.close()
    return answers


async def of_store(given: Sequence["Conversation"], asked: Sequence["Asked"]) -> Answers:
    async with database() as (_, pool):
        return await answered(given, asked, pool)
