"""Vectors come in the background: nothing is lost, nothing done twice, nobody waits for them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from index_ground import WordVectors, filling, ids, memory_of, put, unit, until

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.index import store, vectors
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.ports import Where


async def embedded(index: MemoryIndex, tenant: str) -> bool:
    status = await index.status(tenant, "memory-1")
    return status.units > 0 and status.waiting == 0


async def vectors_of(database: PostgresDatabase, tenant: str) -> dict[str, int]:
    """How many of each model."""
    async with database.connection() as connection:
        rows = await connection.execute(
            "SELECT m.name, count(*) FROM memory_index_vectors v"
            " JOIN memory_index_models m ON m.no = v.model"
            " JOIN memory_index_namespaces n ON n.no = v.ns WHERE n.tenant = %s GROUP BY m.name",
            (tenant,),
        )
        return dict(await rows.fetchall())


@pytest.fixture
async def own_dsn(fresh_dsn: Callable[[], Awaitable[str]]) -> str:
    return await fresh_dsn()


@asynccontextmanager
async def pool(dsn: str, size: int) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(dsn, pool_size_max=size, application_name="filling")
    await database.start()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def own_database(own_dsn: str) -> AsyncIterator[PostgresDatabase]:
    async with pool(own_dsn, 6) as database:
        yield database


async def test_several_share_the_work_and_none_does_it_twice(
    own_database: PostgresDatabase, tenant: str
) -> None:
    memory, first, second = memory_of(tenant), WordVectors(), WordVectors()
    index = MemoryIndex(own_database, first)
    texts = [f"kitten number {n}" for n in range(90)]
    first.allowed.clear()
    second.allowed.clear()
    async with filling(own_database, first, batch=8), filling(own_database, second, batch=8):
        await put(
            own_database, index, memory, *(unit(f"r{n}", text) for n, text in enumerate(texts))
        )
        await until(lambda: first.asked and second.asked)
        assert not set(first.asked) & set(second.asked)
        first.allowed.set()
        second.allowed.set()
        await until(lambda: embedded(index, tenant))
    assert sorted(first.asked + second.asked) == sorted(texts)
    assert await vectors_of(own_database, tenant) == {"words-1": 90}


async def test_what_one_that_vanished_had_taken_is_done_by_another(
    own_database: PostgresDatabase, tenant: str
) -> None:
    memory, vanished, other = memory_of(tenant), WordVectors(), WordVectors()
    index = MemoryIndex(own_database, other)
    vanished.allowed.clear()
    async with filling(own_database, vanished, batch=4, taken_seconds=0.5):
        await put(own_database, index, memory, *(unit(f"r{n}", f"tea {n}") for n in range(4)))
        await until(lambda: vanished.asked)
        async with filling(own_database, other):
            # Nobody tells it; it knows when what was taken is free again.
            await until(lambda: embedded(index, tenant))
        assert sorted(other.asked) == sorted(vanished.asked)
        vanished.allowed.set()  # and comes back, with an answer that nobody needs any more
        await put(own_database, index, memory, unit("r9", "tea 9"))
        await until(lambda: embedded(index, tenant))
    assert await vectors_of(own_database, tenant) == {"words-1": 5}


async def test_one_that_is_closed_in_the_middle_gives_back_what_it_had(
    own_database: PostgresDatabase, tenant: str
) -> None:
    memory, closed, other = memory_of(tenant), WordVectors(), WordVectors()
    index = MemoryIndex(own_database, other)
    closed.allowed.clear()
    async with filling(own_database, closed, taken_seconds=3600):
        await put(own_database, index, memory, unit("r1", "tea"))
        await until(lambda: closed.asked)
    async with filling(own_database, other):
        await until(lambda: embedded(index, tenant))


async def test_what_goes_while_it_is_embedded_leaves_no_vector(
    own_database: PostgresDatabase, tenant: str
) -> None:
    memory, embeddings = memory_of(tenant), WordVectors()
    index = MemoryIndex(own_database, embeddings)
    embeddings.allowed.clear()
    async with filling(own_database, embeddings):
        await put(own_database, index, memory, unit("r1", "tea"), unit("r2", "coffee"))
        await until(lambda: embeddings.asked)
        async with asyncio.timeout(5), own_database.transaction() as connection:
            await index.remove(connection, memory, ["r1"])  # which does not wait for the embedder
        embeddings.allowed.set()
        await until(lambda: embedded(index, tenant))
        assert await vectors_of(own_database, tenant) == {"words-1": 1}
        async with own_database.transaction() as connection:
            await index.remove(connection, memory, ["r2"])
        assert await vectors_of(own_database, tenant) == {}


async def test_an_embedder_that_is_away_is_asked_again_until_it_is_back(
    own_database: PostgresDatabase, tenant: str
) -> None:
    memory, embeddings = memory_of(tenant), WordVectors()
    index = MemoryIndex(own_database, embeddings)
    embeddings.away = True
    async with filling(own_database, embeddings) as running:
        await put(own_database, index, memory, unit("r1", "a kitten slept"))
        await until(lambda: len(embeddings.asked) >= 3)
        assert "away" in running.why
        assert (await index.status(tenant, memory.id)).waiting == 1
        assert await ids(index, memory, "kitten") == ["r1"], "words find it meanwhile"
        embeddings.away = False
        await until(lambda: embedded(index, tenant))
        await until(lambda: not running.why)


async def test_with_nothing_to_do_nothing_is_asked_of_the_store(
    own_database: PostgresDatabase, tenant: str
) -> None:
    memory, embeddings = memory_of(tenant), WordVectors()
    index = MemoryIndex(own_database, embeddings)

    async def transactions() -> int:
        async with own_database.connection() as connection:
            await connection.execute("SELECT pg_stat_force_next_flush()")
            rows = await connection.execute(
                "SELECT sum(idx_scan + coalesce(seq_scan, 0)) FROM pg_stat_user_tables"
                " WHERE relname IN ('memory_index_waiting', 'memory_index_untidy')"
            )
            return int((await rows.fetchall())[0][0])

    async with filling(own_database, embeddings):
        await put(own_database, index, memory, unit("r1", "a kitten slept"))
        await until(lambda: embedded(index, tenant))
        await until(lambda: _still(transactions))


async def _still(count: Callable[[], Awaitable[int]]) -> bool:
    before = await count()
    await asyncio.sleep(0.5)
    return await count() == before


async def test_another_model_takes_over_without_downtime(
    own_database: PostgresDatabase, tenant: str
) -> None:
    memory, old, new = memory_of(tenant), WordVectors(), WordVectors("words-2", 48)
    before = MemoryIndex(own_database, old)
    await put(
        own_database, before, memory, unit("r1", "a kitten slept"), unit("r2", "the bus was late")
    )
    async with filling(own_database, old):
        await until(lambda: embedded(before, tenant))
    after = MemoryIndex(own_database, new, older=[old])
    without_old = MemoryIndex(own_database, new)
    new.allowed.clear()
    async with filling(own_database, new):
        await until(lambda: new.asked)
        status = await after.status(tenant, memory.id)
        assert (status.units, status.waiting, status.model) == (2, 2, "words-2")
        # The old vectors answer, by the old embedder; who has it not has the words.
        assert (await ids(after, memory, "feline"))[0] == "r1"
        assert (await ids(before, memory, "feline"))[0] == "r1"
        assert await vectors_of(own_database, tenant) == {"words-1": 2}
        new.allowed.set()
        await until(lambda: _only(own_database, tenant, {"words-2": 2}))
    assert (await ids(after, memory, "feline"))[0] == "r1"
    assert (await ids(without_old, memory, "feline"))[0] == "r1"
    assert (await after.status(tenant, memory.id)).waiting == 0


async def test_a_change_of_model_that_was_cut_off_is_finished_by_the_next(
    own_database: PostgresDatabase, tenant: str
) -> None:
    memory, old, new = memory_of(tenant), WordVectors(), WordVectors("words-2", 48)
    index = MemoryIndex(own_database, new)
    await put(own_database, index, memory, *(unit(f"r{n}", f"tea {n}") for n in range(6)))
    async with filling(own_database, old):
        await until(lambda: _only(own_database, tenant, {"words-1": 6}))
    new.allowed.clear()
    async with filling(own_database, new, batch=2):
        await until(lambda: new.asked)
    new.allowed.set()
    async with filling(own_database, new, batch=2):
        await until(lambda: _only(own_database, tenant, {"words-2": 6}))
    assert sorted(set(new.asked)) == sorted(f"tea {n}" for n in range(6))


async def _only(database: PostgresDatabase, tenant: str, expected: dict[str, int]) -> bool:
    return await vectors_of(database, tenant) == expected


@pytest.mark.parametrize("dimensions", [32, 384])
async def test_a_large_namespace_gets_a_graph_and_finds_the_same(
    own_database: PostgresDatabase, tenant: str, monkeypatch: pytest.MonkeyPatch, dimensions: int
) -> None:
    monkeypatch.setattr(vectors, "SCANNED_MAX", 100)
    memory, embeddings = memory_of(tenant), WordVectors(dimensions=dimensions)
    index = MemoryIndex(own_database, embeddings)
    texts = [f"kitten number {n}" if n % 50 == 7 else f"bus number {n}" for n in range(150)]
    some = [unit(f"r{n}", text) for n, text in enumerate(texts)]
    await put(own_database, index, memory, *some[:90])
    async with filling(own_database, embeddings, batch=16):
        await until(lambda: embedded(index, tenant))
        assert (await _place(own_database, tenant)).graph == 0
        scanned = await ids(index, memory, "feline", 3)
        await put(own_database, index, memory, *some[90:])
        await until(lambda: _has_graph(own_database, tenant))
        # And one that comes when it has one.
        await put(own_database, index, memory, unit("late", "a kitten slept"))
        await until(lambda: embedded(index, tenant))
        found = await ids(index, memory, "feline", 4)
    assert set(scanned) >= {"r7", "r57"}
    assert set(found) == {"r7", "r57", "r107", "late"}


async def _place(database: PostgresDatabase, tenant: str) -> store.Place:
    async with database.connection() as connection:
        found, _ = await store.read(connection, memory_of(tenant), Where(namespace="/a/"), [])
    return found[0]


async def _has_graph(database: PostgresDatabase, tenant: str) -> bool:
    return (await _place(database, tenant)).graph == 2


async def test_no_search_reads_a_whole_table(own_dsn: str, tenant: str) -> None:
    memory, embeddings = memory_of(tenant), WordVectors(dimensions=384)
    async with pool(own_dsn, 4) as database:
        index = MemoryIndex(database, embeddings)
        for name in range(40):
            units = [
                unit(f"r{name}-{n}", f"tea number {n}", f"/{name}/", group="s", order=f"{n:04}")
                for n in range(60)
            ]
            await put(database, index, memory, *units)
        async with filling(database, embeddings, batch=500):
            await until(lambda: embedded(index, tenant))
        async with database.connection() as connection:
            await connection.execute("VACUUM ANALYZE")
    async with pool(own_dsn, 1) as database:
        await until(lambda: _alone(database))  # the others have told their statistics
        index = MemoryIndex(database, embeddings)
        before = await _read_whole(database)
        for n in range(10):  # prepared statements get another plan after some calls
            where = {"namespace": f"/{n}/"}
            assert len(await ids(index, memory, "tea number 7", **where)) == 10
            assert await ids(index, memory, "tea", **where, strategy_id="none") == []
        assert await _read_whole(database) == before


async def _alone(database: PostgresDatabase) -> bool:
    async with database.connection() as connection:
        rows = await connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND application_name NOT LIKE '%listener'"
        )
        return (await rows.fetchall())[0][0] == 0


async def _read_whole(database: PostgresDatabase) -> dict[str, int]:
    """Sequential scans of each large table by the one connection."""
    async with database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        rows = await connection.execute(
            "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname IN"
            " ('memory_index_units', 'memory_index_postings', 'memory_index_vectors')"
        )
        return dict(await rows.fetchall())
