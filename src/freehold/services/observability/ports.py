"""What comes in is written to, and what the reading of spans needs besides their store."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

T_contra = TypeVar("T_contra", contravariant=True)


class Writer(Protocol[T_contra]):
    """Of spans, log records or points, as their stores have it."""

    async def write(self, items: Sequence[T_contra], /) -> None:
        """Durable on return. Raises Unavailable."""


class SpanNews(Protocol):
    """Which traces got spans, as it happens. Nothing is missed between the beginning of `follow`
    and what is yielded; a follower that is slow is told several at once, never fewer."""

    def follow(self, tenant: str) -> AbstractAsyncContextManager[AsyncIterator[frozenset[str]]]:
        """Trace ids, durable by then. An empty set: any may have changed."""
