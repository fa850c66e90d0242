"""What the parts of the memory service need from one another and from others."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from freehold.ports.database import Connection
from freehold.services.memory.model import Event, Memory, Record, Source


class Memories(Protocol):
    async def get(self, tenant: str, memory_id: str) -> Memory:
        """By id or ARN; from a worker's memory until it changes. NotFound. One that is being
        deleted is not found; one that is CREATING is a Conflict."""


class Changes(Protocol):
    """Of a memory itself: made (no `before`), or its strategies or settings changed. Within the
    transaction that does it, and cheap. One that goes is not told: see `Parts`."""

    async def changed(
        self, connection: Connection, before: Memory | None, after: Memory
    ) -> None: ...


class TurnsSwitch(Protocol):
    async def switched(self, memory: Memory, on: bool) -> None:
        """Whether raw turns are searchable, once that is so; told again after a crash, and when
        nothing changed: the same again does nothing."""


class Parts(Protocol):
    """All that a memory holds."""

    async def clear(self, tenant: str, memory_id: str) -> None:
        """Events, records, turns, index, jobs: gone for good, in batches of their own. Does
        nothing where nothing is left: after a crash it is asked again."""


class Learning(Protocol):
    """What follows when something was said, or unsaid. Within the transaction that does it, and
    cheap: the work itself is a job's."""

    async def said(self, connection: Connection, memory: Memory, event: Event) -> None: ...

    async def unsaid(self, connection: Connection, memory: Memory, events: Sequence[Event]) -> None:
        """Deleted explicitly, or erased; never for those that expired."""


class Events(Protocol):
    async def of_session(
        self,
        tenant: str,
        memory_id: str,
        actor_id: str,
        session_id: str,
        *,
        after: str = "",
        limit: int = 100,
    ) -> Sequence[Event]:
        """In their order, whatever the branch."""

    async def by_id(
        self, tenant: str, memory_id: str, sources: Sequence[Source]
    ) -> Sequence[Event]:
        """Those that are still there."""


class JobTraces(Protocol):
    """What jobs leave behind that ran, or are to run: their payloads."""

    async def matching(
        self, connection: Connection, kind: str, part: Mapping[str, Any]
    ) -> Sequence[str]:
        """The ids of those whose payload has `part` in it."""

    async def forget(
        self, connection: Connection, kind: str, part: Mapping[str, Any]
    ) -> Sequence[str]:
        """They are gone. One that runs is cancelled."""


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One text of the index, in one or more namespaces. `id` is a record's, or a turn's
    ("mem-turn-...", see turns.py). `group` and `order` are its neighbours': turns of a
    session in their order; a record stands alone. `speaker` is who said it."""

    id: str
    namespaces: tuple[str, ...]
    strategy_id: str
    text: str
    at: datetime
    speaker: str = ""
    group: str = ""
    order: str = ""
    metadata: Mapping[str, Any] = {}
    expires_at: datetime | None = None


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """`score` is between 0 and 1, the higher the better; comparable within one answer."""

    id: str
    score: float


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Which units: `namespace` exactly, or `path` and all below it (a path ends at a "/"); of one
    strategy; with metadata as the API's filter expressions say. `current`: without what was
    superseded; what expired is never found. `asker`: the actor whose these are, as far as the place
    says it, and so who "I" is in a question."""

    namespace: str = ""
    path: str = ""
    strategy_id: str = ""
    filters: Sequence[Mapping[str, Any]] = ()
    current: bool = True
    asker: str = ""


class Index(Protocol):
    """The statistics of words are kept in the transaction that changes a text; vectors follow in
    the background, and until then words alone find it."""

    async def put(self, connection: Connection, memory: Memory, units: Sequence[Unit]) -> None:
        """New, or in place of those with the same ids."""

    async def retire(
        self, connection: Connection, memory: Memory, ids: Sequence[str], at: datetime
    ) -> None:
        """Superseded: found from now on only where `current` is False."""

    async def remove(self, connection: Connection, memory: Memory, ids: Sequence[str]) -> None: ...

    async def clear(self, connection: Connection, tenant: str, memory_id: str) -> bool:
        """A part of what a memory has: whether there may be more."""

    async def search(
        self, memory: Memory, where: Where, query: str, limit: int
    ) -> Sequence[Hit]: ...


class Records(Protocol):
    """Records as extraction sees them. Each method joins the caller's transaction."""

    async def nearest(
        self, memory: Memory, namespace: str, strategy_id: str, text: str, limit: int
    ) -> Sequence[Record]:
        """Current ones that say something like it, best first: all that consolidation sees."""

    async def put(self, connection: Connection, memory: Memory, records: Sequence[Record]) -> None:
        """New, or in place of those with the same ids, all of it: one that was superseded and is
        put without `superseded_by` is current again."""

    async def supersede(
        self, connection: Connection, memory: Memory, id: str, by: str, at: datetime
    ) -> None: ...

    async def remove(self, connection: Connection, memory: Memory, ids: Sequence[str]) -> None: ...

    async def from_events(
        self, memory: Memory, event_ids: Sequence[str], *, connection: Connection | None = None
    ) -> Sequence[Record]:
        """All that have one of these among their sources, superseded ones too."""

    async def superseded_by(
        self, connection: Connection, memory: Memory, ids: Sequence[str]
    ) -> Sequence[Record]:
        """Those whose place one of these took."""

    async def held(
        self, connection: Connection, memory: Memory, ids: Sequence[str]
    ) -> Mapping[str, Record]:
        """Those that are there; they stay as they are until the transaction ends."""

    def every(self, memory: Memory, where: Where) -> AsyncIterator[Record]: ...
