"""BM25 is exactly what a few plain lines of Python say it is, whatever happened to the texts."""

import asyncio
import math
import random
import secrets
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_ground import AT, memory_of, put, unit, until

from freehold.adapters.embeddings.absent import NoEmbeddings
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.index import analysis, postings, store
from freehold.services.memory.index.filling import Filling
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.index.views import K1, B
from freehold.services.memory.model import Memory
from freehold.services.memory.ports import Unit, Where

NAMES = ("/a/", "/a/b/", "/c/")
WORDS = ("tea", "coffee", "lisbon", "car", "kitten", "monday", "rain")
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 9), st.sampled_from(NAMES), TEXTS),
    st.tuples(st.just("remove"), st.integers(0, 9), st.just(""), st.just("")),
    st.tuples(st.just("retire"), st.integers(0, 9), st.just(""), st.just("")),
    st.tuples(st.just("tidy"), st.just(0), st.sampled_from(NAMES), st.just("")),
)


def plain_bm25(units: list[Unit], query: list[str]) -> dict[str, float]:
    texts = {unit.id: Counter(analysis.unit_terms(unit)) for unit in units}
    usual = sum(text.total() for text in texts.values()) / max(1, len(texts))
    scores: dict[str, float] = {}
    for id, text in texts.items():
        for term in set(query) & text.keys():
            having = sum(term in other for other in texts.values())
            rarity = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            norm = K1 * (1 - B + B * text.total() / usual)
            scores[id] = scores.get(id, 0.0) + rarity * text[term] / (text[term] + norm)
    return scores


async def indexed_bm25(
    database: PostgresDatabase, memory: Memory, where: Where, query: list[str]
) -> dict[str, float]:
    async with database.connection() as connection:
        _, read = await store.read(connection, memory, where, query)
        numbers, scores = read.scored()
        by_number = dict(zip(numbers.tolist(), scores.tolist(), strict=True))
        assert sorted(by_number, key=lambda no: (-by_number[no], no))[:3] == read.best(3)
        everything = Where(path="/", current=False)
        around, _ = await store.around(connection, list(by_number), everything, 0)
    numbers = around.numbers.tolist()
    assert set(numbers) == by_number.keys(), "only texts that are there have postings"
    return {id: by_number[no] for id, no in zip(around.ids, numbers, strict=True)}


@given(steps=st.lists(STEPS, max_size=25), query=st.lists(st.sampled_from(WORDS), min_size=1))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_scores_are_those_of_plain_bm25_after_any_history(
    index_database: PostgresDatabase,
    steps: list[tuple[str, int, str, str]],
    query: list[str],
) -> None:
    memory = memory_of(secrets.token_hex(6))
    index = MemoryIndex(index_database, NoEmbeddings())
    filling = Filling(index_database, NoEmbeddings())
    there: dict[str, Unit] = {}
    for step, number, name, text in steps:
        id = f"r{number}"
        async with index_database.transaction() as connection:
            match step:
                case "put":
                    there[id] = unit(id, text, name)
                    await index.put(connection, memory, [there[id]])
                case "remove":
                    there.pop(id, None)
                    await index.remove(connection, memory, [id])
                case "retire":
                    await index.retire(connection, memory, [id], AT)
                case "tidy":
                    places, _ = await store.read(connection, memory, Where(namespace=name), [])
                    await postings.leave_untidy(connection, [place.no for place in places])
        if step == "tidy":
            await filling.tidy()
    for where in (*(Where(namespace=name) for name in NAMES), Where(path="/a/"), Where(path="/")):
        below = where.path or where.namespace
        units = [
            unit
            for unit in there.values()
            if unit.namespaces[0] == below or (where.path and unit.namespaces[0].startswith(below))
        ]
        found = await indexed_bm25(
            index_database, memory, where, [analysis.terms(word)[0] for word in query]
        )
        expected = plain_bm25(units, [analysis.terms(word)[0] for word in query])
        assert found == pytest.approx(expected, rel=1e-5)


