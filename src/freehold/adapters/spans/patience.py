"""How long a list may look, and how many may look at the same time: filters that each find much and
together nothing read through all of it, and others wait for the connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.errors import QueryCanceled

from freehold.kernel.errors import ValidationFailed
from freehold.ports.database import Connection, Database

SECONDS_MAX = 30.0
_AT_ONCE = 3


class Patience:
    """Of one process. `seconds_max` is of a statement."""

    def __init__(self, database: Database, *, seconds_max: float = SECONDS_MAX) -> None:
        self._database = database
        self._milliseconds_max = int(seconds_max * 1000)
        self._turn = asyncio.Semaphore(_AT_ONCE)

    @asynccontextmanager
    async def search(self) -> AsyncIterator[Connection]:
        """In its turn: for what no index answers. Raises ValidationFailed."""
        async with self._turn, self.list() as connection:
            yield connection

    @asynccontextmanager
    async def list(self) -> AsyncIterator[Connection]:
        """Raises ValidationFailed."""
        async with self._database.transaction() as connection:
            limit = f"SET LOCAL statement_timeout = {self._milliseconds_max}"
            await connection.execute(limit.encode())
            try:
                yield connection
            except QueryCanceled:  # in here: outside it would look like an outage
                raise ValidationFailed(
                    "this would look through more than can be done in time: name a shorter period"
                    " (since, until), or filter by agent, session, user, model or tool as well"
                ) from None
