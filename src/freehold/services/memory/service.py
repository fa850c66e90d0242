"""Memories: made, changed, deleted with all that they hold. No HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from freehold.kernel import clock, ids
from freehold.kernel.errors import Conflict, NotFound, QuotaExceeded, ValidationFailed
from freehold.kernel.pages import Page
from freehold.ports.database import Connection, Database
from freehold.ports.jobs import Jobs, JobState
from freehold.ports.resources import Document, Idempotency, NameTaken, Resource, Resources
from freehold.services.memory import strategies as strategy
from freehold.services.memory.filters import RESERVED
from freehold.services.memory.memories import (
    LoadedMemories,
    kept,
    memory_of,
    strategies_in,
    turns_of,
)
from freehold.services.memory.model import MEMORY, MEMORY_OPTIONS, TAG_TURNS, Memory, Strategy
from freehold.services.memory.namespace_keys import check_keys
from freehold.services.memory.ports import Changes, Parts, TurnsSwitch
from freehold.services.memory.presence import LOCK

DELETION_JOB = "memory deletion"
DELETION_ATTEMPTS_MAX = 20
INDEXED_KEYS_MAX = 10

Params = dict[str, Any]
Destination = Callable[[str, str, str], None]
"""Whether a self-managed strategy of a tenant can be told at a topic's ARN, with payloads in a
bucket. Raises ValidationFailed."""

_NOT_HERE = {
    "encryptionKeyArn": "what memories hold is in the platform's own database, not sealed by a key "
    "of AWS; encrypt the disk that the database is on, and leave this out",
    "streamDeliveryResources": "there is no Kinesis here; list the records of a namespace, or use "
    "a self-managed strategy to be told of what is said",
}
_PLAIN = ("description", "memoryExecutionRoleArn", "eventExpiryDuration")
_TURNS = "_turns"
"""In the document: what the switch was last told, None while somebody tells it. A new memory has
nothing to switch yet."""
# As `_settled` has it, of every tenant's.
_UNSETTLED = f"""
SELECT tenant, id FROM resources WHERE kind = %(kind)s AND status = 'ACTIVE'
    AND (coalesce(tags ->> %(tag)s, '') = 'on')
        IS DISTINCT FROM (document ->> '{_TURNS}')::boolean
