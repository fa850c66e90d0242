"""A worker that did not hear of a memory's deletion writes nothing into it."""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from freehold.adapters.embeddings.absent import NoEmbeddings
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resources import PostgresResources
from freehold.kernel.errors import NotFound
from freehold.services.memory.events import EventLog, NewEvent
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.memories import LoadedMemories
from freehold.services.memory.model import MEMORY, Memory, Record
from freehold.services.memory.presence import LOCK, Presence
from freehold.services.memory.records import Records

AT = datetime(2026, 3, 1, tzinfo=UTC)
SAID = [{"conversational": {"role": "USER", "content": {"text": "hello"}}}]


class Deaf:
    """A worker that knows a memory, and hears of no change."""

    def __init__(self, database: PostgresDatabase, tenant: str) -> None:
        self.database, self.tenant = database, tenant
        self.resources = PostgresResources(database, region="us-west-2")
        self.memories = LoadedMemories(self.resources)
        self.events = EventLog(database, memories=self.memories, learning=Presence())
        self.records = Records(
            database, MemoryIndex(database, NoEmbeddings()), memories=self.memories,
            presence=Presence(),
        )  # fmt: skip
        self.id = f"notes-{uuid.uuid4().hex[:10]}"

    async def knows(self) -> Memory:
        await self.resources.create(
            self.tenant, MEMORY, id=self.id, name=self.id, status="ACTIVE",
            document={"eventExpiryDuration": 30, "strategies": []},
        )  # fmt: skip
        return await self.memories.get(self.tenant, self.id)

    async def say(self) -> Any:
        return await self.events.create(
            self.tenant,
            NewEvent(memory_id=self.id, actor_id="anna", session_id="s1", at=AT, payload=SAID),
        )

    async def note(self, memory: Memory) -> Any:
        record = Record(
            tenant=self.tenant, memory_id=self.id, id=f"mem-{uuid.uuid4()}", namespaces=("/a/",),
            strategy_id="none", text="hello", at=AT, created_at=AT,
        )  # fmt: skip
        return await self.records.create(memory, [record], {})

    async def holds(self) -> list[int]:
        tables = ("events", "sessions", "records", "index_units", "index_namespaces")
        found = []
        async with self.database.connection() as connection:
            for table in tables:
                rows = await connection.execute(
                    f"SELECT count(*) FROM memory_{table} WHERE memory_id = %s".encode(),
                    (self.id,),
                )
                [count] = await rows.fetchone() or [0]
                found.append(count)
        return found


@pytest.fixture
def deaf(database: PostgresDatabase, tenant: str) -> Deaf:
    return Deaf(database, tenant)


@pytest.mark.parametrize("gone", [False, True])
async def test_nothing_is_written_into_a_memory_that_is_deleted(deaf: Deaf, gone: bool) -> None:
    memory = await deaf.knows()
    await deaf.resources.set_status(deaf.tenant, MEMORY, deaf.id, "DELETING")
    if gone:
        await deaf.resources.delete(deaf.tenant, MEMORY, deaf.id)
    assert await deaf.memories.get(deaf.tenant, deaf.id) == memory, "it heard of nothing"
    with pytest.raises(NotFound, match=deaf.id):
        await deaf.say()
    with pytest.raises(NotFound, match=deaf.id):
        await deaf.note(memory)
    assert await deaf.holds() == [0] * 5


async def test_into_one_that_is_there_it_writes(deaf: Deaf) -> None:
    memory = await deaf.knows()
    await deaf.say()
    assert await deaf.note(memory) == {}
    assert await deaf.holds() == [1] * 5


async def test_who_deletes_a_memory_waits_for_who_writes_into_it(
    deaf: Deaf, database: PostgresDatabase
) -> None:
    """So that the last clearing sees all that was written."""
    memory = await deaf.knows()
    order: list[str] = []

    async def deletes() -> None:
        async with database.transaction() as connection:
            await connection.execute(
                f"SELECT pg_advisory_xact_lock({LOCK})".encode(),
                {"tenant": deaf.tenant, "id": deaf.id},
            )
            order.append("deleted")

    async with database.transaction() as connection:
        await Presence().check(connection, memory)
        deletion = asyncio.create_task(deletes())
        await _waits_for_a_lock(database)
        order.append("written")
    async with asyncio.timeout(20):
        await deletion
    assert order == ["written", "deleted"]


async def _waits_for_a_lock(database: PostgresDatabase) -> None:
    async with asyncio.timeout(20):
        while True:
            async with database.connection() as connection:
                rows = await connection.execute(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                    " AND database = (SELECT oid FROM pg_database"
                    "  WHERE datname = current_database())"
                )
                if await rows.fetchone() != (0,):
                    return
            await asyncio.sleep(0.01)
