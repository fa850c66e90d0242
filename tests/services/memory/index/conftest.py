"""A database of their own: which model is wanted is one thing for a whole store."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from freehold.adapters.postgres.pool import PostgresDatabase


@pytest.fixture(scope="session")
async def index_database(
    fresh_dsn: Callable[[], Awaitable[str]],
) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(await fresh_dsn(), pool_size_max=8, application_name="index tests")
    await database.start()
    yield database
    await database.close()
