"""Rows without a key, copied into the partitions of their days."""

import logging
from collections.abc import Sequence

import psycopg

from freehold.adapters.spans.copying import copy
from freehold.adapters.spans.days import DAY_NS, Days
from freehold.kernel import clock
from freehold.kernel.errors import Unavailable
from freehold.ports.database import Database

log = logging.getLogger("freehold.spans")

_TRIES = 4


def first_kept_ns(days_kept: int | None) -> int:
    """Where what is kept begins; 0: everything is."""
    if days_kept is None:
        return 0
    return (int(clock.now().timestamp()) // 86_400 - days_kept) * DAY_NS


class Arriving:
    """Into one table."""

    def __init__(self, database: Database, table: str, columns: tuple[str, ...]) -> None:
        self._database = database
        self._table = table
        self._columns = columns
        self._days = Days(database, table)

    async def add(self, moments_ns: Sequence[int], rows: Sequence[bytes]) -> None:
        """One transaction. `moments_ns` of the rows, or of some that have the same days."""
        for _ in range(_TRIES):
            await self._days.ensure(moments_ns)
            try:
                async with self._database.transaction() as connection:
                    await copy(connection, self._table, self._columns, rows)
            except psycopg.errors.CheckViolation:  # a day that another process just dropped
                self._days.forget()
            else:
                return
        raise Unavailable("what arrived could not be stored; try again shortly")
