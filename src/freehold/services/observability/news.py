"""News of written spans, from whoever wrote them to whoever watches, by database notifications.

A notification names a tenant and traces; the spans are read from the store.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager

from freehold.kernel.errors import Unavailable
from freehold.ports.database import Database
from freehold.ports.spans import SpanRecord
from freehold.services.observability.ports import Writer

log = logging.getLogger(__name__)

CHANNEL = "freehold_spans"
_TRACES_A_PAYLOAD = 200
_WAITING_MAX = 10_000


class DatabaseNews:
    """One for each process. `tell` after a write; `follow` is `ports.SpanNews`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._followers: dict[str, set[_Follower]] = {}
        database.listen(CHANNEL, self._heard)

    async def tell(self, spans: Iterable[SpanRecord]) -> None:
        """Once for each batch. Raises Unavailable; what is written stays written."""
        async with self._database.transaction() as connection:
            for payload in payloads(spans):
                await self._database.notify(connection, CHANNEL, payload)

    @asynccontextmanager
    async def follow(self, tenant: str) -> AsyncIterator[AsyncIterator[frozenset[str]]]:
        follower = _Follower()
        self._followers.setdefault(tenant, set()).add(follower)
        try:
            yield follower.news()
        finally:
            followers = self._followers[tenant]
            followers.discard(follower)
            if not followers:
                del self._followers[tenant]

    def _heard(self, payload: str) -> None:
        tenant, _, ids = payload.partition(" ")
        told = frozenset(ids.split())
        # A lost connection: of every tenant anything may have been missed.
        tenants = [tenant] if tenant else list(self._followers)
        for each in tenants:
            for follower in self._followers.get(each, ()):
                follower.tell(told)


class TellingWriter:
    """Writes spans, then tells of them. Where it cannot tell, they are written all the same."""

    def __init__(self, spans: Writer[SpanRecord], news: DatabaseNews) -> None:
        self._spans, self._news = spans, news

    async def write(self, spans: Sequence[SpanRecord], /) -> None:
        await self._spans.write(spans)
        try:
            await self._news.tell(spans)
        except Unavailable as error:
            log.warning("watchers were not told of %d spans: %s", len(spans), error.message)


def payloads(spans: Iterable[SpanRecord]) -> Iterator[str]:
    traces: dict[str, dict[str, None]] = {}
    for span in spans:
        traces.setdefault(span.tenant, {})[span.trace_id] = None
    for tenant, ids in traces.items():
        named = list(ids)
        for at in range(0, len(named), _TRACES_A_PAYLOAD):
            yield f"{tenant} {' '.join(named[at : at + _TRACES_A_PAYLOAD])}"


class _Follower:
    """Gathers what was told since it last looked: nothing piles up behind a slow reader."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._any = False
        self._told = asyncio.Event()

    def tell(self, ids: frozenset[str]) -> None:
        self._waiting |= ids
        if not ids or len(self._waiting) > _WAITING_MAX:
            self._waiting, self._any = set(), True
        self._told.set()

    async def news(self) -> AsyncIterator[frozenset[str]]:
        while True:
            await self._told.wait()
            self._told.clear()
            told = frozenset() if self._any else frozenset(self._waiting)
            self._waiting, self._any = set(), False
            yield told
