"""A gateway without MCP, and who calls it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from passage_ground import Ground, serving

from freehold.adapters.postgres.pool import PostgresDatabase


@pytest.fixture
async def ground(
    tenant: str, database_dsn: str, database: PostgresDatabase
) -> AsyncIterator[Ground]:
    async with serving(tenant, database_dsn) as ground:
        yield ground


@pytest.fixture
async def client(ground: Ground) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=ground.url, headers={"authorization": "Bearer user-ann"}, timeout=20
    ) as client:
        yield client
