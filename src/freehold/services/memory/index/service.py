"""The index of a memory's texts: found by their words, their meaning, and what stands beside them.

    index = MemoryIndex(database, embeddings)
    async with database.transaction() as connection:
        await index.put(connection, memory, units)
    hits = await index.search(memory, Where(namespace="/actors/anna/"), "her birthday", 10)

`Filling` makes the vectors. A search takes the best units by words (BM25 over exactly the units of
the namespaces searched) and the nearest by meaning, adds their neighbours, and orders all of them
by `fusion`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np

from freehold.ports.database import Connection, Database
from freehold.ports.embeddings import Embeddings, EmbeddingsUnavailable
from freehold.services.memory.index import (
    filling,
    nearest,
    postings,
    queries,
    store,
    vectors,
    views,
)
from freehold.services.memory.index.bm25 import Postings
from freehold.services.memory.index.candidates import Candidates
from freehold.services.memory.index.nearest import Cosines, Probe, Vectors
from freehold.services.memory.index.queries import Query
from freehold.services.memory.index.store import Around, Place
from freehold.services.memory.model import Memory
from freehold.services.memory.ports import Hit, Unit, Where

_SEEDS, _SEEDS_OF_MANY = 48, 32
"""Of each kind, the best units by words and by meaning that are looked at more closely; fewer of
more than `nearest.ALL_MAX`, where each costs more: benchmarks/recall.py --store says what is lost.
"""
_INLINE_POSTINGS_MAX = 200_000
"""Scoring more than these (1 ms) goes to a thread: the event loop has others to serve."""
_QUERIES_KEPT = 512
_SPEAKERS_MAX = 200
_TRIES_MAX = 3
"""A text that is put again is another unit, and one that was found may be gone a moment later."""


class Answer(msgspec.Struct, frozen=True):
    """`without` says why words alone were looked at, or is ""."""

    hits: Sequence[Hit]
    without: str = ""


class IndexStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Of one memory. `units` counts a text once for each of its namespaces; `waiting` are those
    without a vector of `model`, and are found by words (or by a vector of an older model)."""

    units: int
    embedded: int
    waiting: int
    model: str


class MemoryIndex:
    def __init__(
        self,
        database: Database,
        embeddings: Embeddings,
        *,
        older: Sequence[Embeddings] = (),
        query_seconds_max: float = 2.0,
    ) -> None:
        """`older` can embed queries for namespaces whose vectors are still another model's. A query
        that is not embedded within `query_seconds_max` is answered by words alone."""
        self._database = database
        self._embedders = (embeddings, *older)
        self._query_seconds_max = query_seconds_max
        self._numbers: dict[tuple[str, int], int] = {}
        self._kept: OrderedDict[tuple[str, str], Vectors] = OrderedDict()

    # -- changing

    async def put(self, connection: Connection, memory: Memory, units: Sequence[Unit]) -> None:
        latest = {unit.id: unit for unit in units}
        if not latest:
            return
        await self.remove(connection, memory, list(latest))
        in_order = [latest[id] for id in sorted(latest)]
        texts = await store.put(connection, memory.tenant, memory.id, in_order)
        await postings.add(connection, texts)
        await vectors.wait(connection, [(text.no, text.ns) for text in texts])
        await self._database.notify(connection, filling.CHANNEL, "")

    async def retire(
        self, connection: Connection, memory: Memory, ids: Sequence[str], at: datetime
    ) -> None:
        """What was superseded stays in the statistics: it is still a text of its namespace."""
        await store.retire(connection, memory.tenant, memory.id, ids, at)

    async def remove(self, connection: Connection, memory: Memory, ids: Sequence[str]) -> None:
        gone = await store.remove(connection, memory.tenant, memory.id, ids)
        if gone:
            await postings.take_away(connection, gone)
            await vectors.drop(connection, [(text.no, text.ns) for text, _ in gone])
            await self._database.notify(connection, filling.CHANNEL, "")

    async def clear(self, connection: Connection, tenant: str, memory_id: str) -> bool:
        return await store.clear(connection, tenant, memory_id)

    # -- asking

    async def search(self, memory: Memory, where: Where, query: str, limit: int) -> Sequence[Hit]:
        return (await self.answer(memory, where, query, limit)).hits

    async def answer(self, memory: Memory, where: Where, query: str, limit: int) -> Answer:
        """The hits of `search`, and how they were found."""
        async with self._database.connection() as connection:
            now = datetime.now(UTC)
            # What words are looked up does not depend on who speaks there.
            terms = queries.understand(query, now=now).terms
            places, read = await store.read(connection, memory, where, terms)
            if not places or limit < 1:
                return Answer(())
            speakers = _speakers(places, where.asker)
            # Who never spoke there is not who asks: a path may be above several actors.
            asker = where.asker if where.asker in speakers else ""
            asked = queries.understand(query, speakers=speakers, asker=asker, now=now)
            spaces = await self._spaces(connection, places)
        without = ""
        probes: list[Probe] = []
        try:
            async with asyncio.timeout(self._query_seconds_max):
                for embedder, number, some in spaces:
                    for text in asked.vector_texts:
                        vector = await self._embedded(embedder, text)
                        probes.append(Probe(number, vector, some))
        except TimeoutError:
            without, probes = "the embedder did not answer in time", []
        except EmbeddingsUnavailable as error:
            without, probes = str(error), []
        if not spaces:
            without = "no text of these namespaces has been embedded yet"
        async with self._database.connection() as connection:
            for _ in range(_TRIES_MAX):
                search = _Search(places, where, asked, limit=limit, read=read, probes=probes)
                hits = await search.hits(connection)
                if not search.outdated:
                    break
                places, read = await store.read(connection, memory, where, terms)
        return Answer(hits, without)

    async def status(self, tenant: str, memory_id: str) -> IndexStatus:
        async with self._database.connection() as connection:
            units, waiting = await store.size(connection, tenant, memory_id)
        return IndexStatus(
            units=units,
            embedded=units - waiting,
            waiting=waiting,
            model=self._embedders[0].model,
        )

    async def _spaces(
        self, connection: Connection, places: Sequence[Place]
    ) -> list[tuple[Embeddings, int, list[Place]]]:
        """Which embedder's vectors are looked at in which namespaces: those of the model in force
        if it can be asked, else ours, as far as they are."""
        numbers: dict[int, Embeddings] = {}
        for embedder in reversed(self._embedders):
            number = await self._number(connection, embedder)
            if number is not None:
                numbers[number] = embedder
        ours = await self._number(connection, self._embedders[0])
        chosen: dict[int, list[Place]] = {}
        for place in places:
            number = place.model if place.model in numbers else ours
            if number is not None:
                chosen.setdefault(number, []).append(place)
        return [(numbers[number], number, some) for number, some in chosen.items()]

    async def _number(self, connection: Connection, embedder: Embeddings) -> int | None:
        key = (embedder.model, embedder.dimensions)
        known = self._numbers.get(key)
        if known is None and embedder.model:
            known = await vectors.model_number(connection, *key)
            if known is not None:
                self._numbers[key] = known
        return known

    async def _embedded(self, embedder: Embeddings, text: str) -> Vectors:
        key = (embedder.model, text)
        kept = self._kept.get(key)
        if kept is None:
            kept = (await embedder.embed([text]))[0]
            self._kept[key] = kept
            if len(self._kept) > _QUERIES_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return kept


