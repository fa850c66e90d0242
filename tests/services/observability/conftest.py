"""The queue of forwarding, and a collector."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from collector_double import CollectorDouble, collecting

from freehold.adapters.postgres.pool import PostgresDatabase


@pytest.fixture(scope="module")
async def module_database(
    fresh_dsn: Callable[[], Awaitable[str]],
) -> AsyncIterator[PostgresDatabase]:
    """The queue is the whole platform's: no other test may read of it."""
    database = PostgresDatabase(await fresh_dsn(), pool_size_max=6)
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def own_database(module_database: PostgresDatabase) -> PostgresDatabase:
    async with module_database.connection() as connection:
        await connection.execute("TRUNCATE forwarding_queue, forwarding_state")
    return module_database


@pytest.fixture
async def collector() -> AsyncIterator[CollectorDouble]:
    async with collecting() as double:
        yield double
