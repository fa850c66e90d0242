"""Events that have expired, and sessions that were empty for a day, go in the background."""

from collections.abc import Callable
from datetime import datetime

from freehold.kernel import clock
from freehold.ports.database import Database
from freehold.services.memory.event_store import EventStore

_BATCH_EVENTS = 500
_BATCH_SESSIONS = 100


class EventExpiry:
    """It does no harm when several do it at the same time. What was learned from the events
    stays."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] = clock.now) -> None:
        self._database = database
        self._store = EventStore()
        self._now = now

    async def sweep(self) -> int:
        """How many events went. In batches: nobody waits for long."""
        swept = 0
        while True:
            async with self._database.transaction() as connection:
                gone = await self._store.expire(connection, self._now(), limit=_BATCH_EVENTS)
            swept += gone
            if gone == 0:
                break
        seen = 1
        while seen:
            async with self._database.transaction() as connection:
                seen = await self._store.drop_empty(connection, self._now(), limit=_BATCH_SESSIONS)
        return swept