"""  # noqa: S608 - a constant
_NO_MODEL = (
    "for a model, and this platform has none: set a provider's key and model (for example "
    "OPENAI_API_KEY and OPENAI_MODEL; docs/models.md has all) where the platform is started, and "
    "start it again. What is said meanwhile is kept, and can be learned from then"
)


class MemoryService:
    """`has_model`: whether strategies that need one can work here. The jobs port runs `delete_work`
    for `DELETION_JOB`."""

    def __init__(
        self,
        *,
        resources: Resources,
        database: Database,
        jobs: Jobs,
        loaded: LoadedMemories,
        parts: Parts,
        turns: TurnsSwitch,
        changes: Sequence[Changes] = (),
        has_model: Callable[[], bool],
        destination: Destination | None = None,
    ) -> None:
        self._resources, self._database, self._jobs = resources, database, jobs
        self._loaded, self._parts = loaded, parts
        self._turns, self._changes = turns, changes
        self._has_model, self._destination = has_model, destination
        self._settling = asyncio.Lock()

    async def create(self, tenant: str, params: Params) -> Resource:
        _refuse(params)
        tags = params.get("tags") or {}
        MEMORY_OPTIONS.check(tags)
        name, at = params["name"], clock.now()
        strategies = tuple(strategy.made(given, at) for given in params.get("memoryStrategies", ()))
        document = {
            **{member: params[member] for member in _PLAIN if params.get(member) is not None},
            "indexedKeys": _indexed([], params.get("indexedKeys") or ()),
            "namespaceKeys": check_keys(params.get("namespaceKeys") or ()),
            "strategies": kept(strategies),
            _TURNS: tags.get(TAG_TURNS) == "on",
        }
        self._check(tenant, document, ())
        try:
            async with self._database.transaction() as connection:
                memory, made = await self._resources.create(
                    tenant, MEMORY, id=ids.suffixed(name), name=name, status="ACTIVE",
                    document=document, tags=tags, connection=connection,
                    idempotency=_idempotency("CreateMemory", params),
                )  # fmt: skip
                if made:
                    await self._tell(connection, None, memory_of(memory))
        except NameTaken as error:
            # The SDK's create_or_get_memory looks for this error, and these words.
            raise ValidationFailed(
                f"a memory with the name {name!r} already exists: {error.message}"
            ) from None
        return memory

    async def get(self, tenant: str, memory_id: str) -> Resource:
        return await self._resources.get(tenant, MEMORY, memory_id)

    async def page(self, tenant: str, limit: int | None, token: str | None) -> Page[Resource]:
        return await self._resources.page(tenant, MEMORY, limit=limit, token=token)

    async def update(self, tenant: str, params: Params) -> Resource:
        """What the request leaves out stays."""
        _refuse(params)
        memory_id, at = params["memoryId"], clock.now()
        before: list[Memory] = []

        def changed(now: Resource) -> Document:
            if now.status == "DELETING":
                raise Conflict(f"memory {memory_id!r} is being deleted")
            before.append(memory_of(now))
            document = _changed(now.document, params, at)
            self._check(tenant, document, before[0].strategies)
            return document

        async with self._changing(tenant, memory_id) as connection:
            memory = await self._resources.update(
                tenant, MEMORY, memory_id, changed, connection=connection,
                idempotency=_idempotency("UpdateMemory", params),
            )  # fmt: skip
            if before:
                await self._tell(connection, before[0], memory_of(memory))
        self._loaded.drop(tenant, memory_id)
        return memory

    async def delete(self, tenant: str, memory_id: str) -> Resource:
        """At once it is not found where it is used; a job takes away what it holds, and it."""
        async with self._changing(tenant, memory_id) as connection:
            memory = await self._resources.get(tenant, MEMORY, memory_id, connection=connection)
            if memory.status != "DELETING":
                memory = await self._resources.set_status(
                    tenant, MEMORY, memory_id, "DELETING", connection=connection
                )
        self._loaded.drop(tenant, memory_id)
        await self._enqueue_deletion(tenant, memory_id)
        return memory

    async def delete_work(self, payload: dict[str, Any]) -> None:
        tenant, memory_id = payload["tenant"], payload["memory"]
        await self._parts.clear(tenant, memory_id)
        try:
            async with self._changing(tenant, memory_id) as connection:
                await self._resources.delete(tenant, MEMORY, memory_id, connection=connection)
        except NotFound:
            pass  # a run before this one came that far
        # What other workers wrote before they heard of it.
        await self._parts.clear(tenant, memory_id)

    async def take_up(self) -> None:
        """What a crash left half done."""
        for memory in await self._resources.in_status(MEMORY, frozenset({"DELETING"})):
            await self._enqueue_deletion(memory.tenant, memory.id)
        await self._settle_all()

    async def heard_change(self, payload: str) -> None:
        """Of the resources' channel: somebody may have tagged a memory."""
        if not payload:
            await self._settle_all()
            return
        tenant, kind, *path = payload.split("/")
        if kind == MEMORY.name:
            await self._settle_turns(tenant, path[0])

    def waiting(self, memory: Memory) -> list[str]:
        """Why not all of it works, for people."""
        if self._has_model():
            return []
        names = [s.name for s in memory.strategies if strategy.learns_as(s) != "SELF_MANAGED"]
        if not names:
            return []
        many = f"{len(names)} strategies wait" if len(names) > 1 else "1 strategy waits"
        return [f"{many} ({', '.join(names)}) {_NO_MODEL}"]

    # -- what follows from changes

    async def _settle_all(self) -> None:
        async with self._database.connection() as connection:
            rows = await connection.execute(_UNSETTLED, {"kind": MEMORY.name, "tag": TAG_TURNS})
            unsettled = await rows.fetchall()
        for tenant, memory_id in unsettled:
            await self._settle_turns(tenant, memory_id)

    async def _settle_turns(self, tenant: str, memory_id: str) -> None:
        """Other workers may be at it, and the tag may change meanwhile: what was told last is what
        is noted last, and while somebody tells nothing is."""
        async with self._settling:
            try:
                memory = await self.get(tenant, memory_id)
                while not _settled(memory):
                    memory = await self._note_turns(tenant, memory_id, None)
                    told = turns_of(memory)
                    await self._turns.switched(memory_of(memory), told)
                    memory = await self._note_turns(tenant, memory_id, told)
            except NotFound:
                return

    async def _note_turns(self, tenant: str, memory_id: str, told: bool | None) -> Resource:
        """Writes only what differs: each write is heard."""
        async with self._changing(tenant, memory_id) as connection:
            memory = await self._resources.get(tenant, MEMORY, memory_id, connection=connection)
            if memory.document.get(_TURNS) == told:
                return memory
            return await self._resources.set_status(
                tenant, MEMORY, memory_id, memory.status, connection=connection,
                document={**memory.document, _TURNS: told},
            )  # fmt: skip

    async def _tell(self, connection: Connection, before: Memory | None, after: Memory) -> None:
        if before == after:
            return
        for part in self._changes:
            await part.changed(connection, before, after)

    async def _enqueue_deletion(self, tenant: str, memory_id: str) -> None:
        id = f"{DELETION_JOB}/{tenant}/{memory_id}"
        job = await self._jobs.get(id)
        if job is not None and job.state not in (JobState.QUEUED, JobState.RUNNING):
            id = f"{id}/{ids.random_text(10)}"  # that one gave up
        await self._jobs.enqueue(DELETION_JOB, {"tenant": tenant, "memory": memory_id}, id=id)

    @asynccontextmanager
    async def _changing(self, tenant: str, memory_id: str) -> AsyncIterator[Connection]:
        """One transaction at a time for a memory."""
        async with self._database.transaction() as connection:
            await connection.execute(
                f"SELECT pg_advisory_xact_lock({LOCK})".encode(),
                {"tenant": tenant, "id": memory_id},
            )
            yield connection

    def _check(self, tenant: str, document: Document, before: Sequence[Strategy]) -> None:
        """Of a document as it would be: its strategies together, and where new ones are told."""
        strategies = strategies_in(document)
        strategy.check_together(strategies, [key["key"] for key in document["namespaceKeys"]])
        if self._destination is None:
            return
        known = [strategy.self_managed(each) for each in before]
        for each in strategies:
            own = strategy.self_managed(each)
            if own is not None and own not in known:
                told = own["invocationConfiguration"]
                self._destination(tenant, told["topicArn"], told["payloadDeliveryBucketName"])


