"""Extraction with its real parts in this process: Postgres, events, records, the index by words.
The model is a program that does what it was told, and can be made to do anything else."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from memory_ground import FakeMemories

from freehold.adapters.embeddings.absent import NoEmbeddings
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel import clock
from freehold.kernel.tracing import Recorder
from freehold.ports.jobs import Job, Jobs, Work
from freehold.ports.models import Completion, Message, Models, Tool, Usage
from freehold.services.memory import strategies
from freehold.services.memory.events import EventLog, NewEvent
from freehold.services.memory.extraction_store import Triggers
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.learning import Extraction
from freehold.services.memory.model import Event, Memory, Record, Strategy
from freehold.services.memory.ports import Where
from freehold.services.memory.records import Records
from freehold.services.memory.self_managed import SelfManaged

AT_ONCE = Triggers(messages=1, tokens=None, idle_seconds=0)
START = datetime(2026, 1, 1, tzinfo=UTC)

Answer = Callable[[dict[str, Any]], Awaitable[str] | str]


class ModelDouble:
    """Notes each fact "KEY is VALUE" as it was said, and takes a later value of a key for the one
    that holds. `answers` are used up first: a text, an exception, or what makes one of what it is
    asked. `asked` are the documents it was given, `told` its instructions."""

    def __init__(self, *answers: str | Exception | Answer) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.told: list[str] = []
        self.models: list[str] = []

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        model: str = "",
        output_tokens_max: int = 1024,
    ) -> Completion:
        document = json.loads(messages[-1].text)
        self.asked.append(document)
        self.told.append(messages[0].text)
        self.models.append(model)
        answer = self.answers.pop(0) if self.answers else sensible
        if isinstance(answer, Exception):
            raise answer
        said = answer if isinstance(answer, str) else answer(document)
        text = said if isinstance(said, str) else await said
        return Completion(text=text, tool_calls=(), usage=Usage(), model="double")

    def stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("nobody streams here")

    async def close(self) -> None:
        pass


def sensible(document: dict[str, Any]) -> str:
    if "candidates" in document:
        return consolidated(document)
    fresh = [each for each in document["messages"] if not each.get("context")]
    if "topics" in document:
        over = {"over": document["topics"][0]["label"]} if document["topics"] else {}
        text = ", ".join(each["text"] for each in fresh)
        told = document["topics"][0]["text"].split("\n")[1] + ", " if document["topics"] else ""
        return json.dumps({
            "items": [{**over, "topic": "talk", "text": told + text,
                       "from": [each["n"] for each in fresh]}]
        })  # fmt: skip
    return json.dumps({"items": [{"text": e["text"], "from": [e["n"]]} for e in fresh]})


def consolidated(document: dict[str, Any]) -> str:
    """By key, the part before " is "."""
    near = {each["label"]: each["text"] for each in document["records"]}
    decisions = []
    earlier: dict[str, str] = {}
    for each in document["candidates"]:
        key = key_of(each["text"])
        over = earlier.get(key) or next(
            (label for label in each["near"] if key_of(near[label]) == key), None
        )
        action = {"action": "UPDATE", "over": over} if over else {"action": "ADD"}
        decisions.append({"candidate": each["label"], **action})
        earlier[key] = each["label"]
    return json.dumps({"decisions": decisions})


def key_of(text: str) -> str:
    return text.partition(" is ")[0]


def items(*said: Any) -> str:
    """The model's answer: texts, or whole items."""
    return json.dumps({"items": [{"text": e} if isinstance(e, str) else e for e in said]})