async def test_writers_of_one_namespace_neither_wait_for_each_other_nor_miscount(
    index_database: PostgresDatabase, tenant: str
) -> None:
    memory = memory_of(tenant)
    index = MemoryIndex(index_database, NoEmbeddings())
    filling = Filling(index_database, NoEmbeddings())
    await put(index_database, index, memory, unit("first", "tea rain"))
    async with index_database.transaction() as connection:
        await index.put(connection, memory, [unit("r-held", "tea car monday")])
        # The other has not committed, and yet this goes through.
        async with asyncio.timeout(5):
            await put(index_database, index, memory, unit("r-quick", "tea car lisbon"))
    made = random.Random(3)
    texts = {f"w{n}": " ".join(made.choices(WORDS, k=6)) for n in range(120)}

    async def write(mine: list[str]) -> None:
        for id in mine:
            await put(index_database, index, memory, unit(id, "rain rain"))
            await put(index_database, index, memory, unit(id, texts[id]))
            if id.endswith("7"):
                async with index_database.transaction() as connection:
                    await index.remove(connection, memory, [id])

    async def tidy(writers: list[asyncio.Task[None]]) -> None:
        while not all(writer.done() for writer in writers):
            await filling.tidy()
            await asyncio.sleep(0)

    async with asyncio.timeout(25):
        writers = [asyncio.create_task(write(list(texts)[n::4])) for n in range(4)]
        await asyncio.gather(tidy(writers), *writers)
        await filling.tidy()
    units = [unit("first", "tea rain"), unit("r-held", "tea car monday")]
    units += [unit("r-quick", "tea car lisbon")]
    units += [unit(id, text) for id, text in texts.items() if not id.endswith("7")]
    terms = [analysis.terms(word)[0] for word in WORDS]
    found = await indexed_bm25(index_database, memory, Where(namespace="/a/"), terms)
    assert found == pytest.approx(plain_bm25(units, terms), rel=1e-5)


async def test_merging_leaves_few_rows_and_nothing_of_what_was_removed(
    index_database: PostgresDatabase, tenant: str
) -> None:
    memory = memory_of(tenant)
    index = MemoryIndex(index_database, NoEmbeddings())
    filling = Filling(index_database, NoEmbeddings())
    secret = unit("secret", "tea with xylophonist", "/people/x/", speaker="Xaver")
    for n in range(150):
        await put(index_database, index, memory, unit(f"r{n}", "tea in the rain", "/people/x/"))
    await put(index_database, index, memory, secret)
    await filling.tidy()
    assert await _rows(index_database, "term = 'tea'", tenant) < 150 / 2
    async with index_database.transaction() as connection:
        await index.remove(connection, memory, ["secret"])
    await filling.tidy()
    assert await _rows(index_database, "term LIKE 'xylophon%%' OR term = 'xaver'", tenant) == 0
    async with index_database.transaction() as connection:
        await index.remove(connection, memory, [f"r{n}" for n in range(150)])
    await filling.tidy()
    async with index_database.connection() as connection:
        rows = await connection.execute(
            "SELECT namespace FROM memory_index_namespaces WHERE tenant = %s", (tenant,)
        )
        assert await rows.fetchall() == [], "the name of an empty namespace tells who was there"


async def test_merging_begins_by_itself_after_some_writes(
    index_database: PostgresDatabase, tenant: str
) -> None:
    memory = memory_of(tenant)
    index = MemoryIndex(index_database, NoEmbeddings())
    filling = Filling(index_database, NoEmbeddings())
    filling.start()
    try:
        for n in range(3 * postings.UNTIDY_EVERY):
            await put(index_database, index, memory, unit(f"r{n}", "tea"))
        await until(lambda: _few(index_database, tenant))
    finally:
        await filling.close()


async def _few(database: PostgresDatabase, tenant: str) -> bool:
    return await _rows(database, "term = 'tea'", tenant) < 2 * postings.UNTIDY_EVERY


async def _rows(database: PostgresDatabase, condition: str, tenant: str) -> int:
    async with database.connection() as connection:
        rows = await connection.execute(
            "SELECT count(*) FROM memory_index_postings p JOIN memory_index_namespaces n"
            f" ON n.no = p.ns WHERE n.tenant = %s AND ({condition})",
            (tenant,),
        )
        return int((await rows.fetchall())[0][0])
