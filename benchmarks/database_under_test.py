"""A Postgres for one benchmark run: embedded, durable, migrated, in a temporary directory."""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import freehold
from freehold.adapters.postgres.embedded import EmbeddedPostgres
from freehold.adapters.postgres.migrations import components_under, migrate
from freehold.adapters.postgres.pool import PostgresDatabase


@contextlib.asynccontextmanager
async def database() -> AsyncIterator[tuple[str, PostgresDatabase]]:
    """(DSN, database)"""
    with tempfile.TemporaryDirectory(prefix="freehold-bench-", ignore_cleanup_errors=True) as path:
        Path(path).chmod(0o711)
        user = "nobody" if os.geteuid() == 0 else None
        server = EmbeddedPostgres(Path(path) / "postgres", user=user)
        dsn = await server.start()
        try:
            await migrate(dsn, components_under(Path(freehold.__file__).parent))
            pool = PostgresDatabase(dsn, pool_size_max=4)
            await pool.start()
            try:
                yield dsn, pool
            finally:
                await pool.close()
        finally:
            await server.stop()


async def cpu_us(act: Callable[[], Awaitable[Any]], times: int) -> float:
    """This process' CPU for one, in microseconds."""
    before = time.process_time()
    for _ in range(times):
        await act()
    return (time.process_time() - before) / times * 1e6


def loop_runner() -> Callable[[Any], Any]:
    """As the platform runs: under uvloop, where there is one."""
    if sys.platform == "win32":
        import asyncio

        return asyncio.run
    import uvloop

    return uvloop.run
