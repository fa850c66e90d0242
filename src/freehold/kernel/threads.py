"""Work in threads that is over when its caller goes on, even when the caller was cancelled."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """A thread cannot be stopped: asyncio.to_thread alone would leave it making what the cancelled
    caller then clears away.
    """
    return await in_stoppable_thread(lambda: None, work, *args, **options)


async def in_stoppable_thread(
    stop: Callable[[], None], work: Callable[P, T], *args: P.args, **options: P.kwargs
) -> T:
    """The same for work that takes long: `stop` tells it that its caller was cancelled."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **options))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait([running])
        raise