def _changed(document: Document, params: Params, at: datetime) -> Document:
    strategies = _strategies(strategies_in(document), params.get("memoryStrategies") or {}, at)
    given = params.get("namespaceKeys")
    return {
        **document,
        **{member: params[member] for member in _PLAIN if params.get(member) is not None},
        "indexedKeys": _indexed(document["indexedKeys"], params.get("addIndexedKeys") or ()),
        "namespaceKeys": document["namespaceKeys"] if given is None else check_keys(given),
        "strategies": kept(strategies),
    }


def _strategies(
    now: tuple[Strategy, ...], asked: Mapping[str, Any], at: datetime
) -> tuple[Strategy, ...]:
    by_id = {each.id: each for each in now}

    def known(given: Mapping[str, Any]) -> Strategy:
        found = by_id.get(given["memoryStrategyId"])
        if found is None:
            raise ValidationFailed(
                f"memoryStrategies: the memory has no strategy {given['memoryStrategyId']!r}"
            )
        return found

    for given in asked.get("deleteMemoryStrategies") or ():
        del by_id[known(given).id]
    for given in asked.get("modifyMemoryStrategies") or ():
        found = known(given)
        by_id[found.id] = strategy.modified(found, given, at)
    added = [strategy.made(given, at) for given in asked.get("addMemoryStrategies") or ()]
    return (*by_id.values(), *added)


def _indexed(
    now: Sequence[Mapping[str, str]], added: Sequence[Mapping[str, str]]
) -> list[Mapping[str, str]]:
    """What is once indexed stays so."""
    types = {entry["key"]: entry["type"] for entry in now}
    for entry in added:
        key, type = entry["key"], entry["type"]
        if key.startswith(RESERVED):
            raise ValidationFailed(f"indexed key {key!r} is the platform's own, and there already")
        if types.setdefault(key, type) != type:
            raise ValidationFailed(f"indexed key {key!r} is a {types[key]}, and stays one")
    if len(types) > INDEXED_KEYS_MAX:
        raise QuotaExceeded(f"a memory has at most {INDEXED_KEYS_MAX} indexed keys")
    return [{"key": key, "type": type} for key, type in types.items()]


def _refuse(params: Params) -> None:
    for member, why in _NOT_HERE.items():
        given = params.get(member)
        if given and given != {"resources": []}:
            raise ValidationFailed(f"{member}: not available in Freehold: {why}")


def _settled(memory: Resource) -> bool:
    return memory.status != "ACTIVE" or memory.document.get(_TURNS) == turns_of(memory)


def _idempotency(operation: str, params: Params) -> Idempotency:
    request = {name: value for name, value in params.items() if name != "clientToken"}
    return Idempotency(operation, params.get("clientToken"), request)
