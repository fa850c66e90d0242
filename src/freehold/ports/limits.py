"""How much of something may pass in a time: exact under concurrency, on every worker at once."""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """`amount` in `seconds`, for all that shares `key`: never more pass in any window of `seconds`,
    and all of it may come at once.

    `cost` is what one `take` counts here, where that differs from its own: 0 for what is only
    known later (tokens), so that the take waits while the limit is used up, and counts nothing.
    """

    key: str
    amount: float
    seconds: float
    cost: float | None = None


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """`refused` is the first limit that did not allow it, `retry_after` in seconds then."""

    refused: Limit | None = None
    retry_after: float = 0.0


class RateLimiter(Protocol):
    async def take(self, limits: Sequence[Limit], cost: float = 1.0) -> Taken:
        """All of them, or none. Raises Unavailable while the store does not answer: the caller
        declares what that means."""

    async def charge(self, limits: Sequence[Limit], cost: float) -> None:
        """Afterwards, for what is only known then (tokens): may go below nothing, and the next
        `take` waits for it."""

    async def enter(self, key: str, most: int, *, lease: str, seconds: float) -> bool:
        """A place among `most` at once, until `leave` or `seconds` have passed."""

    async def leave(self, key: str, lease: str) -> None: ...


FailureMode = Literal["deny", "allow"]
"""What holds while the store of limits does not answer."""
