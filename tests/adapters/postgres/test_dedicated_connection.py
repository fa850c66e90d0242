"""The connection for one purpose: plain answers, large statements, refusals and losses."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from freehold.adapters.postgres.dedicated import DedicatedConnection
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import PlatformFailed, Unavailable


@pytest.fixture
async def lane(database_dsn: str) -> AsyncIterator[DedicatedConnection]:
    made = DedicatedConnection(database_dsn, application_name="tests dedicated")
    await made.open()
    yield made
    await made.close()


async def test_it_answers_in_text(lane: DedicatedConnection) -> None:
    for _ in range(3):
        rows = await lane.run("SELECT $1::integer + 1, NULL, 'ü'", b"41")
        assert rows == [(b"42", None, "ü".encode())]
    assert await lane.run("SELECT 1 WHERE false") == []


async def test_a_statement_may_be_larger_than_the_sockets_buffers(
    lane: DedicatedConnection,
) -> None:
    async with asyncio.timeout(30):
        size, text = (await lane.run("SELECT length($1::text), $1::text", b"x" * 20_000_000))[0]
    assert size == b"20000000"
    assert text is not None
    assert len(text) == 20_000_000


async def test_a_refused_statement_leaves_the_connection_good(lane: DedicatedConnection) -> None:
    with pytest.raises(PlatformFailed):
        await lane.run("SELECT no_such_function()")
    with pytest.raises(PlatformFailed):
        await lane.run("SELECT 1 / $1::integer", b"0")
    assert await lane.run("SELECT 1 / $1::integer", b"1") == [(b"1",)]


async def test_a_lost_connection_is_unavailable_until_it_is_opened_again(
    lane: DedicatedConnection, database: PostgresDatabase
) -> None:
    sleeping = asyncio.create_task(lane.run("SELECT pg_sleep(60)"))
    ended = 0
    async with asyncio.timeout(10):
        while not ended:
            async with database.connection() as connection:
                found = await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                    " application_name = 'tests dedicated' AND query LIKE '%pg_sleep%'"
                    " AND state = 'active'"
                )
                ended = found.rowcount
        with pytest.raises(Unavailable):
            await sleeping
    with pytest.raises(Unavailable):
        await lane.run("SELECT 1")
    await lane.open()
    assert await lane.run("SELECT 1") == [(b"1",)]


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    lane = DedicatedConnection("postgresql://127.0.0.1:1/none", application_name="tests")
    with pytest.raises(Unavailable):
        await lane.open()
    await lane.close()


async def test_it_is_answered_although_somebody_stopped_watching_its_descriptor(
    lane: DedicatedConnection,
) -> None:
    """Others who close a connection and stop watching it then may mean the same number."""
    await lane.run("SELECT 1")
    asyncio.get_running_loop().remove_reader(lane._descriptor)
    assert await asyncio.wait_for(lane.run("SELECT 2"), 5) == [(b"2",)]