class KeptJobs:
    """Runs nothing by itself: tests do."""

    def __init__(self) -> None:
        self.work: dict[str, Work] = {}

    async def enqueue(self, kind: str, payload: dict[str, Any], *, id: str) -> None:
        raise NotImplementedError("nobody schedules here")

    async def get(self, id: str) -> Job | None:
        return None

    def register(self, kind: str, work: Work, *, concurrency: int, attempts_max: int = 3) -> None:
        self.work[kind] = work

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class LearningGround:
    """One worker. `drain` runs every extraction whose turn it is, and says how many."""

    def __init__(
        self,
        database: PostgresDatabase,
        model: Models | None,
        *,
        memories: FakeMemories | None = None,
        jobs: Jobs | None = None,
        triggers: Triggers = AT_ONCE,
        self_managed: SelfManaged | None = None,
        model_seconds_max: float = 120.0,
        recorder: Recorder | None = None,
    ) -> None:
        self.database = database
        self.ahead = timedelta()
        self.memories = memories or FakeMemories()
        self.records = Records(
            database, MemoryIndex(database, NoEmbeddings()), memories=self.memories, now=self.now
        )
        self.extraction = Extraction(
            database, memories=self.memories, records=self.records, jobs=jobs or KeptJobs(),
            models=model, self_managed=self_managed, triggers=triggers, pauses_seconds=(0, 0),
            model_seconds_max=model_seconds_max, now=self.now, recorder=recorder,
        )  # fmt: skip
        self.events = EventLog(
            database, memories=self.memories, learning=self.extraction, now=self.now
        )
        self.extraction.reads(self.events)

    def now(self) -> datetime:
        return clock.now() + self.ahead

    async def said(
        self,
        memory: Memory,
        *texts: str | tuple[str, str],
        minute: float = 0,
        actor: str = "anna",
        session: str = "s1",
        **more: Any,
    ) -> Event:
        """Texts of the person's, or (role, text)."""
        turns = [("USER", each) if isinstance(each, str) else each for each in texts]
        return await self.events.create(
            memory.tenant,
            NewEvent(
                memory_id=memory.id, actor_id=actor, session_id=session,
                at=START + timedelta(minutes=minute),
                payload=[
                    {"conversational": {"role": role, "content": {"text": text}}}
                    for role, text in turns
                ],
                **more,
            ),
        )  # fmt: skip

    async def delete(self, event: Event) -> None:
        await self.events.delete(
            event.tenant, event.memory_id, event.actor_id, event.session_id, event.id
        )

    async def claims(self) -> list[dict[str, Any]]:
        found, _ = await self.extraction.store.claim(100)
        return [msgspec.to_builtins(each) for each in found]

    async def drain(self) -> int:
        runs = 0
        async with asyncio.timeout(20):
            while claims := await self.claims():
                for claim in claims:
                    await self.extraction.work(claim)
                    runs += 1
        return runs

    async def all(self, memory: Memory, *, current: bool = True) -> list[Record]:
        found = [
            each async for each in self.records.every(memory, Where(path="/", current=current))
        ]
        return sorted(found, key=lambda each: (each.at, each.text))

    async def texts(self, memory: Memory, *, current: bool = True) -> list[str]:
        return [record.text for record in await self.all(memory, current=current)]

    async def failures(self, memory: Memory) -> list[tuple[str, Any]]:
        """Reasons, and messages by event."""
        async with self.database.connection() as connection:
            rows = await connection.execute(
                "SELECT reason, messages FROM memory_extraction_failures"
                " WHERE tenant = %s AND memory_id = %s",
                (memory.tenant, memory.id),
            )
            return [(reason, messages) for reason, messages in await rows.fetchall()]

    async def queued(self, memory: Memory) -> int:
        async with self.database.connection() as connection:
            rows = await connection.execute(
                "SELECT coalesce(sum(cardinality(messages)), 0) FROM memory_extractions"
                " WHERE tenant = %s AND memory_id = %s",
                (memory.tenant, memory.id),
            )
            row = await rows.fetchone()
        assert row is not None
        return int(row[0])


def semantic(name: str = "facts", **more: Any) -> Strategy:
    return strategy({"semanticMemoryStrategy": {"name": name, **more}})


def strategy(given: Mapping[str, Any]) -> Strategy:
    made = strategies.made(given, clock.now())
    return msgspec.structs.replace(made, status="ACTIVE")


@asynccontextmanager
async def ground_on(dsn: str, model: Models | None, **how: Any) -> AsyncIterator[LearningGround]:
    async with AsyncExitStack() as stack:
        database = PostgresDatabase(dsn, pool_size_max=6, application_name="learning test")
        ground = LearningGround(database, model, **how)
        await database.start()
        stack.push_async_callback(database.close)
        yield ground
