"""Group commit: what many callers bring at the same time is one write, and each of them returns
once it is durable. Bounded in items and in bytes: who comes beyond that is told to come again."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from freehold.kernel.errors import FreeholdError, PlatformFailed, Throttled, Unavailable

log = logging.getLogger("freehold.telemetry")

T = TypeVar("T")
# Its encoding is one step: longer, and the other requests of this worker would wait for it.
_BATCH_ITEMS_MAX = 1024
# One is encoded here while the store writes the other.
_WRITES_AT_ONCE = 2


class _Brought(NamedTuple, Generic[T]):
    items: Sequence[T]
    size_bytes: int
    durable: "asyncio.Future[None]"


class Gathering(Generic[T]):
    """`held` is told how many items wait, each time that changes."""

    def __init__(
        self,
        write: Callable[[Sequence[T]], Awaitable[None]],
        *,
        items_max: int,
        bytes_max: int,
        name: str,
        held: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._write, self._name, self._tell = write, name, held
        self._items_max, self._bytes_max = items_max, bytes_max
        self._waiting: deque[_Brought[T]] = deque()
        self._writers: set[asyncio.Task[None]] = set()
        self._closed = False
        self.held_items = self.held_bytes = 0

    def check(self, size_bytes: int, items: int = 0) -> None:
        """Raises Throttled where there is no room. What is too large alone comes when all is
        empty: it would never come otherwise."""
        if self._closed:
            raise Unavailable("this worker is about to stop; send it again")
        if self.held_items and (
            self.held_items + items > self._items_max
            or self.held_bytes + size_bytes > self._bytes_max
        ):
            raise Throttled(f"too many {self._name} wait to be stored; send them again shortly")

    async def put(self, items: Sequence[T], size_bytes: int) -> None:
        """Durable on return. Raises Throttled, Unavailable, PlatformFailed."""
        self.check(size_bytes, len(items))
        if not items:
            return
        brought = _Brought(items, size_bytes, asyncio.get_running_loop().create_future())
        self._hold(len(items), size_bytes)
        self._waiting.append(brought)
        if len(self._writers) < _WRITES_AT_ONCE:
            writer = asyncio.create_task(self._drain(), name=f"telemetry-{self._name}")
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        await brought.durable

    async def close(self) -> None:
        """Returns once all that was brought is durable, or was refused."""
        self._closed = True
        while self._writers:
            await asyncio.wait(self._writers)

    async def _drain(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft()]
            count = len(batch[0].items)
            while self._waiting and count + len(self._waiting[0].items) <= _BATCH_ITEMS_MAX:
                batch.append(self._waiting.popleft())
                count += len(batch[-1].items)
            try:
                await self._store(batch)
            finally:
                self._hold(-count, -sum(each.size_bytes for each in batch))

    def _hold(self, items: int, size_bytes: int) -> None:
        self.held_items += items
        self.held_bytes += size_bytes
        self._tell(self.held_items)

    async def _store(self, batch: list[_Brought[T]]) -> None:
        items = batch[0].items if len(batch) == 1 else [x for each in batch for x in each.items]
        try:
            await self._write(items)
        except asyncio.CancelledError:
            _settle(batch, Unavailable("this worker was stopped; send it again"))
            raise
        except Unavailable as error:
            _settle(batch, error)
        except Exception as error:  # noqa: BLE001 - the boundary: callers wait for its outcome
            await self._apart(batch, error)
        else:
            _settle(batch, None)

    async def _apart(self, batch: list[_Brought[T]], error: Exception) -> None:
        """What the store cannot take must not be everybody's loss: one by one."""
        if len(batch) > 1:
            for each in batch:
                await self._store([each])
            return
        if not isinstance(error, FreeholdError):
            log.error("%s could not be stored", self._name, exc_info=error)
            error = PlatformFailed(f"these {self._name} could not be stored")
        _settle(batch, error)


def _settle(batch: Sequence[_Brought[T]], error: Exception | None) -> None:
    for each in batch:
        if each.durable.done():
            continue  # its caller went away
        if error is None:
            each.durable.set_result(None)
        else:
            each.durable.set_exception(error)
