"""Workers of the MCP edge, each with its own server on loopback, over one database."""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.append(str(Path(__file__).parent))

from mcp_ground import MakeWorker, Worker, serving

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.ports.mcp import Door


@pytest.fixture
def new_worker(database_dsn: str, tenant: str, tmp_path: Path) -> MakeWorker:
    """With a pool and a listener of its own, as each process has."""

    @contextlib.asynccontextmanager
    async def make(*doors: Door, **options: Any) -> AsyncIterator[Worker]:
        database = PostgresDatabase(database_dsn, pool_size_max=3, application_name="worker")
        worker = Worker(tenant, database, str(tmp_path), *doors, **options)
        await database.start()
        try:
            async with serving(worker.edge) as worker.url:
                yield worker
        finally:
            await database.close()

    return make


@pytest.fixture
async def worker(new_worker: MakeWorker) -> AsyncIterator[Worker]:
    async with new_worker() as worker:
        yield worker


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        yield client
