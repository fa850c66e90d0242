"""Memory records, turns and their index over one database, behind the AWS edge."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memory_ground import FakeMemories, MemoryGround

from edge_ground import Client
from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.sweep import HOUR_SECONDS, Sweep
from freehold.ports.embeddings import EmbeddingsUnavailable
from freehold.services.memory import records_api
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.model import Memory, Record, Source, Strategy
from freehold.services.memory.records import Records
from freehold.services.memory.turns import FILL_ATTEMPTS_MAX, FILL_JOB, Turns

FACTS = Strategy(
    id="facts-0123456789", name="facts", type="SEMANTIC",
    namespaces=("/strategies/{memoryStrategyId}/actors/{actorId}/",),
)  # fmt: skip
TASTE = Strategy(
    id="taste-0123456789", name="taste", type="USER_PREFERENCE", namespaces=("/taste/{actorId}/",)
)
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)


class NoEmbedder:
    """Words alone: what an installation without a model has."""

    model, dimensions = "none", 4

    async def embed(self, texts: Sequence[str]) -> Any:
        raise EmbeddingsUnavailable("there is no embedder in this test")


class RecordGround(MemoryGround):
    def __init__(self, database: PostgresDatabase, state: Path, executor: str) -> None:
        memories = FakeMemories()
        self.index = MemoryIndex(database, NoEmbedder())
        jobs = PostgresJobs(database, executor=executor, backoff_seconds=0.05)
        self.turns = Turns(database, self.index, memories=memories, jobs=jobs, now=self._time)
        self.records = Records(database, self.index, memories=memories, now=self._time)
        self.expiry_of_records = Sweep(
            "records", self.records.sweep, self.turns.sweep, every_seconds=HOUR_SECONDS
        )
        super().__init__(
            database, state, memories=memories, learning=self.turns,
            more=lambda ground: records_api.handlers(
                memories, self.records, self.turns, self.index, now=ground.clock
            ),
        )  # fmt: skip
        self.jobs = jobs

    def _time(self) -> datetime:
        return self.clock()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["RecordGround"]:
        self.jobs.register(FILL_JOB, self.turns.work, concurrency=2, attempts_max=FILL_ATTEMPTS_MAX)
        await self.jobs.start()
        try:
            async with super().open():
                yield self
        finally:
            await self.jobs.close()

    def memory(self, tenant: str, **fields: Any) -> Memory:
        made: Memory = self.memories.make(tenant, **{"strategies": (FACTS, TASTE), **fields})
        return made

    def change(self, memory: Memory, **fields: Any) -> Memory:
        """As the control plane does."""
        changed = Memory(
            **{name: getattr(memory, name) for name in memory.__struct_fields__} | fields
        )
        self.memories.by_id[memory.tenant, memory.id] = changed
        return changed

    def of(self, memory: Memory) -> "OfMemory":
        return OfMemory(self, memory)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(20):
            while not await holds():
                await asyncio.sleep(0.01)

    async def switched(self, memory: Memory, on: bool) -> Memory:
        """And all of it done."""
        changed = self.change(memory, turns=on)
        await self.turns.switched(changed, on)

        async def done() -> bool:
            async with self.database.connection() as connection:
                rows = await connection.execute(
                    "SELECT done FROM memory_turn_switches WHERE tenant = %s AND memory_id = %s",
                    (memory.tenant, memory.id),
                )
                return await rows.fetchone() == (True,)

        await self.until(done)
        return changed


class OfMemory:
    """What tests ask of one memory, through boto3."""

    def __init__(self, ground: RecordGround, memory: Memory) -> None:
        self.ground, self.memory = ground, memory
        self.client: Client = ground.client(memory.tenant)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def act(**parameters: Any) -> Any:
            return await getattr(self.client, name)(memoryId=self.memory.id, **parameters)

        return act

    async def create(self, *records: dict[str, Any], **parameters: Any) -> list[str]:
        """The ids of the records, all of which must succeed."""
        made = await self.batch_create_memory_records(records=list(records), **parameters)
        assert made["failedRecords"] == []
        return [record["memoryRecordId"] for record in made["successfulRecords"]]

    async def listed(self, **parameters: Any) -> list[str]:
        """The texts in their order."""
        page = await self.list_memory_records(**parameters)
        return [item["content"]["text"] for item in page["memoryRecordSummaries"]]

    async def found(self, query: str, criteria: Any = (), **parameters: Any) -> list[str]:
        answer = await self.retrieve_memory_records(
            searchCriteria={"searchQuery": query, **dict(criteria)}, **parameters
        )
        return [item["content"]["text"] for item in answer["memoryRecordSummaries"]]

    async def say(
        self, *texts: str, actor: str = "anna", session: str = "s1", role: str = "USER", **more: Any
    ) -> str:
        """One event with these messages; its id."""
        payload = [{"conversational": {"role": role, "content": {"text": text}}} for text in texts]
        made = await self.create_event(
            actorId=actor, sessionId=session, payload=payload,
            **{"eventTimestamp": datetime.now(UTC), **more},
        )  # fmt: skip
        event_id: str = made["event"]["eventId"]
        return event_id

    def record(self, id: str, text: str, *events: str, **fields: Any) -> Record:
        """As extraction makes them: of anna's facts, from these events."""
        return Record(
            tenant=self.memory.tenant, memory_id=self.memory.id, id=f"mem-{id:0>36}", text=text,
            **{
                "namespaces": (f"/strategies/{FACTS.id}/actors/anna/",), "strategy_id": FACTS.id,
                "at": AT, "created_at": self.ground.clock(),
                "sources": tuple(
                    Source(event_id=event, index=0, actor_id="anna", session_id="s1")
                    for event in events
                ),
                **fields,
            },
        )  # fmt: skip

    async def put(self, *records: Record) -> None:
        async with self.ground.database.transaction() as connection:
            await self.ground.records.put(connection, self.memory, records)


def draft(name: str, text: str, namespace: str = "/actors/anna/", **more: Any) -> dict[str, Any]:
    return {
        "requestIdentifier": name, "content": {"text": text}, "namespaces": [namespace],
        "timestamp": AT, **more,
    }  # fmt: skip


def notice(answer: dict[str, Any]) -> str:
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    found: str = headers.get("x-freehold-notice", "")
    return found
