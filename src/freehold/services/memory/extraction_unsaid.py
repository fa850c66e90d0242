"""What was learned goes with what it was learned from.

A record that comes from unsaid messages alone goes; one that others say too goes as well, and those
others are looked at again. What it had taken the place of comes back, or is followed by what came
after it.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

from freehold.ports.database import Connection
from freehold.services.memory import extraction_failures as failures
from freehold.services.memory import strategies
from freehold.services.memory.consolidation import chained, ends
from freehold.services.memory.extraction_places import Place, Said, Thread
from freehold.services.memory.extraction_store import ExtractionStore, Queued, Triggers, slot_of
from freehold.services.memory.model import Event, Memory, Record, Strategy
from freehold.services.memory.ports import Records

_TOKENS_A_MESSAGE = 100


class Queue(Protocol):
    async def queue(
        self,
        connection: Connection,
        strategy: Strategy,
        place: Place,
        queued: Sequence[Queued],
        *,
        now: bool = False,
    ) -> None: ...

    def triggers(self, strategy: Strategy | None) -> Triggers: ...


class _Ground(msgspec.Struct, frozen=True):
    """What must be held: so that nobody writes what they are learning from unsaid messages, nor
    consolidates over records that go."""

    slots: frozenset[int]
    threads: frozenset[Thread]

    @classmethod
    def of(cls, memory: Memory, gone: Collection[Said], records: Sequence[Record]) -> "_Ground":
        slots = {
            slot_of(memory.tenant, memory.id, record.strategy_id, namespace)
            for record in records for namespace in record.namespaces
        }  # fmt: skip
        threads = {(actor, session) for actor, session, _ in gone}
        threads |= {(s.actor_id, s.session_id) for record in records for s in record.sources}
        return cls(frozenset(slots), frozenset(threads))


class _MoreNeeded(Exception):
    def __init__(self, ground: _Ground) -> None:
        super().__init__()
        self.ground = ground


class Unsaying:
    def __init__(self, store: ExtractionStore, records: Records, queue: Queue) -> None:
        self._store, self._records, self._queue = store, records, queue

    async def unsaid(self, connection: Connection, memory: Memory, events: Sequence[Event]) -> None:
        gone = {(event.actor_id, event.session_id, event.id) for event in events}
        if not gone:
            return
        await self._store.alone(connection, memory.tenant, memory.id)
        ground = _Ground.of(memory, gone, await self._derived(connection, memory, gone))
        while True:
            try:
                async with connection.transaction():
                    await self._forget(connection, memory, gone, ground)
            except _MoreNeeded as more:
                ground = more.ground
            else:
                return

    async def _forget(
        self, connection: Connection, memory: Memory, gone: Collection[Said], ground: "_Ground"
    ) -> None:
        """Raises _MoreNeeded where a job that ended meanwhile wrote what this does not hold."""
        await self._store.advance(connection, ground.slots)
        places = await self._store.lock_threads(
            connection, memory.tenant, memory.id, sorted(ground.threads)
        )
        records = await self._derived(connection, memory, gone)
        now = _Ground.of(memory, gone, records)
        if not (now.slots <= ground.slots and now.threads <= ground.threads):
            raise _MoreNeeded(now)
        await self._dequeue(connection, memory, gone, places)
        await failures.forget(connection, memory.tenant, memory.id, gone)
        ids = [record.id for record in records]
        if not ids:
            return
        orphans = [
            record for record in await self._records.superseded_by(connection, memory, ids)
            if record.id not in ids
        ]  # fmt: skip
        await self._records.remove(connection, memory, ids)
        await self._relink(connection, memory, records, orphans)
        await self._again(connection, memory, records, gone)

    async def _derived(
        self, connection: Connection, memory: Memory, gone: Collection[Said]
    ) -> list[Record]:
        found = await self._records.from_events(
            memory, sorted({id for _, _, id in gone}), connection=connection
        )
        return [
            record for record in found
            if any((s.actor_id, s.session_id, s.event_id) in gone for s in record.sources)
        ]  # fmt: skip

    async def _dequeue(
        self,
        connection: Connection,
        memory: Memory,
        gone: Collection[Said],
        places: Sequence[Place],
    ) -> None:
        by_id = {strategy.id: strategy for strategy in memory.strategies}
        for place in places:
            thread = place.actor_id, place.session_id
            ids = [id for actor, session, id in gone if (actor, session) == thread]
            if ids:
                await self._store.drop(connection, place, ids)
                triggers = self._queue.triggers(by_id.get(place.strategy_id))
                await self._store.settle(connection, place, triggers, release=False)

    async def _relink(
        self,
        connection: Connection,
        memory: Memory,
        gone: Sequence[Record],
        orphans: Sequence[Record],
    ) -> None:
        if not orphans:
            return
        where = ends(gone)
        heirs = await self._records.held(
            connection, memory, sorted({heir for _, heir in where.values() if heir})
        )
        current, superseded = chained(orphans, where, heirs)
        await self._records.put(connection, memory, current)
        for each in superseded:
            await self._records.supersede(connection, memory, each.id, each.by, each.at)

    async def _again(
        self,
        connection: Connection,
        memory: Memory,
        records: Sequence[Record],
        gone: Collection[Said],
    ) -> None:
        """The other sources of what went are in the queue again, each once."""
        places: dict[Place, dict[str, set[int]]] = {}
        for record in records:
            for source in record.sources:
                if (source.actor_id, source.session_id, source.event_id) not in gone:
                    place = Place(
                        memory.tenant, memory.id, record.strategy_id, source.actor_id,
                        source.session_id,
                    )  # fmt: skip
                    messages = places.setdefault(place, {})
                    messages.setdefault(source.event_id, set()).add(source.index)
        learns = {
            strategy.id: strategy for strategy in memory.strategies
            if strategy.status == "ACTIVE"
            and strategies.learns_as(strategy) != strategies.SELF_MANAGED
        }  # fmt: skip
        for place in sorted(places):
            if place.strategy_id in learns:
                queued = [
                    Queued(event_id, sorted(indexes), _TOKENS_A_MESSAGE * len(indexes))
                    for event_id, indexes in sorted(places[place].items())
                ]
                await self._queue.queue(
                    connection, learns[place.strategy_id], place, queued, now=True
                )
