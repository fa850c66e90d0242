"""The store: one Postgres. Services write plain SQL against their own tables."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from psycopg import AsyncConnection

Connection = AsyncConnection[tuple[Any, ...]]


class Database(Protocol):
    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """A pooled connection in autocommit. Raises Unavailable when none comes in time."""

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A pooled connection inside one transaction: commits at the end, rolls back on error."""

    async def notify(self, connection: Connection, channel: str, payload: str) -> None:
        """Tell every listener, once the transaction commits. Payload <= 7,900 bytes."""

    def listen(self, channel: str, heard: Callable[[str], Awaitable[None] | None]) -> None:
        """Call `heard(payload)` for each notification, from start() until close().

        After a lost connection `heard("")` is called once: "anything may have changed".
        """
