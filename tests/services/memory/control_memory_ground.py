"""Memories' control plane with its real parts in this process: Postgres, jobs, the edge, boto3."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from edge_ground import EdgeGround
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.kernel.request import Handler
from freehold.ports.database import Connection
from freehold.services.memory import api, native_status
from freehold.services.memory.memories import LoadedMemories
from freehold.services.memory.model import MEMORY, MEMORY_OPTIONS, Memory
from freehold.services.memory.ports import Parts, TurnsSwitch
from freehold.services.memory.service import DELETION_JOB, MemoryService
from freehold.services.tags import api as tags_api

TOPIC = "arn:aws:sns:us-east-1:123456789012:said"
REFUSED_TOPIC = "arn:aws:sns:us-east-1:123456789012:nobody"


class HeldParts:
    """What a memory holds, in a table of this ground, so that who crashes leaves it."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self.cleared: list[str] = []
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()
        self.trouble: Exception | None = None

    async def make(self) -> None:
        async with self._database.connection() as connection:
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS held (tenant text, memory text, item int)"
            )

    async def hold(self, tenant: str, memory_id: str, items: int) -> None:
        async with self._database.connection() as connection:
            await connection.execute(
                "INSERT INTO held SELECT %s, %s, n FROM generate_series(1, %s) n",
                (tenant, memory_id, items),
            )

    async def held(self, tenant: str, memory_id: str) -> int:
        async with self._database.connection() as connection:
            rows = await connection.execute(
                "SELECT count(*) FROM held WHERE tenant = %s AND memory = %s", (tenant, memory_id)
            )
            row = await rows.fetchone()
        assert row is not None
        return int(row[0])

    async def clear(self, tenant: str, memory_id: str) -> None:
        """Half of it, then what the test is about, then the rest."""
        if self.trouble is not None:
            raise self.trouble
        where = "tenant = %s AND memory = %s"
        async with self._database.connection() as connection:
            await connection.execute(
                f"DELETE FROM held WHERE {where} AND item %% 2 = 0",
                (tenant, memory_id),
            )
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        async with self._database.connection() as connection:
            await connection.execute(
                f"DELETE FROM held WHERE {where}",
                (tenant, memory_id),
            )
        self.cleared.append(memory_id)


class Told:
    """Who is told of changes; in trouble, the change does not happen."""

    def __init__(self) -> None:
        self.changes: list[tuple[Memory | None, Memory]] = []
        self.switches: list[tuple[str, bool]] = []
        self.switching: Callable[[bool], Awaitable[None]] | None = None
        self.trouble: Exception | None = None

    async def changed(self, connection: Connection, before: Memory | None, after: Memory) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.changes.append((before, after))

    async def switched(self, memory: Memory, on: bool) -> None:
        if self.switching is not None:
            await self.switching(on)
        self.switches.append((memory.id, on))

    def switches_of(self, memory_id: str) -> list[bool]:
        return [on for id, on in self.switches if id == memory_id]

    def of(self, memory_id: str) -> list[tuple[Memory | None, Memory]]:
        return [change for change in self.changes if change[1].id == memory_id]


class Startable(Protocol):
    async def start(self) -> None: ...

    async def close(self) -> None: ...


def _destination(tenant: str, topic: str, bucket: str) -> None:
    if topic == REFUSED_TOPIC:
        raise ValidationFailed(f"topicArn: {topic}: nobody can be told there")


class ControlGround(EdgeGround):
    """One worker. `works` is False for one that only takes requests: its jobs stay behind."""

    answers_checked = True

    def __init__(
        self,
        dsn: str,
        state: Path,
        *,
        works: bool = True,
        executor: str = "one",
        more: Callable[["ControlGround"], Mapping[str, Handler]] = lambda _: {},
    ) -> None:
        """`more` gives further handlers, of a test's own parts; `parts`, `turns` and `own_parts`
        (started after the jobs) are then those that the test puts here, if it does."""
        database = PostgresDatabase(dsn, pool_size_max=4, application_name="memory test")
        super().__init__(database, state, executor=executor)
        self.works = works
        self.loaded = LoadedMemories(self.resources)
        self.told, self.model = Told(), False
        self.held = HeldParts(self.database)
        self.parts: Parts = self.held
        self.turns: TurnsSwitch = self.told
        self.own_parts: list[Startable] = []
        self._handlers = more(self)
        self.memories = MemoryService(
            resources=self.resources, database=self.database, jobs=self.jobs, loaded=self.loaded,
            parts=self.parts, turns=self.turns, changes=[self.told], has_model=lambda: self.model,
            destination=_destination,
        )  # fmt: skip

    @asynccontextmanager
    async def open(self) -> AsyncIterator["ControlGround"]:
        async with AsyncExitStack() as stack:
            self.database.listen(RESOURCES_CHANNEL, self.loaded.heard_change)
            self.database.listen(RESOURCES_CHANNEL, self.memories.heard_change)
            if self.works:
                self.jobs.register(
                    DELETION_JOB, self.memories.delete_work, concurrency=2, attempts_max=2
                )
            await self.database.start()
            stack.push_async_callback(self.database.close)
            await self.held.make()
            await self.memories.take_up()
            await self.jobs.start()
            stack.push_async_callback(self.jobs.close)
            for part in self.own_parts:
                await part.start()
                stack.push_async_callback(part.close)
            tags = tags_api.handlers(
                self.resources, {MEMORY.name: MEMORY_OPTIONS.check}, changed=self.loaded.drop_tenant
            )
            handlers = {**api.handlers(self.memories), **tags, **self._handlers}
            operations = native_status.operations(self.memories, [self._vectors])
            await stack.enter_async_context(self.served(handlers, operations))
            yield self

    async def _vectors(self, memory: Memory) -> list[str]:
        """As another part of the service would say it."""
        return [f"12 texts of {memory.name} wait for their vectors"] if memory.turns else []

    # -- what tests do again and again

    async def memory(self, tenant: str, name: str = "talks", **parameters: Any) -> Any:
        given = {"name": name, "eventExpiryDuration": 30, **parameters}
        return (await self.control(tenant).create_memory(**given))["memory"]

    async def shown(self, tenant: str, memory_id: str) -> Any:
        return (await self.control(tenant).get_memory(memoryId=memory_id))["memory"]

    async def gone(self, tenant: str, memory_id: str) -> None:
        async def gone() -> bool:
            try:
                await self.memories.get(tenant, memory_id)
            except NotFound:
                return True
            return False

        await self.until(gone)
