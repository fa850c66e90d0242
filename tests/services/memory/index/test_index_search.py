"""Texts are found by their words, their meaning and what stands beside them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from index_ground import WordVectors, filling, ids, memory_of, put, unit, until

from freehold.adapters.embeddings.absent import NoEmbeddings
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.index import store
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.ports import Where


@pytest.fixture
def index(index_database: PostgresDatabase) -> MemoryIndex:
    return MemoryIndex(index_database, NoEmbeddings())


async def test_words_find_a_text_as_soon_as_it_is_committed(
    index_database: PostgresDatabase, index: MemoryIndex, tenant: str
) -> None:
    memory = memory_of(tenant)
    await put(
        index_database,
        index,
        memory,
        unit("r1", "Anna likes green tea"),
        unit("r2", "Bob has a car"),
    )
    assert await ids(index, memory, "who likes tea?") == ["r1"]
    answer = await index.answer(memory, Where(namespace="/a/"), "tea", 5)
    assert [hit.id for hit in answer.hits] == ["r1"]
    assert 0 < answer.hits[0].score <= 1
    assert answer.without


async def test_what_a_transaction_did_not_commit_is_not_found(
    index_database: PostgresDatabase, index: MemoryIndex, tenant: str
) -> None:
    memory = memory_of(tenant)
    with pytest.raises(RuntimeError):
        async with index_database.transaction() as connection:
            await index.put(connection, memory, [unit("r1", "green tea")])
            raise RuntimeError
    assert await ids(index, memory, "tea") == []
    assert (await index.status(tenant, memory.id)).units == 0


async def test_a_text_that_is_put_again_during_a_search_is_found(
    index_database: PostgresDatabase, tenant: str
) -> None:
    memory, embedder = memory_of(tenant), WordVectors()
    index = MemoryIndex(index_database, embedder, query_seconds_max=60)
    await put(index_database, index, memory, unit("r1", "Anna likes tea"))
    async with filling(index_database, embedder):
        await until(lambda: _embedded(index, memory.tenant))
    made = len(embedder.asked)
    embedder.allowed.clear()
    searching = asyncio.ensure_future(ids(index, memory, "tea"))
    await until(lambda: len(embedder.asked) > made)
    await put(index_database, index, memory, unit("r1", "Anna likes tea"))
    embedder.allowed.set()
    assert await searching == ["r1"]


async def test_another_text_in_place_of_one_is_found_instead(
    index_database: PostgresDatabase, index: MemoryIndex, tenant: str
) -> None:
    memory = memory_of(tenant)
    await put(index_database, index, memory, unit("r1", "Anna likes tea"))
    await put(index_database, index, memory, unit("r1", "Anna likes coffee", "/b/"))
    assert await ids(index, memory, "tea", path="/") == []
    assert await ids(index, memory, "coffee", namespace="/b/") == ["r1"]
    assert await ids(index, memory, "coffee", namespace="/a/") == []
    async with index_database.transaction() as connection:
        await index.remove(connection, memory, ["r1", "r-unknown"])
    assert await ids(index, memory, "coffee", path="/") == []


async def test_a_namespace_is_exact_and_a_path_has_all_below_it(
    index_database: PostgresDatabase, index: MemoryIndex, tenant: str
) -> None:
    memory = memory_of(tenant)
    await put(
        index_database,
        index,
        memory,
        unit("anna", "tea", "/actors/anna/"),
        unit("ann", "tea", "/actors/ann/"),
        unit("deep", "tea", "/actors/ann/sessions/1/"),
        unit("both", "tea", namespaces=("/actors/ann/", "/other/")),
    )
    assert sorted(await ids(index, memory, "tea", namespace="/actors/ann/")) == ["ann", "both"]
    assert sorted(await ids(index, memory, "tea", namespace="actors/ann")) == ["ann", "both"]
    assert sorted(await ids(index, memory, "tea", path="/actors/ann/")) == ["ann", "both", "deep"]
    assert sorted(await ids(index, memory, "tea", path="/")) == ["ann", "anna", "both", "deep"]
    assert await ids(index, memory, "tea", namespace="/actors/") == []


async def test_what_is_retired_is_found_only_as_history_and_what_expired_never(
    index_database: PostgresDatabase, index: MemoryIndex, tenant: str
) -> None:
    memory = memory_of(tenant)
    past = datetime.now(UTC) - timedelta(seconds=1)
    await put(
        index_database,
        index,
        memory,
        unit("old", "Anna lives in Rome"),
        unit("new", "Anna lives in Oslo"),
        unit("gone", "Anna lives in Bern", expires_at=past),
        unit("soon", "Anna lives in Kyiv", expires_at=past + timedelta(days=1)),
    )
    async with index_database.transaction() as connection:
        await index.retire(connection, memory, ["old"], past)
    assert sorted(await ids(index, memory, "where does Anna live")) == ["new", "soon"]
    every = await ids(index, memory, "where does Anna live", namespace="/a/", current=False)
    assert sorted(every) == ["new", "old", "soon"]


async def test_strategy_and_metadata_narrow_a_search_however_few_match(
    index_database: PostgresDatabase, index: MemoryIndex, tenant: str
) -> None:
    memory = memory_of(tenant)
    better = [unit(f"r{n}", "tea tea tea", metadata={"kind": "x"}) for n in range(150)]
    few = [
        unit("wanted", "tea and much else that makes this a longer text", metadata={"kind": "y"}),
        unit("other", "tea and much else that makes this a longer text", strategy_id="s2"),
    ]
    await put(index_database, index, memory, *better, *few)
    wanted = [
        {
            "left": {"metadataKey": "kind"},
            "operator": "EQUALS_TO",
            "right": {"metadataValue": {"stringValue": "y"}},
        }
    ]
    assert await ids(index, memory, "tea", namespace="/a/", filters=wanted) == ["wanted"]
    assert await ids(index, memory, "tea", namespace="/a/", strategy_id="s2") == ["other"]
    assert len(await ids(index, memory, "tea", 100, namespace="/a/")) == 100


async def test_a_turn_is_found_by_the_words_of_its_neighbours(
    index_database: PostgresDatabase, index: MemoryIndex, tenant: str
) -> None:
    memory = memory_of(tenant)
    said = ["hello", "how was Lisbon?", "Wonderful, four days", "and the hotel", "bye", "ok", "so"]
    turns = [
        unit(f"t{n}", text, group="s1", order=f"{n:03}", speaker=("Anna", "Bob")[n % 2])
        for n, text in enumerate(said)
    ]
    elsewhere = unit("x", "Wonderful, four days", group="s2", order="000", speaker="Anna")
    await put(index_database, index, memory, *turns, elsewhere)
    found = await ids(index, memory, "Lisbon")
    assert found[0] == "t1"
    assert set(found) == {"t0", "t1", "t2", "t3"}, "two on each side, and no other session's"


async def test_i_am_the_one_whose_place_is_searched(
    index_database: PostgresDatabase, index: MemoryIndex, tenant: str
) -> None:
    """Others who speak there have said as much of the matter."""
    memory = memory_of(tenant)
    await put(
        index_database,
        index,
        memory,
        unit("a", "My flight to Oslo is early", "/t/anna/", speaker="anna"),
        unit("b", "My flight to Rome is early", "/t/anna/guide/", speaker="anna/guide"),
        unit("c", "The flight to Bonn is early", "/t/anna/", speaker="assistant"),
    )
    question = "How early is my flight?"
    nobody = await index.search(memory, Where(path="/t/anna/"), question, 3)
    assert nobody[0].score == nobody[1].score
    for asker, first in (("anna", "a"), ("anna/guide", "b")):
        found = await index.search(memory, Where(path="/t/anna/", asker=asker), question, 3)
        assert found[0].id == first and found[0].score > found[1].score
    elsewhere = Where(namespace="/t/anna/guide/", asker="anna")
    assert [hit.id for hit in await index.search(memory, elsewhere, question, 3)] == ["b"]


async def test_tenants_and_memories_are_apart(
    index_database: PostgresDatabase, index: MemoryIndex, tenant: str
) -> None:
    memory = memory_of(tenant)
    others = [memory_of(str(int(tenant) + 1)), memory_of(tenant, "memory-2")]
    await put(index_database, index, memory, unit("r1", "green tea"))
    for other in others:
        await put(index_database, index, other, unit("r1", "black coffee"))
        assert await ids(index, other, "tea", path="/") == []
        async with index_database.transaction() as connection:
            await index.remove(connection, other, ["r1"])
            await index.clear(connection, other.tenant, other.id)
    assert await ids(index, memory, "tea") == ["r1"]
    async with index_database.transaction() as connection:
        await index.clear(connection, tenant, memory.id)
    assert await ids(index, memory, "tea", path="/") == []


async def test_meaning_finds_what_no_word_does(
    index_database: PostgresDatabase, tenant: str
) -> None:
    memory, embeddings = memory_of(tenant), WordVectors()
    index = MemoryIndex(index_database, embeddings)
    await put(
        index_database, index, memory, unit("r1", "a kitten slept"), unit("r2", "the bus was late")
    )
    assert await ids(index, memory, "feline") == []
    async with filling(index_database, embeddings):
        await until(lambda: _embedded(index, memory.tenant))
        assert (await ids(index, memory, "feline"))[0] == "r1"
        # And one that comes later, without being asked for.
        await put(index_database, index, memory, unit("r3", "an old automobile"))
        await until(lambda: _embedded(index, memory.tenant))
    assert (await ids(index, memory, "vehicle"))[0] == "r3"


async def test_an_embedder_that_does_not_answer_costs_a_query_its_meaning_alone(
    index_database: PostgresDatabase, tenant: str
) -> None:
    memory, embeddings = memory_of(tenant), WordVectors()
    index = MemoryIndex(index_database, embeddings, query_seconds_max=0.05)
    await put(index_database, index, memory, unit("r1", "a kitten slept"))
    async with filling(index_database, embeddings):
        await until(lambda: _embedded(index, memory.tenant))
    embeddings.allowed.clear()
    answer = await index.answer(memory, Where(namespace="/a/"), "kitten", 5)
    assert [hit.id for hit in answer.hits] == ["r1"]
    assert "in time" in answer.without
    embeddings.allowed.set()
    embeddings.away = True
    answer = await index.answer(memory, Where(namespace="/a/"), "kitten", 5)
    assert [hit.id for hit in answer.hits] == ["r1"]
    assert "away" in answer.without


async def _embedded(index: MemoryIndex, tenant: str) -> bool:
    status = await index.status(tenant, "memory-1")
    return status.units > 0 and status.waiting == 0


async def test_a_large_memory_is_cleared_in_small_transactions(
    index_database: PostgresDatabase, index: MemoryIndex, tenant: str
) -> None:
    memory = memory_of(tenant)
    places = [f"/{n}/" for n in range(5)]
    await put(index_database, index, memory, *(
        unit(f"r{n}", f"tea {n}", places[n % 5]) for n in range(60)
    ))  # fmt: skip
    left, more = [60], True
    while more:
        async with index_database.transaction() as connection:
            more = await store.clear(connection, tenant, memory.id, limit=25)
        left.append((await index.status(tenant, memory.id)).units)
    assert left[:4] == [60, 35, 10, 0], "no transaction took more than it may"
    async with index_database.connection() as connection:
        rows = await connection.execute(
            "SELECT namespace FROM memory_index_namespaces WHERE tenant = %s", (tenant,)
        )
        assert await rows.fetchall() == [], "a name may tell who was there"
    await put(index_database, index, memory, unit("new", "green tea"))
    assert await ids(index, memory, "tea") == ["new"]


async def test_clearing_leaves_nothing_in_any_table(
    index_database: PostgresDatabase, tenant: str
) -> None:
    memory, embeddings = memory_of(tenant), WordVectors()
    index = MemoryIndex(index_database, embeddings)
    await put(index_database, index, memory, *(unit(f"r{n}", f"tea {n}") for n in range(40)))
    async with filling(index_database, embeddings):
        await until(lambda: _embedded(index, tenant))
    await put(index_database, index, memory, unit("fresh", "coffee"))
    async with index_database.connection() as connection:
        places, _ = await store.read(connection, memory, Where(path="/"), [])
    ns = places[0].no
    held = {table: await _count(index_database, table, ns) for table in TABLES}
    assert all(held[table] for table in ("units", "postings", "fresh", "vectors", "waiting"))
    async with index_database.transaction() as connection:
        await index.clear(connection, tenant, memory.id)
    assert [await _count(index_database, table, ns) for table in TABLES] == [0] * len(TABLES)
    assert (await index.status(tenant, memory.id)).units == 0


TABLES = ("units", "postings", "fresh", "untidy", "vectors", "waiting")


async def _count(database: PostgresDatabase, table: str, ns: int) -> int:
    async with database.connection() as connection:
        rows = await connection.execute(
            f"SELECT count(*) FROM memory_index_{table} WHERE ns = %s", (ns,)
        )
        return int((await rows.fetchall())[0][0])
