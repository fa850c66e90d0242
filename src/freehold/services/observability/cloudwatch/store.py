"""Answers of queries, until their clients fetched them: whichever worker is asked has them."""

import zlib
from typing import Any

import msgspec

from freehold.kernel.errors import PlatformFailed
from freehold.ports.database import Database
from freehold.services.observability.cloudwatch.query import Line

_KEPT_HOURS = 24
_KEPT_OF_TENANT = 200

_INSERT = """
INSERT INTO log_queries (tenant, id, created_at, statistics, answer)
VALUES (%s, %s, now(), %s, %s)
"""
_FORGET = """
DELETE FROM log_queries WHERE tenant = %s AND (
    created_at < now() - make_interval(hours => %s)
    OR id IN (SELECT id FROM log_queries WHERE tenant = %s ORDER BY created_at DESC OFFSET %s))
"""
_READ = "SELECT statistics, answer FROM log_queries WHERE tenant = %s AND id = %s"
_EXPIRE = """
DELETE FROM log_queries WHERE (tenant, id) IN (
    SELECT tenant, id FROM log_queries
    WHERE created_at < now() - make_interval(hours => %s) LIMIT 500)
"""


class Statistics(msgspec.Struct, frozen=True):
    matched: int
    scanned: int
    scanned_bytes: int
    groups: int


class Answers:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, tenant: str, id: str, statistics: Statistics, lines: list[Line]) -> None:
        packed = zlib.compress(msgspec.msgpack.encode(lines), 1)
        counts: Any = list(msgspec.structs.astuple(statistics))
        async with self._database.transaction() as connection:
            await connection.execute(_INSERT, (tenant, id, counts, packed))
            await connection.execute(_FORGET, (tenant, _KEPT_HOURS, tenant, _KEPT_OF_TENANT))

    async def read(self, tenant: str, id: str) -> tuple[Statistics, list[Line]] | None:
        async with self._database.connection() as connection:
            found = await connection.execute(_READ, (tenant, id))
            row = await found.fetchone()
        if row is None:
            return None
        try:
            lines = msgspec.msgpack.decode(zlib.decompress(row[1]), type=list[Line])
        except (zlib.error, msgspec.DecodeError) as error:
            raise PlatformFailed("the answer of this query cannot be read") from error
        return Statistics(*row[0]), lines

    async def expire(self) -> int:
        """A removal for a `Sweep`."""
        async with self._database.connection() as connection:
            return (await connection.execute(_EXPIRE, (_KEPT_HOURS,))).rowcount