class _Search:
    """One search, once its words were read and its query embedded."""

    def __init__(
        self,
        places: Sequence[Place],
        where: Where,
        query: Query,
        *,
        limit: int,
        read: Postings,
        probes: Sequence[Probe],
    ) -> None:
        self._places = [place.no for place in places]
        self._where, self._query, self._limit = where, query, limit
        self._read, self._probes = read, probes
        self._few = read.statistics.units <= nearest.ALL_MAX
        self._seeds = max(_SEEDS if self._few else _SEEDS_OF_MANY, limit)
        self.outdated = False

    async def hits(self, connection: Connection) -> list[Hit]:
        """`outdated` then says whether some of what was read has gone meanwhile."""
        # The server looks for meaning while words are weighed here.
        cosines, by_words = await asyncio.gather(self._nearest(connection), self._by_words(None))
        seeds = {*by_words, *cosines.best(self._seeds)}
        around, more = await self._around(connection, seeds)
        if len(seeds) >= self._seeds and len(np.unique(around.seeds)) < self._limit:
            # Few of the best are meant: look at all that are.
            meant = await store.meant(connection, self._places, self._where)
            by_words = await self._by_words(meant)
            by_meaning = (await self._among(connection, meant)).numbers.tolist()
            around, more = await self._around(connection, {*by_words, *by_meaning})
        best = Candidates.of(around).best(
            self._query, self._read, Cosines.of([cosines, *more]), self._limit
        )
        missing = seeds - set(around.seeds.tolist())  # not meant, as a rule
        self.outdated = bool(missing) and await store.some_gone(connection, sorted(missing))
        return [Hit(id=id, score=score) for id, score in best]

    async def _by_words(self, among: Sequence[int] | None) -> list[int]:
        if self._read.many <= _INLINE_POSTINGS_MAX:
            return self._read.best(self._seeds, among)
        return await asyncio.to_thread(self._read.best, self._seeds, among)

    async def _nearest(self, connection: Connection) -> Cosines:
        limit = nearest.ALL_MAX if self._few else self._seeds
        return Cosines.of([await nearest.nearest(connection, p, limit) for p in self._probes])

    async def _among(self, connection: Connection, units: Sequence[int]) -> Cosines:
        return Cosines.of(
            [
                await nearest.of_units(connection, probe, units, self._seeds)
                for probe in self._probes
            ]
        )

    async def _around(
        self, connection: Connection, seeds: set[int]
    ) -> tuple[Around, list[Cosines]]:
        """Also the cosines of all that is there."""
        # The neighbours of what was found are candidates too, and need neighbours of their own.
        reach = 2 * views.REACH
        also = [] if self._few else [nearest.of_found(probe) for probe in self._probes]
        around, lists = await store.around(connection, sorted(seeds), self._where, reach, also)
        pairs = zip(lists[::2], lists[1::2], strict=True)
        return around, [Cosines.listed(*pair) for pair in pairs]


def _speakers(places: Sequence[Place], asker: str) -> list[str]:
    """Of many the first by name; but who asks is among them."""
    names = {name for place in places for name in place.speakers}
    return sorted(names, key=lambda name: (name != asker, name))[:_SPEAKERS_MAX]
