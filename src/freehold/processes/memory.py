"""Memories put together once a worker: events, records, the index, and what is learned."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec

from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.kernel.operation import Operation
from freehold.kernel.request import Handler
from freehold.kernel.sweep import HOUR_SECONDS, Sweep
from freehold.kernel.tracing import Recorder
from freehold.ports.audit import Audit
from freehold.ports.blobs import Blobs
from freehold.ports.database import Connection
from freehold.ports.embeddings import Embeddings, EmbeddingsUnavailable
from freehold.ports.functions import Functions
from freehold.ports.models import Models
from freehold.ports.resources import Resources
from freehold.ports.secrets import Sealer
from freehold.ports.web import Web
from freehold.services.memory import (
    api,
    erasure_api,
    erasure_payloads,
    events_api,
    history_api,
    jobs_api,
    native_status,
    records_api,
    retrievals_api,
    retrievals_store,
)
from freehold.services.memory.erasure import (
    ERASURE_ATTEMPTS_MAX,
    ERASURE_JOB,
    ERASURES_AT_ONCE,
    Erasures,
)
from freehold.services.memory.erasure_steps import Steps
from freehold.services.memory.event_expiry import EventExpiry
from freehold.services.memory.events import EventLog
from freehold.services.memory.index.filling import Filling
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.jobs_api import FailedJobs
from freehold.services.memory.learning import Extraction
from freehold.services.memory.memories import LoadedMemories
from freehold.services.memory.model import Event
from freehold.services.memory.model import Memory as MemoryRow
from freehold.services.memory.ports import Learning
from freehold.services.memory.presence import Presence
from freehold.services.memory.records import Records
from freehold.services.memory.retrievals import RetrievalLog, RetrievalRetention
from freehold.services.memory.retrievals_api import Lines
from freehold.services.memory.self_managed import SelfManaged, TopicDelivery
from freehold.services.memory.service import (
    DELETION_ATTEMPTS_MAX,
    DELETION_JOB,
    MemoryService,
)
from freehold.services.memory.turns import FILL_ATTEMPTS_MAX, FILL_JOB, Turns
from freehold.settings import Settings, SettingsError, variable

if TYPE_CHECKING:
    from freehold.ports.embeddings import Vectors

log = logging.getLogger("freehold.memory")

_DELETIONS_AT_ONCE = 2
_FILLS_AT_ONCE = 2


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    service: MemoryService
    memories: LoadedMemories
    events: EventLog
    records: Records
    turns: Turns
    index: MemoryIndex
    vectors: "_WhereStored"
    filling: Filling
    extraction: Extraction
    failed: FailedJobs
    retrievals: RetrievalLog
    lines: Lines
    erasures: Erasures
    database: PostgresDatabase
    sweep: Sweep


def make_memory(
    settings: Settings,
    database: PostgresDatabase,
    resources: Resources,
    *,
    jobs: PostgresJobs,
    models: Models | None,
    embeddings: Embeddings,
    blobs: Blobs,
    functions: Functions,
    web: Web,
    sealer: Sealer,
    audit: Audit,
    recorder: Recorder | None = None,
) -> Memory:
    """Before `database.start`: it listens. Before `jobs.start`: it registers work. `recorder` takes
    the traces of that."""
    memories = LoadedMemories(resources)
    database.listen(RESOURCES_CHANNEL, memories.heard_change)
    vectors = _WhereStored(database, embeddings)
    index, filling = MemoryIndex(database, vectors), Filling(database, vectors)
    presence = Presence()
    records = Records(database, index, memories=memories, presence=presence)
    turns = Turns(database, index, memories=memories, jobs=jobs)
    topics = TopicDelivery(functions, web, _topics(settings))
    extraction = Extraction(
        database, memories=memories, records=records, jobs=jobs, models=models,
        self_managed=SelfManaged(blobs, topics), recorder=recorder,
    )  # fmt: skip
    events = EventLog(database, memories=memories, learning=_Both(presence, turns, extraction))
    extraction.reads(events)
    service = MemoryService(
        resources=resources, database=database, jobs=jobs, loaded=memories,
        parts=_Parts(
            database, events=events, records=records, turns=turns, index=index,
            extraction=extraction,
        ),
        turns=turns, changes=(extraction,),
        has_model=lambda: models is not None, destination=topics.destination,
    )  # fmt: skip
    database.listen(RESOURCES_CHANNEL, service.heard_change)
    erasures = Erasures(
        database, memories=memories, jobs=jobs, traces=jobs, sealer=sealer, audit=audit,
        steps=Steps(
            database, records=records, turns=turns, extraction=extraction, blobs=blobs, jobs=jobs
        ),
    )  # fmt: skip
    jobs.register(
        ERASURE_JOB, erasures.work, concurrency=ERASURES_AT_ONCE,
        attempts_max=ERASURE_ATTEMPTS_MAX,
    )  # fmt: skip
    jobs.register(
        DELETION_JOB, service.delete_work, concurrency=_DELETIONS_AT_ONCE,
        attempts_max=DELETION_ATTEMPTS_MAX,
    )  # fmt: skip
    jobs.register(FILL_JOB, turns.work, concurrency=_FILLS_AT_ONCE, attempts_max=FILL_ATTEMPTS_MAX)
    return Memory(
        service=service, memories=memories, events=events, records=records, turns=turns,
        index=index, vectors=vectors, filling=filling, extraction=extraction,
        failed=FailedJobs(database, memories, extraction),
        retrievals=RetrievalLog(database, sealer), lines=Lines(database, sealer),
        erasures=erasures, database=database,
        sweep=Sweep(
            "expired events and records of memories",
            EventExpiry(database).sweep, records.sweep, turns.sweep,
            RetrievalRetention(database).sweep, every_seconds=HOUR_SECONDS,
        ),
    )  # fmt: skip


async def open_memory(memory: Memory, stack: AsyncExitStack) -> None:
    """After the gateways, whose embedder it uses: so it is closed before that."""
    await memory.vectors.look()
    memory.filling.start()
    stack.push_async_callback(memory.filling.close)
    await memory.extraction.start()
    stack.push_async_callback(memory.extraction.close)
    await memory.retrievals.start()
    stack.push_async_callback(memory.retrievals.close)
    await memory.sweep.start()
    stack.push_async_callback(memory.sweep.close)
    await memory.service.take_up()
    await memory.turns.take_up()
    await memory.erasures.take_up()


def memory_handlers(memory: Memory) -> dict[str, Handler]:
    return {
        **api.handlers(memory.service),
        **events_api.handlers(memory.events),
        **records_api.handlers(
            memory.memories,
            memory.records,
            memory.turns,
            memory.index,
            note=lambda retrieval: memory.retrievals.note(retrieval),  # noqa: PLW0108
        ),
        **jobs_api.handlers(memory.failed),
    }


def memory_operations(memory: Memory) -> list[Operation]:
    return [
        *native_status.operations(memory.service, [_Waiting(memory.extraction)]),
        *history_api.operations(
            memory.database, memory.memories, events=memory.events, records=memory.records,
            turns=memory.turns, index=memory.index, lines=memory.lines,
            # Looked up when used: pages of docs are made without it.
            note=lambda retrieval: memory.retrievals.note(retrieval),  # noqa: PLW0108
        ),
        *retrievals_api.operations(memory.memories, memory.lines),
        *erasure_api.operations(memory.erasures),
    ]  # fmt: skip


class _WhereStored:
    """The embedder, where the database can keep vectors; else one that is switched off."""

    def __init__(self, database: PostgresDatabase, embeddings: Embeddings) -> None:
        self._database, self._embeddings = database, embeddings
        self.model, self.dimensions = "", 0

    async def look(self) -> None:
        async with self._database.connection() as connection:
            rows = await connection.execute(
                "SELECT atttypid::regtype::text FROM pg_attribute WHERE attname = 'vector'"
                " AND attrelid = 'memory_index_vectors'::regclass"
            )
            [kind] = await rows.fetchone() or [""]
        if kind == "halfvec":
            self.model, self.dimensions = self._embeddings.model, self._embeddings.dimensions
        else:
            log.warning("the database has no pgvector: memories are searched by words alone")

    async def embed(self, texts: Sequence[str]) -> "Vectors":
        if not self.model:
            raise EmbeddingsUnavailable("the database has no pgvector: words alone are searched")
        vectors = await self._embeddings.embed(texts)
        self.dimensions = self._embeddings.dimensions  # of some known only now
        return vectors


class _Both:
    """`ports.Learning`: that there is the memory still, raw turns, what is learned from them."""

    def __init__(self, *learning: Learning) -> None:
        self._learning = learning

    async def said(self, connection: Connection, memory: MemoryRow, event: Event) -> None:
        for each in self._learning:
            await each.said(connection, memory, event)

    async def unsaid(
        self, connection: Connection, memory: MemoryRow, events: Sequence[Event]
    ) -> None:
        for each in self._learning:
            await each.unsaid(connection, memory, events)


class _Parts:
    """`ports.Parts`. What is asked first is what others are made from."""

    def __init__(
        self,
        database: PostgresDatabase,
        *,
        events: EventLog,
        records: Records,
        turns: Turns,
        index: MemoryIndex,
        extraction: Extraction,
    ) -> None:
        self._database, self._events, self._records = database, events, records
        self._turns, self._index, self._extraction = turns, index, extraction

    async def clear(self, tenant: str, memory_id: str) -> None:
        await self._in_parts(self._extraction.clear, tenant, memory_id)
        await self._events.forget(tenant, memory_id)
        await self._turns.clear(tenant, memory_id)
        await self._records.clear(tenant, memory_id)
        await self._in_parts(self._index.clear, tenant, memory_id)
        for clear in (retrievals_store.clear, erasure_payloads.clear):
            await self._in_parts(clear, tenant, memory_id)

    async def _in_parts(
        self, clear: Callable[[Connection, str, str], Awaitable[bool]], tenant: str, memory_id: str
    ) -> None:
        more = True
        while more:
            async with self._database.transaction() as connection:
                more = await clear(connection, tenant, memory_id)


class _Waiting:
    """`native_status.Reasons`."""

    def __init__(self, extraction: Extraction) -> None:
        self._extraction = extraction

    async def __call__(self, memory: MemoryRow) -> Sequence[str]:
        count = await self._extraction.waiting(memory)
        return [f"{count} messages wait to be learned from until there is a model"] if count else []


def _topics(settings: Settings) -> Mapping[str, str]:
    """`ARN=URL`, further ones after a comma."""
    found = {}
    for pair in filter(None, (part.strip() for part in settings.memory_topics.split(","))):
        arn, equals, url = pair.partition("=")
        if not equals or not url.startswith(("https://", "http://")):
            raise SettingsError(f"{variable('memory_topics')}: {pair!r} is not ARN=URL")
        found[arn] = url
    return found
