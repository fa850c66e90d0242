"""What is too old goes, in the background of a process."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

from freehold.kernel.errors import Unavailable

log = logging.getLogger("freehold.sweep")

HOUR_SECONDS = 3600.0
DAY_SECONDS = 24 * HOUR_SECONDS
_OFFSET = 0.1  # of the pause, by chance: the workers of a cluster do not all come at once

Removal = Callable[[], Awaitable[int | None]]
"""Removes a batch and says how many that were, or removes all and says nothing. It bears that other
processes do the same at the same time."""


class Sweep:
    """At the start and then every `every_seconds`, all `removals` until nothing is left for them.

    What fails is told to the log, and done the next time. `what` is what goes, in the plural.
    """

    def __init__(self, what: str, *removals: Removal, every_seconds: float) -> None:
        self._what = what
        self._removals = removals
        self._every_seconds = every_seconds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"sweep of {self._what}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def sweep(self) -> None:
        """Now, by whoever asks. Raises what a removal raises."""
        for removal in self._removals:
            await _until_nothing_is_left(removal)

    async def _run(self) -> None:
        while True:
            for removal in self._removals:
                try:
                    await _until_nothing_is_left(removal)
                except Unavailable as error:
                    log.warning("%s stay for now: %s", self._what, error)
                except Exception:  # else nothing would go until the next start
                    log.exception("%s stay for now", self._what)
            offset = random.uniform(-_OFFSET, _OFFSET)  # noqa: S311 - no secret hangs on it
            await asyncio.sleep(self._every_seconds * (1 + offset))


async def _until_nothing_is_left(removal: Removal) -> None:
    while await removal():
        pass
