"""Search over the tools of a gateway: vectors fused with text.

    index = await search.index(tenant, gateway_id, version, texts)
    found = await search.find(index, "refund a payment", limit=10, allowed=may_use)

An index is in a worker's memory, made from definitions; vectors come from the store, and those not
there yet are embedded in the background while text already finds their tools. `prepare` does that
beforehand, so that a target is found by its meaning as soon as it is READY.
"""

import asyncio
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from freehold.ports.database import Database
from freehold.ports.embeddings import Embeddings, EmbeddingsUnavailable
from freehold.services.gateway.search_index import Allowed, Hit, ToolIndex
from freehold.services.gateway.search_store import VectorStore, unpacked
from freehold.services.gateway.search_text import SearchText, text_hash

__all__ = ["SearchText", "ToolIndex", "ToolSearch"]

QUERY_CHARACTERS_MAX = 2000
_CHUNK = 64
_INLINE_TOOLS_MAX = 2000
"""Scoring more than these (0.2 ms) goes to a thread: the event loop has others to serve."""
_INLINE_MADE_MAX = 50
_QUERIES_KEPT = 512
_RETRY_SECONDS = 15.0

Floats = np.ndarray[Any, np.dtype[np.float32]]
_log = logging.getLogger(__name__)


class ToolSearch:
    def __init__(
        self,
        database: Database,
        embeddings: Embeddings,
        *,
        bytes_max: int = 256 << 20,
        query_seconds_max: float = 2.0,
    ) -> None:
        """`bytes_max` bounds the indexes of all gateways together; the least used are dropped, and
        made again when they are asked for. A query that is not embedded within
        `query_seconds_max` is answered by text."""
        self._store = VectorStore(database)
        self._embeddings = embeddings
        self._bytes_max, self._query_seconds_max = bytes_max, query_seconds_max
        self._indexes: OrderedDict[tuple[str, str], tuple[str, asyncio.Task[ToolIndex]]]
        self._indexes = OrderedDict()
        self._filling: dict[int, asyncio.Task[None]] = {}
        self._queries: OrderedDict[str, Floats] = OrderedDict()
        self._why = ""
        self._not_before = 0.0

    async def prepare(self, tenant: str, texts: Sequence[SearchText]) -> int:
        """Embeds and stores what the store does not have; how many. For the synchronisation of a
        target. Without an embedder it does nothing: `say_how` tells."""
        wanted = {text_hash(embedded): embedded for embedded in (t.embedded() for t in texts)}
        stored = await self._store.read(tenant, self._embeddings.model, list(wanted))
        new = [(digest, text) for digest, text in wanted.items() if digest not in stored]
        done = 0
        for start in range(0, len(new), _CHUNK):
            some = new[start : start + _CHUNK]
            vectors = await self._embedded([text for _, text in some])
            if vectors is None:
                break
            await self._keep(tenant, [digest for digest, _ in some], vectors)
            done += len(some)
        return done

    async def index(
        self,
        tenant: str,
        gateway_id: str,
        version: str,
        texts: Callable[[], Sequence[SearchText]],
    ) -> ToolIndex:
        """The one in memory when its `version` is the same; else one made of `texts()`. Several
        that ask at once share the work."""
        key = (tenant, gateway_id)
        kept = self._indexes.get(key)
        if kept is None or kept[0] != version or _failed(kept[1]):
            kept = (version, asyncio.create_task(self._make(tenant, texts)))
            self._indexes[key] = kept
        self._indexes.move_to_end(key)
        index = await asyncio.shield(kept[1])
        self._bound()
        return index

    def forget(self, tenant: str, gateway_id: str) -> None:
        self._indexes.pop((tenant, gateway_id), None)

    async def find(
        self, index: ToolIndex, query: str, limit: int = 10, allowed: Allowed = None
    ) -> list[Hit]:
        """Keys and scores, the best first, at most `limit` of those that `allowed` lets through.

        Whom little is allowed still gets `limit`. Only tools with some likeness are named.
        """
        query = " ".join(query[:QUERY_CHARACTERS_MAX].split())
        if not query or limit < 1 or not len(index):
            return []
        if index.missing:
            self._fill(index)
        vector = await self._vector(query)
        if vector is not None and index.dimensions not in (0, len(vector)):
            await self._outgrown(index, len(vector))
            vector = None
        if len(index) <= _INLINE_TOOLS_MAX:
            return index.find(query, vector, limit, allowed)
        return await asyncio.to_thread(index.find, query, vector, limit, allowed)

    def say_how(self, index: ToolIndex | None = None) -> str:
        """Either "vectors and text", or "text alone" with the reason."""
        if self._why:
            return f"text alone: {self._why}"
        if index is not None and index.missing:
            return (
                f"vectors and text: {len(index.missing)} of {len(index)} tools are found by text "
                "alone until they are embedded"
            )
        return "vectors and text"

    async def sweep(self) -> int:
        """Deletes stored vectors that nobody used for a month; how many."""
        return await self._store.sweep()

    async def close(self) -> None:
        tasks = [*self._filling.values(), *(task for _, task in self._indexes.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(self, tenant: str, texts: Callable[[], Sequence[SearchText]]) -> ToolIndex:
        given = texts()
        if len(given) <= _INLINE_MADE_MAX:
            index = ToolIndex(tenant, given)
        else:
            index = await asyncio.to_thread(ToolIndex, tenant, given)
        if len(index):
            await self._put_stored(index)
        if index.missing:
            self._fill(index)
        return index

    async def _put_stored(self, index: ToolIndex) -> None:
        digests = [missing.digest for missing in index.missing.values()]
        stored = await self._store.read(index.tenant, self._embeddings.model, digests)
        rows = [row for row, missing in index.missing.items() if missing.digest in stored]
        if rows:
            index.put(rows, unpacked([stored[index.missing[row].digest] for row in rows]))

    def _fill(self, index: ToolIndex) -> None:
        """Embeds what is missing, unless that is under way or was refused a moment ago."""
        if id(index) in self._filling or time.monotonic() < self._not_before:
            return
        task = asyncio.create_task(self._filled(index))
        self._filling[id(index)] = task
        task.add_done_callback(lambda done: self._ended(id(index), done))

    def _ended(self, filled: int, task: asyncio.Task[None]) -> None:
        self._filling.pop(filled, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Of the store. The next search tries again.
            _log.warning("Vectors of tools could not be kept: %s", error)
            self._not_before = time.monotonic() + _RETRY_SECONDS

    async def _filled(self, index: ToolIndex) -> None:
        while some := dict(itertools.islice(index.missing.items(), _CHUNK)):
            vectors = await self._embedded([missing.text for missing in some.values()])
            if vectors is None:
                return
            if index.dimensions not in (0, vectors.shape[1]):
                await self._outgrown(index, vectors.shape[1])
                return
            index.put(list(some), vectors)
            await self._keep(index.tenant, [m.digest for m in some.values()], vectors)

    async def _outgrown(self, index: ToolIndex, dimensions: int) -> None:
        """An endpoint gives vectors of another length under the same name: those kept are of no
        use, and the next `index` begins anew."""
        _log.warning("The embeddings' model has changed: vectors are made anew")
        await self._store.drop_others(index.tenant, self._embeddings.model, dimensions)
        for key, (_, task) in list(self._indexes.items()):
            if task.done() and not _failed(task) and task.result() is index:
                del self._indexes[key]

    async def _keep(self, tenant: str, hashes: Sequence[str], vectors: Floats) -> None:
        await self._store.write(tenant, self._embeddings.model, hashes, vectors)

    async def _vector(self, query: str) -> Floats | None:
        kept = self._queries.get(query)
        if kept is not None:
            self._queries.move_to_end(query)
            return kept
        if time.monotonic() < self._not_before:
            return None
        vectors = await self._embedded([query], seconds_max=self._query_seconds_max)
        if vectors is None:
            return None
        vector: Floats = vectors[0]
        self._queries[query] = vector
        if len(self._queries) > _QUERIES_KEPT:
            self._queries.popitem(last=False)
        return vector

    async def _embedded(
        self, texts: Sequence[str], *, seconds_max: float | None = None
    ) -> Floats | None:
        """None where there is no embedder now: then text alone finds, and the reason is kept."""
        try:
            async with asyncio.timeout(seconds_max):
                vectors = await self._embeddings.embed(texts)
        except (EmbeddingsUnavailable, TimeoutError) as error:
            why = str(error) or f"embeddings took more than {seconds_max:g} s"
            if why != self._why:
                _log.warning("Tools are searched by text alone: %s", why)
            self._why = why
            self._not_before = time.monotonic() + _RETRY_SECONDS
            return None
        self._why, self._not_before = "", 0.0
        return vectors

    def _bound(self) -> None:
        """The newest index always stays, however large."""
        sizes = {
            key: task.result().bytes if task.done() and not _failed(task) else 0
            for key, (_, task) in self._indexes.items()
        }
        total = sum(sizes.values())
        for key in list(self._indexes)[:-1]:
            if total <= self._bytes_max:
                return
            del self._indexes[key]
            total -= sizes[key]


def _failed(task: asyncio.Task[ToolIndex]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
