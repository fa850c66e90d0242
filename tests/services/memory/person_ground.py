"""Memories as people look after them: all their parts in this process, on both edges, with a model
that is a program. Extraction runs when a test says so, all other work by itself."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from extraction_ground import AT_ONCE, START, ModelDouble, semantic
from memory_ground import Clock, FakeMemories

from edge_ground import EdgeGround
from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.adapters.embeddings.absent import NoEmbeddings
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.ports.models import Models
from freehold.services.memory import (
    erasure_api,
    events_api,
    history_api,
    records_api,
    retrievals_api,
)
from freehold.services.memory.erasure import ERASURE_ATTEMPTS_MAX, ERASURE_JOB, Erasures
from freehold.services.memory.erasure_steps import Steps
from freehold.services.memory.event_expiry import EventExpiry
from freehold.services.memory.events import EventLog, NewEvent
from freehold.services.memory.index.filling import Filling
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.learning import Extraction
from freehold.services.memory.model import Event, Memory, Record
from freehold.services.memory.ports import Where
from freehold.services.memory.records import Records
from freehold.services.memory.retrievals import RetrievalLog, RetrievalRetention
from freehold.services.memory.retrievals_api import Lines
from freehold.services.memory.self_managed import SelfManaged
from freehold.services.memory.turns import Turns

SHARED = "/team/"


class _Both:
    def __init__(self, *learning: Any) -> None:
        self._learning = learning

    async def said(self, *given: Any) -> None:
        for each in self._learning:
            await each.said(*given)

    async def unsaid(self, *given: Any) -> None:
        for each in self._learning:
            await each.unsaid(*given)


class PersonGround(EdgeGround):
    """`works` is False for one whose erasures stay jobs that nobody runs."""

    def __init__(
        self,
        database: PostgresDatabase,
        state: Path,
        *,
        model: Models | None = None,
        topics: Any = None,
        memories: FakeMemories | None = None,
        executor: str = "persons",
        works: bool = True,
    ) -> None:
        super().__init__(database, state, executor=executor)
        self.clock, self.memories = Clock(), memories or FakeMemories()
        self.sealer = EnvelopeSealer(Keyring.parse("1:" + "A" * 43 + "=", source="a test"))
        self.blobs = FilesystemBlobs(state / "blobs")
        embeddings = NoEmbeddings()
        self.index, self.filling = MemoryIndex(database, embeddings), Filling(database, embeddings)
        given: dict[str, Any] = {"memories": self.memories, "now": self.clock}
        self.records = Records(database, self.index, **given)
        self.turns = Turns(database, self.index, jobs=self.jobs, **given)
        self.extraction = Extraction(
            database, records=self.records, jobs=self.jobs, models=model or ModelDouble(),
            self_managed=SelfManaged(self.blobs, topics) if topics else None, triggers=AT_ONCE,
            pauses_seconds=(), **given,
        )  # fmt: skip
        self.events = EventLog(database, learning=_Both(self.turns, self.extraction), **given)
        self.extraction.reads(self.events)
        self.expiry = EventExpiry(database, now=self.clock)
        self.log = RetrievalLog(database, self.sealer)
        self.retention = RetrievalRetention(database, now=self.clock)
        self.lines = Lines(database, self.sealer)
        self.steps = Steps(
            database, records=self.records, turns=self.turns, extraction=self.extraction,
            blobs=self.blobs, jobs=self.jobs,
        )  # fmt: skip
        self.erasures = Erasures(
            database, steps=self.steps, jobs=self.jobs, traces=self.jobs, sealer=self.sealer,
            audit=self.audit, memories=self.memories,
        )  # fmt: skip
        if works:
            self.jobs.register(
                ERASURE_JOB, self.erasures.work, concurrency=2, attempts_max=ERASURE_ATTEMPTS_MAX
            )

    @asynccontextmanager
    async def open(self) -> AsyncIterator["PersonGround"]:
        handlers = {
            **events_api.handlers(self.events),
            **records_api.handlers(
                self.memories, self.records, self.turns, self.index, note=self.log.note,
                now=self.clock,
            ),
        }  # fmt: skip
        operations = [
            *history_api.operations(
                self.database, self.memories, events=self.events, records=self.records,
                turns=self.turns, index=self.index, lines=self.lines, note=self.log.note,
            ),
            *retrievals_api.operations(self.memories, self.lines),
            *erasure_api.operations(self.erasures),
        ]  # fmt: skip
        await self.blobs.start()
        await self.jobs.start()
        await self.log.start()
        try:
            async with self.served(handlers, operations):
                yield self
        finally:
            await self.log.close()
            await self.jobs.close()
            await self.blobs.close()

    def memory(self, tenant: str, **fields: Any) -> Memory:
        strategies = fields.pop("strategies", (semantic(namespaces=["/facts/{actorId}/"]),))
        return self.memories.make(tenant, strategies=strategies, turns=True, **fields)

    def of(self, memory: Memory) -> "OfPerson":
        return OfPerson(self, memory)


class OfPerson:
    """What tests do with one memory."""

    def __init__(self, ground: PersonGround, memory: Memory) -> None:
        self.ground, self.memory = ground, memory
        self.client = ground.client(memory.tenant)

    # -- by our own API

    async def ask(
        self, path: str, *, method: str = "GET", body: Any = None, tenant: str = "", **query: Any
    ) -> tuple[int, Any]:
        given = f"?{urlencode(query, quote_via=quote)}" if query else ""
        return await self.ground.own(
            tenant or self.memory.tenant, method, f"/memories/{self.memory.id}{path}{given}", body
        )

    async def get(self, path: str, **query: Any) -> Any:
        status, answer = await self.ask(path, **query)
        assert status == 200, answer
        return answer

    async def begin(self, actor: str, **body: Any) -> Any:
        status, answer = await self.ask("/erasures", method="POST", body={"actorId": actor, **body})
        assert status == 200, answer
        return answer

    async def ended(self, erasure: Any) -> Any:
        found: Any = None

        async def ended() -> bool:
            nonlocal found
            found = await self.get(f"/erasures/{erasure['erasureId']}")
            return bool(found["state"] != "RUNNING")

        await self.ground.until(ended)
        return found

    async def erase(self, actor: str) -> Any:
        return await self.ended(await self.begin(actor))

    async def retrievals(self, **query: Any) -> list[Any]:
        await self.ground.log.written()
        found: list[Any] = (await self.get("/retrievals", **query))["retrievals"]
        return found

    # -- as agents do

    async def say(
        self, *texts: str | tuple[str, str], minute: float = 0, actor: str = "anna",
        session: str = "s1", **more: Any,
    ) -> Event:  # fmt: skip
        turns = [("USER", each) if isinstance(each, str) else each for each in texts]
        return await self.ground.events.create(
            self.memory.tenant,
            NewEvent(
                memory_id=self.memory.id, actor_id=actor, session_id=session,
                at=START + timedelta(minutes=minute),
                payload=[
                    {"conversational": {"role": role, "content": {"text": text}}}
                    for role, text in turns
                ],
                **more,
            ),
        )  # fmt: skip

    async def learn(self) -> None:
        while True:
            claims, _ = await self.ground.extraction.store.claim(100)
            if not claims:
                return
            for claim in claims:
                await self.ground.extraction.work(msgspec.to_builtins(claim))

    async def put(self, text: str, *namespaces: str) -> str:
        made = await self.client.batch_create_memory_records(
            memoryId=self.memory.id,
            records=[
                {
                    "requestIdentifier": "one", "content": {"text": text}, "timestamp": START,
                    "namespaces": list(namespaces),
                }
            ],
        )  # fmt: skip
        assert made["failedRecords"] == [], made
        id: str = made["successfulRecords"][0]["memoryRecordId"]
        return id

    async def find(self, query: str, **where: str) -> list[str]:
        answer = await self.client.retrieve_memory_records(
            memoryId=self.memory.id, searchCriteria={"searchQuery": query}, **where
        )
        return [each["memoryRecordId"] for each in answer["memoryRecordSummaries"]]

    async def all(self) -> list[Record]:
        where = Where(path="/", current=False)
        found = [each async for each in self.ground.records.every(self.memory, where)]
        return sorted(found, key=lambda each: (each.at, each.text))

    async def texts(self) -> list[str]:
        return [record.text for record in await self.all()]

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        given: Mapping[str, Any] = {
            "tenant": self.memory.tenant, "memory": self.memory.id, **values
        }  # fmt: skip
        async with self.ground.database.connection() as connection:
            rows = await connection.execute(statement.encode(), given)
            return await rows.fetchall()
