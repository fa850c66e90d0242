"""What the audit needs of others."""

from collections.abc import Sequence
from typing import Protocol


class Lane(Protocol):
    """A connection of one's own to Postgres: no other statement comes between two of ours."""

    async def open(self) -> None:
        """Again after a loss. Raises Unavailable."""

    async def close(self) -> None: ...

    async def run(
        self, statement: str, *values: bytes | None
    ) -> Sequence[tuple[bytes | None, ...]]:
        """In Postgres' text format. Unavailable: it may have been done or not."""
