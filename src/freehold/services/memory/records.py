"""Memory records: made, changed, superseded, forgotten, listed and found."""

import re
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime

import msgspec

from freehold.kernel import clock
from freehold.kernel.errors import Conflict, FreeholdError, NotFound
from freehold.ports.database import Connection, Database
from freehold.services.memory.model import Memory, Record, Strategy
from freehold.services.memory.ports import Index, Memories, Unit, Where
from freehold.services.memory.presence import Presence
from freehold.services.memory.record_store import (
    Made,
    Position,
    RecordStore,
    indexed_metadata,
    normalised,
)

PAGE = 500
PROFILE_RECORDS_MAX = 200
PROFILE_LOOKED_AT_MAX = 5000
"""Of a strategy whose namespaces do not say whose they are."""

Failures = dict[str, FreeholdError]
"""What became of records of a batch that failed, by their ids."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Of one record: what is None stays. `source` is a namespace that it must be in. With
    `expiry` its new `expires_at` counts, None for never."""

    id: str
    at: datetime
    text: str | None = None
    namespaces: tuple[str, ...] | None = None
    source: tuple[str, ...] = ()
    strategy_id: str | None = None
    metadata: Mapping[str, object] | None = None
    expiry: bool = False
    expires_at: datetime | None = None


class Profile(msgspec.Struct, frozen=True):
    """Newest first. `more`: there are others, which had no room."""

    records: list[Record]
    more: bool = False


