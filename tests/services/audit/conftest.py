from collections.abc import AsyncIterator

import pytest
from audit_ground import Ground, ground

from freehold.adapters.postgres.pool import PostgresDatabase


@pytest.fixture
async def audit(database_dsn: str, database: PostgresDatabase) -> AsyncIterator[Ground]:
    async with ground(database_dsn, database) as made:
        yield made
