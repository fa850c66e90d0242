"""The queue of session starts: so many at once, so many waiting, and no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from freehold.kernel.errors import Throttled


class StartQueue:
    def __init__(self, *, at_once: int, queued_max: int) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._at_once, self._queued_max = at_once, queued_max
        self._admitted = 0

    def admit(self) -> None:
        """Takes a turn, which `place` ends. Raises Throttled at once when the queue is full."""
        waiting = self._admitted - self._at_once
        if waiting >= self._queued_max:
            raise Throttled(f"{waiting} session starts are waiting already; try again")
        self._admitted += 1

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits for one of the places, in the order of coming."""
        try:
            async with self._places:
                yield
        finally:
            self._admitted -= 1