class Records:
    """`ports.Records`, and what the API asks of records. What expired is not there, whether or not
    it was swept away yet."""

    def __init__(
        self,
        database: Database,
        index: Index,
        *,
        memories: Memories,
        presence: Presence | None = None,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """`presence`: new records are put into memories alone that are still there."""
        self._presence = presence
        self._database, self._index, self._memories = database, index, memories
        self._now = now
        self._store = RecordStore(database)

    # -- for extraction

    async def nearest(
        self, memory: Memory, namespace: str, strategy_id: str, text: str, limit: int
    ) -> Sequence[Record]:
        where = Where(namespace=normalised(namespace), strategy_id=strategy_id)
        hits = await self._index.search(memory, where, text, limit)
        found = await self.read(memory, [hit.id for hit in hits])
        return [
            found[hit.id] for hit in hits if hit.id in found and found[hit.id].valid_until is None
        ]

    async def put(self, connection: Connection, memory: Memory, records: Sequence[Record]) -> None:
        if records:
            kept = await self._store.put(connection, memory, records)
            await self._indexed(connection, memory, kept)

    async def supersede(
        self, connection: Connection, memory: Memory, id: str, by: str, at: datetime
    ) -> None:
        """Nothing, for one that is gone."""
        if await self._store.supersede(connection, memory, id, by, at):
            await self._index.retire(connection, memory, [id], at)

    async def remove(self, connection: Connection, memory: Memory, ids: Sequence[str]) -> None:
        if ids:
            await self._store.delete(connection, memory.tenant, memory.id, ids)
            await self._index.remove(connection, memory, ids)

    async def from_events(
        self, memory: Memory, event_ids: Sequence[str], *, connection: Connection | None = None
    ) -> Sequence[Record]:
        return await self._store.from_events(memory, event_ids, connection)

    async def superseded_by(
        self, connection: Connection, memory: Memory, ids: Sequence[str]
    ) -> Sequence[Record]:
        return await self._store.superseded_by(connection, memory, ids)

    async def held(
        self, connection: Connection, memory: Memory, ids: Sequence[str]
    ) -> Mapping[str, Record]:
        return await self._locked(connection, memory, ids)

    async def every(self, memory: Memory, where: Where) -> AsyncIterator[Record]:
        after: Position | None = None
        while True:
            page = await self._store.page(memory, where, after=after, limit=PAGE, now=self._now())
            for after, record in page:  # noqa: B007 - the last position is where to go on
                yield record
            if len(page) < PAGE:
                return

    # -- for the API

    async def create(
        self, memory: Memory, records: Sequence[Record], requests: Mapping[str, uuid.UUID]
    ) -> Failures:
        """`requests` say by id what was asked for: asked for again with the same client token, a
        record stays as it is. Another request of that token is a conflict."""
        async with self._database.transaction() as connection:
            if self._presence is not None:
                await self._presence.check(connection, memory)
            there = await self._store.insert(connection, memory, records, requests)
            new = [record for record in records if record.id not in there]
            await self._indexed(connection, memory, new)
        taken = Conflict("the client token was used with another record of this requestIdentifier")
        return {id: taken for id, asked in there.items() if asked != requests.get(id)}

    async def update(self, memory: Memory, changes: Sequence[Change]) -> Failures:
        failures: Failures = {}
        async with self._database.transaction() as connection:
            there = await self._locked(connection, memory, [change.id for change in changes])
            changed = []
            for change in changes:
                record = there.get(change.id)
                if record is None or not is_in(record, change.source):
                    failures[change.id] = not_there(change.id, change.source)
                else:
                    changed.append(_changed(record, change, self._now()))
            await self.put(connection, memory, changed)
        return failures

    async def delete(self, memory: Memory, ids: Mapping[str, str]) -> Failures:
        """By id, the namespace that each must be in, or ""."""
        failures: Failures = {}
        async with self._database.transaction() as connection:
            there = await self._locked(connection, memory, list(ids))
            for id, namespace in ids.items():
                wanted = (namespace,) if namespace else ()
                if id not in there or not is_in(there[id], wanted):
                    failures[id] = not_there(id, wanted)
            await self.remove(connection, memory, [id for id in ids if id not in failures])
        return failures

    async def _locked(
        self, connection: Connection, memory: Memory, ids: Sequence[str]
    ) -> dict[str, Record]:
        return await self._store.read(
            memory, ids, now=self._now(), connection=connection, lock=True
        )

    async def read(self, memory: Memory, ids: Sequence[str]) -> dict[str, Record]:
        """Those that are there, superseded ones too."""
        return await self._store.read(memory, ids, now=self._now()) if ids else {}

    async def page(
        self, memory: Memory, where: Where, *, after: Position | None, limit: int
    ) -> list[tuple[Position, Record]]:
        return await self._store.page(memory, where, after=after, limit=limit, now=self._now())

    async def newest(
        self, memory: Memory, where: Where, *, after: Made | None, limit: int
    ) -> list[Made]:
        """Of a namespace, or of a path whatever the namespaces below it, superseded ones too."""
        return await self._store.newest(memory, where, after=after, limit=limit)

    async def holds(self, memory: Memory, where: Where) -> bool:
        """Whether the namespace or path of `where` has anything at all, superseded or not."""
        return await self._store.holds(memory, where, self._now())

    async def profile(self, memory: Memory, actor_id: str) -> Profile:
        """An actor's preferences, all of them, and standing instructions: an agent needs them
        whole, and no search finds an instruction by what somebody just said."""
        limit = PROFILE_RECORDS_MAX
        found: dict[str, Record] = {}
        more = False
        for strategy in memory.strategies:
            if not _prefers(strategy):
                continue
            for template in strategy.namespaces:
                records, cut = await self._of_actor(memory, strategy, template, actor_id)
                found.update({record.id: record for record in records})
                more = more or cut
        instructions = await self._store.instructions(
            memory, normalised(actor_id), limit=limit + 1, now=self._now()
        )
        found.update({record.id: record for record in instructions})
        newest = sorted(found.values(), key=lambda record: (record.at, record.id), reverse=True)
        return Profile(newest[:limit], more or len(newest) > limit)

    async def profile_at(self, memory: Memory, path: str) -> Profile:
        """All that is current at a path and below it."""
        found: list[Record] = []
        async for record in self.every(memory, Where(path=normalised(path))):
            if len(found) == PROFILE_RECORDS_MAX:
                return Profile(found, True)
            found.append(record)
        return Profile(sorted(found, key=lambda each: (each.at, each.id), reverse=True))

    async def _of_actor(
        self, memory: Memory, strategy: Strategy, template: str, actor_id: str
    ) -> tuple[list[Record], bool]:
        """Whether the cap was reached, too. Where a namespace names no actor, a record is
        somebody's by what it comes from, and everybody's when it comes from nothing."""
        path, pattern = _namespaces_of(template, strategy.id, actor_id)
        found: list[Record] = []
        where = Where(path=path, strategy_id=strategy.id)
        looked_at = 0
        async for record in self.every(memory, where):
            looked_at += 1
            if looked_at > PROFILE_LOOKED_AT_MAX:
                return found, True
            if not any(pattern.fullmatch(normalised(name)) for name in record.namespaces):
                continue
            actors = {source.actor_id for source in record.sources}
            if "{actorId}" not in template and actors and actor_id not in actors:
                continue
            if len(found) == PROFILE_RECORDS_MAX:
                return found, True
            found.append(record)
        return found, False

    # -- upkeep

    async def sweep(self) -> int:
        """Removes some of what expired, of any memory; how many. Safe beside others."""
        async with self._database.transaction() as connection:
            expired = await self._store.expired(connection, now=self._now(), limit=PAGE)
            for (tenant, memory_id), ids in by_memory(expired).items():
                try:
                    memory = await self._memories.get(tenant, memory_id)
                except NotFound:  # it is being deleted, and its index with it
                    await self._store.delete(connection, tenant, memory_id, ids)
                else:
                    await self.remove(connection, memory, ids)
        return len(expired)

    async def clear(self, tenant: str, memory_id: str) -> None:
        """Of a memory that is deleted, by its id. The index is cleared by whoever deletes it."""
        gone = PAGE
        while gone == PAGE:
            async with self._database.transaction() as connection:
                ids = await self._store.some(connection, tenant, memory_id, PAGE)
                await self._store.delete(connection, tenant, memory_id, ids)
            gone = len(ids)

    async def _indexed(
        self, connection: Connection, memory: Memory, records: Sequence[Record]
    ) -> None:
        if not records:
            return
        await self._index.put(connection, memory, [_unit(record) for record in records])
        for record in records:
            if record.valid_until is not None:
                await self._index.retire(connection, memory, [record.id], record.valid_until)


def by_memory(found: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for tenant, memory_id, id in found:
        groups.setdefault((tenant, memory_id), []).append(id)
    return groups


def is_in(record: Record, namespaces: Collection[str]) -> bool:
    """In all of these; every record is in none."""
    return {normalised(name) for name in namespaces} <= {
        normalised(name) for name in record.namespaces
    }


def not_there(id: str, namespaces: Collection[str] = ()) -> NotFound:
    place = f" in namespace {', '.join(namespaces)}" if namespaces else ""
    return NotFound(f"memory record {id} does not exist{place}")


def _changed(record: Record, change: Change, now: datetime) -> Record:
    given = {
        "text": change.text, "namespaces": change.namespaces, "strategy_id": change.strategy_id,
        "metadata": change.metadata,
    }  # fmt: skip
    changes: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if change.expiry:
        changes["expires_at"] = change.expires_at
    return msgspec.structs.replace(record, at=change.at, updated_at=now, **changes)


def _unit(record: Record) -> Unit:
    return Unit(
        id=record.id, namespaces=tuple({normalised(name) for name in record.namespaces}),
        strategy_id=record.strategy_id, text=record.text, at=record.at,
        metadata=indexed_metadata(record), expires_at=record.expires_at,
    )  # fmt: skip


def _prefers(strategy: Strategy) -> bool:
    """Learns preferences: by its type, or by what its prompts override."""
    overrides = strategy.configuration
    return strategy.type == "USER_PREFERENCE" or (
        strategy.type == "CUSTOM"
        and (
            overrides.get("type") == "USER_PREFERENCE_OVERRIDE"
            or "userPreferenceOverride" in overrides
        )
    )


def _namespaces_of(template: str, strategy_id: str, actor_id: str) -> tuple[str, re.Pattern[str]]:
    """What all of an actor's namespaces begin with, and which are theirs."""
    known = {"memoryStrategyId": strategy_id, "actorId": actor_id}
    parts = re.split(r"\{(\w+)\}", normalised(template))
    path, pattern, whole = "", "", True
    for number, part in enumerate(parts):
        value = part if number % 2 == 0 else known.get(part)
        whole = whole and value is not None
        path += value if whole and value is not None else ""
        pattern += "[^/]+" if value is None else re.escape(value)
    return path[: path.rindex("/") + 1], re.compile(pattern)
