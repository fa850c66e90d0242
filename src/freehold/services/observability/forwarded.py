"""A writer that keeps what it gets and puts it into the queue for the operator's collector: durable
is only what is in both."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from freehold.services.observability.ports import Writer

T = TypeVar("T")


class ForwardedWrites(Generic[T]):
    """Where it fails in between, whoever brought the items brings them again, and one that is kept
    already changes nothing."""

    def __init__(self, store: Writer[T], forward: Callable[[Sequence[T]], Awaitable[None]]) -> None:
        self._store, self._forward = store, forward

    async def write(self, items: Sequence[T], /) -> None:
        await self._store.write(items)
        await self._forward(items)
