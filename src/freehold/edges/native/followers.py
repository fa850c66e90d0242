"""Streams that go on until their client leaves: the worker ends them when it is to stop."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing


class Followers:
    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Those that wait for news end at once, as if no more were to come; others after the line
        that they are at."""
        self._stopped.set()
        for waiting in self._waiting:
            waiting.reschedule(0)

    async def until_stopped(
        self, lines: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(lines):
            while not self._stopped.is_set():
                try:
                    # Around the waiting alone: what is being sent is sent.
                    async with asyncio.timeout(None) as waiting:
                        self._waiting.add(waiting)
                        try:
                            line = await anext(lines)
                        finally:
                            self._waiting.discard(waiting)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if not self._stopped.is_set():  # the stream's own
                        raise
                    return
                yield line
