"""kill -9 of the server under load: what was acknowledged is there, and work goes on."""

import asyncio
import os
import signal
from pathlib import Path

from freehold.adapters.postgres.embedded import EmbeddedPostgres
from freehold.adapters.postgres.migrations import migrate
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resources import PostgresResources
from freehold.kernel.errors import Unavailable
from freehold.ports.resources import ResourceKind

KILLS = 3
WRITERS = 6
NOTE = ResourceKind(name="note", noun="note", arn_resource="note/{id}")
TENANT = "111122223333"


async def test_no_acknowledged_write_is_lost(open_directory: Path, tmp_path: Path) -> None:
    user = "nobody" if os.geteuid() == 0 else None
    server = EmbeddedPostgres(open_directory / "killed", user=user)
    dsn = await server.start()
    migrations = Path(migrate.__code__.co_filename).parent / "migrations"
    await migrate(dsn, [("postgres", migrations)])
    database = PostgresDatabase(dsn, pool_size_max=WRITERS, wait_seconds_max=10)
    await database.start()
    resources = PostgresResources(database, region="us-west-2")

    acknowledged: set[str] = set()
    refused = 0
    heard: asyncio.Queue[str] = asyncio.Queue()
    database.listen("freehold_resources", heard.put)
    assert await asyncio.wait_for(heard.get(), 5) == ""
    stop = asyncio.Event()
    some_more = asyncio.Event()

    async def write(writer: int) -> None:
        nonlocal refused
        n = 0
        while not stop.is_set():
            id = f"{writer}-{n}"
            n += 1
            try:
                await resources.create(
                    TENANT, NOTE, id=id, name=id, status="READY", document={"text": "x" * 500}
                )
            except Unavailable:
                refused += 1
                continue
            acknowledged.add(id)
            some_more.set()

    async def supervise() -> None:
        for _ in range(KILLS):
            some_more.clear()
            await asyncio.wait_for(some_more.wait(), 20)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.wait_for(server.wait(), 10)
            assert await server.start() == dsn
        some_more.clear()
        await asyncio.wait_for(some_more.wait(), 20)
        stop.set()

    await asyncio.gather(supervise(), *(write(n) for n in range(WRITERS)))

    stored = set()
    token = None
    while True:
        page = await resources.page(TENANT, NOTE, limit=1000, token=token)
        stored |= {each.id for each in page.items}
        token = page.next_token
        if token is None:
            break
    assert len(acknowledged) > KILLS
    assert acknowledged <= stored
    # Only what was in flight when the server was killed may be there unacknowledged.
    assert len(stored - acknowledged) <= KILLS * WRITERS
    assert refused > 0
    while await asyncio.wait_for(heard.get(), 5):
        pass  # what was told until the first loss, which is told as ""
    await database.close()
    await server.stop()
