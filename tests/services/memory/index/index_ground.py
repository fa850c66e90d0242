"""An index on the real store, with an embedder that takes words for what they are."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.ports.embeddings import EmbeddingsUnavailable
from freehold.services.memory.index.filling import Filling
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.model import Memory
from freehold.services.memory.ports import Unit, Where

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECONDS_MAX = 120
_CONCEPTS = (("car", "automobile", "vehicle"), ("cat", "kitten", "feline"), ("tea", "drink"))


class WordVectors:
    """Texts with words of one concept are near each other; all others are anywhere."""

    def __init__(self, model: str = "words-1", dimensions: int = 32) -> None:
        self.model, self.dimensions = model, dimensions
        self.away = False
        self.asked: list[str] = []
        self.allowed = asyncio.Event()
        self.allowed.set()

    async def embed(self, texts: Sequence[str]) -> Any:
        self.asked += texts
        await self.allowed.wait()
        if self.away:
            raise EmbeddingsUnavailable("the embedder is away")
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Any:
        total = np.zeros(self.dimensions, np.float32)
        for word in text.lower().replace(":", " ").split():
            concept = next((c[0] for c in _CONCEPTS if word in c), word)
            seed = hashlib.sha256(f"{self.model} {concept}".encode()).digest()[:4]
            total += np.random.default_rng(int.from_bytes(seed)).standard_normal(self.dimensions)
        return total / (np.linalg.norm(total) or 1.0)


def memory_of(tenant: str, id: str = "memory-1") -> Memory:
    return Memory(
        tenant=tenant,
        id=id,
        arn=f"arn:aws:bedrock-agentcore:local:{tenant}:memory/{id}",
        name="m",
        status="ACTIVE",
        expiry_days=90,
    )


def unit(id: str, text: str, namespace: str = "/a/", **more: Any) -> Unit:
    return Unit(
        **{
            "id": id,
            "namespaces": (namespace,),
            "strategy_id": "facts",
            "text": text,
            "at": AT,
            **more,
        }
    )


async def put(database: PostgresDatabase, index: MemoryIndex, memory: Memory, *units: Unit) -> None:
    async with database.transaction() as connection:
        await index.put(connection, memory, units)


async def ids(
    index: MemoryIndex, memory: Memory, query: str, limit: int = 10, **where: Any
) -> list[str]:
    hits = await index.search(memory, Where(**(where or {"namespace": "/a/"})), query, limit)
    return [hit.id for hit in hits]


@asynccontextmanager
async def filling(
    database: PostgresDatabase, embeddings: WordVectors, **options: Any
) -> AsyncIterator[Filling]:
    running = Filling(database, embeddings, pause_seconds_min=0.02, **options)
    running.start()
    try:
        yield running
    finally:
        await running.close()


async def until(condition: Callable[[], Any]) -> None:
    """Asks again and again, for as long as a test may take."""
    async with asyncio.timeout(SECONDS_MAX):
        for pause in itertools.chain((0.01,) * 20, itertools.repeat(0.05)):
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(pause)
