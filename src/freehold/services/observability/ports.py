"""What the reading of spans needs besides their store."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class SpanNews(Protocol):
    """Which traces got spans, as it happens. Nothing is missed between the beginning of `follow`
    and what is yielded; a follower that is slow is told several at once, never fewer."""

    def follow(self, tenant: str) -> AbstractAsyncContextManager[AsyncIterator[frozenset[str]]]:
        """Trace ids, durable by then. An empty set: any may have changed."""
