"""One served edge for all tests here; each has a tenant of its own."""

from collections.abc import AsyncIterator

import pytest
from logs_ground import LogsGround

from freehold.adapters.postgres.pool import PostgresDatabase


@pytest.fixture(scope="session")
async def ground(
    database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LogsGround]:
    async with LogsGround(database, tmp_path_factory.mktemp("logs")).opened() as ground:
        yield ground
