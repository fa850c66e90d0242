"""Memories in a worker's own memory: loaded once, dropped when something of theirs changes."""

import asyncio
from collections import OrderedDict
from datetime import datetime

import msgspec

from freehold.kernel.arns import Arn
from freehold.kernel.errors import Conflict, NotFound
from freehold.ports.resources import Document, Resource, Resources
from freehold.services.memory.model import MEMORY, TAG_TURNS, Memory, Strategy

_KEPT_MAX = 2000

Key = tuple[str, str]
"""The tenant, and the memory's id."""


def memory_of(resource: Resource) -> Memory:
    document = resource.document
    return Memory(
        tenant=resource.tenant,
        id=resource.id,
        arn=resource.arn,
        name=resource.name,
        status=resource.status,
        expiry_days=document["eventExpiryDuration"],
        strategies=strategies_in(document),
        turns=turns_of(resource),
        namespace_keys={
            entry["key"]: entry.get("validation") or {}
            for entry in document.get("namespaceKeys") or ()
        },
        indexed_keys={entry["key"]: entry["type"] for entry in document.get("indexedKeys") or ()},
    )


def turns_of(resource: Resource) -> bool:
    return resource.tags.get(TAG_TURNS) == "on"


def strategies_in(document: Document) -> tuple[Strategy, ...]:
    return msgspec.convert(document.get("strategies") or [], tuple[Strategy, ...])


def kept(strategies: tuple[Strategy, ...]) -> list[Document]:
    """As a document has them."""
    found: list[Document] = msgspec.to_builtins(strategies, builtin_types=(datetime,))
    return found


class LoadedMemories:
    """Implements `ports.Memories`. That there is no such memory is not kept: somebody may just be
    making it."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._kept: OrderedDict[Key, Memory] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[Memory]] = {}
        self._changes = 0

    async def get(self, tenant: str, memory_id: str) -> Memory:
        key = tenant, _id_of(tenant, memory_id)
        memory = self._kept.get(key)
        if memory is None:
            memory = await self._shared(key)
        if memory.status == "DELETING":
            raise _absent(memory_id)
        if memory.status == "CREATING":
            raise Conflict(f"memory {memory.id!r} is being made; try again when it is ACTIVE")
        return memory

    def heard_change(self, payload: str) -> None:
        """Of the resources' channel: "{tenant}/{kind}/{id}"; "" where anything may have changed."""
        if not payload:
            self._changes += 1
            self._kept.clear()
            return
        tenant, kind, *path = payload.split("/")
        if kind == MEMORY.name:
            self.drop(tenant, path[0])

    def drop(self, tenant: str, memory_id: str) -> None:
        self._changes += 1
        self._kept.pop((tenant, memory_id), None)

    def drop_tenant(self, tenant: str) -> None:
        """Of whose memories one was tagged: who tags here and asks here sees it at once."""
        self._changes += 1
        for key in [key for key in self._kept if key[0] == tenant]:
            del self._kept[key]

    async def _shared(self, key: Key) -> Memory:
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load(key))
            self._loading[key] = task
            task.add_done_callback(lambda done: self._loaded(key, done))
        return await asyncio.shield(task)

    def _loaded(self, key: Key, done: asyncio.Task[Memory]) -> None:
        self._loading.pop(key, None)
        if not done.cancelled():
            done.exception()  # who asked may be gone: nobody else looks at it then

    async def _load(self, key: Key) -> Memory:
        tenant, memory_id = key
        while True:
            changes = self._changes
            memory = memory_of(await self._resources.get(tenant, MEMORY, memory_id))
            if changes == self._changes:
                break
        self._kept[key] = memory
        if len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return memory


def _id_of(tenant: str, memory_id: str) -> str:
    """An ARN names its tenant: another's is as absent as one that never was."""
    if not memory_id.startswith("arn:"):
        return memory_id
    arn = Arn.parse(memory_id)
    kind, _, id = arn.resource.partition("/") if arn is not None else ("", "", "")
    if arn is None or arn.tenant != tenant or kind != "memory" or not id:
        raise _absent(memory_id)
    return id


def _absent(memory_id: str) -> NotFound:
    return NotFound(f"memory {memory_id!r} does not exist")
