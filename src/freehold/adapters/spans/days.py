"""A partition a UTC day: made before anything of that day comes or on demand, dropped when old."""

import logging
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final

import psycopg
from psycopg import sql

from freehold.kernel import clock
from freehold.ports.database import Connection, Database

log = logging.getLogger("freehold.spans")

DAY_NS = 86_400 * 10**9
# Before and after stand the two partitions that the migration made.
_FIRST: Final = date(2000, 1, 1).toordinal()
_END: Final = date(2100, 1, 1).toordinal()
_EPOCH: Final = date(1970, 1, 1).toordinal()
_LOCK = 0x46524544415953  # "FREDAYS": a number of our own, the table's is added

# Also what a process left detached that ended before it could drop it: null.
_PARTITIONS = """
SELECT c.relname, i.inhdetachpending
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relkind = 'r' AND c.relname ~ ('^' || %(table)s || '_[0-9]{8}$')
    AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = %(table)s::regclass)
ORDER BY c.relname
"""
_IS_THERE = """
SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
FROM pg_class c WHERE c.oid = to_regclass(%s)
"""


class Days:
    """The partitions of one table. Any number of processes may do the same at the same time."""

    def __init__(self, database: Database, table: str) -> None:
        self._database = database
        self._table = table
        self._known: set[int] = set()

    async def ensure(self, moments_ns: Iterable[int]) -> None:
        """Those of these moments. Costs nothing for days that were seen before."""
        for number in sorted({moment // DAY_NS + _EPOCH for moment in moments_ns} - self._known):
            if _FIRST <= number < _END:
                await self._make(number)
            self._known.add(number)

    def forget(self) -> None:
        """After another process dropped one."""
        self._known.clear()

    async def ahead(self) -> None:
        today = clock.now()
        self.forget()
        await self.ensure(int((today + timedelta(days=n)).timestamp()) * 10**9 for n in range(2))

    async def drop(self, *, before: date) -> int:
        """How many whole days went. Writers and readers of other days go on meanwhile."""
        self.forget()
        dropped = 0
        async with self._database.connection() as connection:
            rows = await connection.execute(_PARTITIONS, {"table": self._table})
            for name, pending in await rows.fetchall():
                day = _day_of(self._table, name)
                if day is None or day >= before:
                    continue
                dropped += await self._drop(connection, name, pending)
        return dropped

    async def _make(self, number: int) -> None:
        name = f"{self._table}_{date.fromordinal(number):%Y%m%d}"
        start = (number - _EPOCH) * DAY_NS
        async with self._database.transaction() as connection:
            await connection.execute(
                "SELECT pg_advisory_xact_lock(%s + %s::regclass::oid::bigint)", (_LOCK, self._table)
            )
            found = await connection.execute(_IS_THERE, (name,))
            row = await found.fetchone()
            if row is not None and row[0]:
                return
            if row is not None:
                await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
            # Made apart and attached: PARTITION OF would lock out the table's readers.
            await connection.execute(
                sql.SQL(
                    "CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING STORAGE"
                    " INCLUDING COMPRESSION)"
                ).format(sql.Identifier(name), sql.Identifier(self._table))
            )
            await connection.execute(
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                    sql.Identifier(self._table), sql.Identifier(name), start, start + DAY_NS
                )
            )

    async def _drop(self, connection: Connection, name: str, pending: bool | None) -> bool:
        parts = {"table": sql.Identifier(self._table), "day": sql.Identifier(name)}
        how = sql.SQL("FINALIZE" if pending else "CONCURRENTLY")
        try:
            if pending is not None:
                await connection.execute(
                    sql.SQL("ALTER TABLE {table} DETACH PARTITION {day} {how}").format(
                        how=how, **parts
                    )
                )
            await connection.execute(sql.SQL("DROP TABLE {day}").format(**parts))
        except (
            psycopg.errors.UndefinedTable,
            psycopg.errors.ObjectNotInPrerequisiteState,
        ) as error:
            # Another process is at it, or was first.
            log.info("%s is not dropped here: %s", name, error.diag.message_primary)
            return False
        return True


def _day_of(table: str, partition: str) -> date | None:
    try:
        return (
            datetime.strptime(partition.removeprefix(f"{table}_"), "%Y%m%d")
            .replace(tzinfo=UTC)
            .date()
        )
    except ValueError:
        return None
