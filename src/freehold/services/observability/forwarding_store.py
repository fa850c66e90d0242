"""The queue of what is to be forwarded, and the row by which one worker has a signal."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from freehold.ports.collector import Signal
from freehold.ports.database import Connection, Database

CHANNEL = "forwarding"

_ADD = "INSERT INTO forwarding_queue (signal, items, batch) VALUES (%s, %s, %s)"
_KNOW = "INSERT INTO forwarding_state (signal) VALUES (%s) ON CONFLICT DO NOTHING"
_HOLD = """
SELECT failures, greatest(0, extract(epoch FROM not_before - clock_timestamp()))::float8
FROM forwarding_state WHERE signal = %s FOR UPDATE SKIP LOCKED
"""
_NEXT = """
SELECT id, items, batch FROM (
    SELECT id, items, batch, sum(items) OVER (ORDER BY id) - items AS before
    FROM (SELECT id, items, batch FROM forwarding_queue WHERE signal = %s ORDER BY id LIMIT 8) q
) p WHERE before < %s ORDER BY id
"""
_DONE = "DELETE FROM forwarding_queue WHERE id = ANY(%s)"
_COUNT = """
UPDATE forwarding_state SET failures = 0, not_before = '-infinity', error = '',
    sent = sent + %s, refused = refused + %s
WHERE signal = %s
"""
_FAILED = """
UPDATE forwarding_state
SET failures = failures + 1, error = %s, not_before = clock_timestamp() + make_interval(secs => %s)
WHERE signal = %s
"""
# Newest first, so that what is within the room stays.
_DROP = """
WITH gone AS (
    DELETE FROM forwarding_queue WHERE id IN (
        SELECT id FROM (
            SELECT id, created_at, sum(octet_length(batch)) OVER (ORDER BY id DESC) AS room
            FROM forwarding_queue WHERE signal = %(signal)s
        ) q WHERE room > %(bytes_max)s OR created_at < now() - make_interval(secs => %(seconds)s))
    RETURNING items
), counted AS (SELECT coalesce(sum(items), 0)::bigint AS items FROM gone)
UPDATE forwarding_state s SET dropped = dropped + counted.items FROM counted
WHERE s.signal = %(signal)s RETURNING counted.items
"""
_STATUS = """
SELECT s.signal, s.sent, s.refused, s.dropped, s.failures, s.error,
    coalesce(q.items, 0)::bigint, coalesce(q.age, 0)::float8
FROM forwarding_state s LEFT JOIN (
    SELECT signal, sum(items) AS items, extract(epoch FROM now() - min(created_at)) AS age
    FROM forwarding_queue GROUP BY signal
) q USING (signal) ORDER BY s.signal
"""


class Held(NamedTuple):
    """`wait_seconds`: so long the collector is left alone still."""

    failures: int
    wait_seconds: float


class Waiting(NamedTuple):
    id: int
    items: int
    batch: bytes


class Status(NamedTuple):
    """Of a signal: items since ever, those that wait, and how old the oldest of them is."""

    signal: str
    sent: int
    refused: int
    dropped: int
    failures: int
    error: str
    waiting: int
    age_seconds: float


class ForwardingQueue:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def know(self, signals: Sequence[Signal]) -> None:
        async with self._database.connection() as connection:
            for signal in signals:
                await connection.execute(_KNOW, (signal,))

    async def add(self, signal: Signal, batches: Sequence[tuple[int, bytes]]) -> None:
        """Durable on return. Raises Unavailable."""
        async with self._database.transaction() as connection:
            for items, batch in batches:
                await connection.execute(_ADD, (signal, items, batch))
            await self._database.notify(connection, CHANNEL, signal)

    @asynccontextmanager
    async def held(self, signal: Signal) -> AsyncIterator[tuple[Connection, Held] | None]:
        """None while another worker has it. What the body does is undone where it breaks off."""
        async with self._database.transaction() as connection:
            row = await (await connection.execute(_HOLD, (signal,))).fetchone()
            yield None if row is None else (connection, Held(*row))

    async def next(
        self, connection: Connection, signal: Signal, *, items_max: int
    ) -> list[Waiting]:
        """One at least, where there is one."""
        found = await connection.execute(_NEXT, (signal, items_max))
        return [Waiting(*row) for row in await found.fetchall()]

    async def done(
        self, connection: Connection, signal: Signal, ids: Sequence[int], *, sent: int, refused: int
    ) -> None:
        await connection.execute(_DONE, (list(ids),))
        await connection.execute(_COUNT, (sent, refused, signal))

    async def failed(
        self, connection: Connection, signal: Signal, why: str, *, wait_seconds: float
    ) -> None:
        await connection.execute(_FAILED, (why, wait_seconds, signal))

    async def drop(
        self, connection: Connection, signal: Signal, *, seconds_max: float, bytes_max: int
    ) -> int:
        """What waited too long, or is more than there is room for; how many items that were."""
        bounds = {"signal": signal, "seconds": seconds_max, "bytes_max": bytes_max}
        row = await (await connection.execute(_DROP, bounds)).fetchone()
        return 0 if row is None else int(row[0])

    async def status(self) -> list[Status]:
        async with self._database.connection() as connection:
            found = await connection.execute(_STATUS)
            return [Status(*row) for row in await found.fetchall()]
