"""Lists that would look for too long, and what they leave to others."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.spans.postgres import PostgresSpans
from freehold.kernel.errors import ValidationFailed
from freehold.ports.spans import SeriesWanted, Wanted

WITHIN_SECONDS = 60
TENANT = "123456789012"
TIMES: dict[str, Any] = {"since_ns": 0, "until_ns": 10**18}

MakeDsn = Callable[[], Awaitable[str]]


@pytest.fixture
async def database(fresh_dsn: MakeDsn) -> AsyncIterator[PostgresDatabase]:
    """With a connection for each of three searches, one for others and one for the test."""
    database = PostgresDatabase(await fresh_dsn(), pool_size_max=5, application_name="tests")
    await database.start()
    yield database
    await database.close()


@asynccontextmanager
async def standing_still(database: PostgresDatabase) -> AsyncIterator[None]:
    """Whoever reads spans or traces finds nothing, and does not come to an end."""
    async with database.transaction() as connection:
        await connection.execute("LOCK TABLE spans, traces, trace_parts")
        yield


@pytest.mark.parametrize("listed", ["traces", "spans", "sessions"])
async def test_a_list_that_takes_too_long_is_refused_with_what_to_do(
    database: PostgresDatabase, listed: str
) -> None:
    store = PostgresSpans(database, seconds_max=0.05)
    lists = cast("Callable[..., Awaitable[Any]]", getattr(store, listed))
    async with standing_still(database), asyncio.timeout(WITHIN_SECONDS):
        for more in ({}, {"text": "said"}, {"tags": {"deployment": "blue"}}):
            with pytest.raises(ValidationFailed, match="name a shorter period"):
                await lists(TENANT, Wanted(**TIMES, **more), limit=10)
    assert (await lists(TENANT, Wanted(**TIMES), limit=10)).items == []


async def test_searches_leave_connections_to_others(database: PostgresDatabase) -> None:
    store = PostgresSpans(database, seconds_max=WITHIN_SECONDS)
    async with asyncio.timeout(WITHIN_SECONDS):
        async with standing_still(database):
            searches = [
                asyncio.ensure_future(store.spans(TENANT, Wanted(**TIMES, text="said"), limit=10))
                for _ in range(10)
            ]
            async with database.connection() as connection:
                while await _waiting(connection) < 3:
                    await asyncio.sleep(0.01)
            for _ in range(5):
                assert await store.series(TENANT, SeriesWanted(**TIMES, step_seconds=10**9)) == []
            async with database.connection() as connection:
                assert await _waiting(connection) == 3
        assert [found.items for found in await asyncio.gather(*searches)] == [[]] * 10


async def _waiting(connection: Any) -> int:
    """Statements that wait for a lock."""
    rows = await connection.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    [count] = await rows.fetchone()
    return int(count)
