"""Sessions with servers of the legacy era: one a caller and credential, kept between calls."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from time import monotonic
from typing import Protocol

import msgspec

from freehold.ports.targets import Errand, Json, Place


class UpstreamSession(msgspec.Struct, frozen=True, kw_only=True):
    """What `initialize` settled. `id` is "" for a server that keeps none; else it opens what its
    owner may do there, so it is kept like a token."""

    id: str
    version: str
    capabilities: Json = {}
    """Those that we declared: what the server may ask."""

    def __repr__(self) -> str:
        return f"UpstreamSession({self.version})"


class UpstreamSessions(Protocol):
    """Where they are kept, so that another worker can go on with them. A key is opaque, and holds
    all that two callers must not share. To lose one costs a handshake."""

    async def find(self, key: str) -> UpstreamSession | None: ...

    async def keep(self, key: str, session: UpstreamSession) -> None: ...

    async def forget(self, key: str, session: UpstreamSession) -> None:
        """Unless it is another one by now."""


class MemorySessions:
    """Of this worker alone; the one that was used longest ago goes first."""

    def __init__(
        self,
        *,
        count_max: int = 10_000,
        idle_seconds_max: float = 3600,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._count_max, self._idle_seconds_max, self._now = count_max, idle_seconds_max, now
        self._kept: OrderedDict[str, tuple[float, UpstreamSession]] = OrderedDict()

    async def find(self, key: str) -> UpstreamSession | None:
        found = self._kept.get(key)
        if found is None:
            return None
        used, session = found
        if self._now() - used > self._idle_seconds_max:
            del self._kept[key]
            return None
        self._kept[key] = (self._now(), session)
        self._kept.move_to_end(key)
        return session

    async def keep(self, key: str, session: UpstreamSession) -> None:
        self._kept[key] = (self._now(), session)
        self._kept.move_to_end(key)
        while len(self._kept) > self._count_max:
            self._kept.popitem(last=False)

    async def forget(self, key: str, session: UpstreamSession) -> None:
        found = self._kept.get(key)
        if found is not None and found[1].id == session.id:
            del self._kept[key]


def session_key(place: Place, errand: Errand, *, of_client: bool) -> str:
    """Two callers never share a session: it is whoever began it, to the server. `of_client`: nor
    do two sessions of one caller's clients, where what comes through it is for one of them."""
    parts = (
        place.tenant, place.gateway_id, place.target_id, place.configuration.get("endpoint"),
        errand.owner, errand.credential.owner, errand.session if of_client else "",
    )  # fmt: skip
    return sha256(msgspec.json.encode(parts)).hexdigest()


class Turns:
    """One at a time of each key; nothing is kept for a key that nobody waits for."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        lock, waiting = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks[key]
            if waiting == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, waiting - 1)
