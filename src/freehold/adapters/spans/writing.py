"""Spans into the table, and what they add up to, in one transaction; each span once."""

import logging
from collections.abc import Sequence

import psycopg

from freehold.adapters.spans import copying, sums_sql
from freehold.adapters.spans.arriving import first_kept_ns
from freehold.adapters.spans.days import Days
from freehold.adapters.spans.records import COLUMNS, Key, Rows, hexadecimal, key
from freehold.adapters.spans.resources import Resources
from freehold.adapters.spans.sums import summed
from freehold.kernel.errors import Unavailable
from freehold.ports.database import Connection, Database
from freehold.ports.spans import SpanRecord

log = logging.getLogger("freehold.spans")

# Each time it was another writer who was first, or a day that had just been dropped.
_TRIES = 8

_Batch = dict[Key, tuple[SpanRecord, bytes]]
"""In the order of the keys, with their rows."""

_NAMES = ", ".join(COLUMNS)
# A connection keeps its own, empty between transactions.
_STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS spans_arriving (LIKE spans) ON COMMIT DELETE ROWS
"""
# In the order of the fast way.
_ADD_NEW = f"""
INSERT INTO spans ({_NAMES}) SELECT {_NAMES} FROM spans_arriving
ORDER BY tenant, trace_id, int8send(span_id), started_ns
ON CONFLICT DO NOTHING
RETURNING tenant, encode(uuid_send(trace_id), 'hex'), span_id, started_ns
"""  # noqa: S608 - constants alone


class SpanWriter:
    """`days_kept`: what is older than that is not stored at all; None: everything is."""

    def __init__(self, database: Database, resources: Resources, *, days_kept: int | None) -> None:
        self._database = database
        self._resources = resources
        self._days_kept = days_kept
        self._days = Days(database, "spans")

    async def write(self, spans: Sequence[SpanRecord]) -> None:
        new = _once(self._young(spans))
        if not new:
            return
        rows = Rows(await self._resources.keep(list(new.values())))
        # Sorted as everybody does: two writers do not wait for each other in a circle.
        batch = {each: (new[each], rows.row(new[each])) for each in sorted(new)}
        add = self._add_all
        for _ in range(_TRIES):
            await self._days.ensure(started for *_, started in batch)
            async with self._database.connection() as connection:
                # Caught in here: outside, a deadlock would look like an outage.
                try:
                    async with connection.transaction():
                        await add(connection, batch)
                except psycopg.errors.UniqueViolation:
                    add = self._add_new
                except psycopg.errors.CheckViolation:
                    self._days.forget()
                except psycopg.errors.DeadlockDetected:
                    log.info("a batch of spans met another in a deadlock, and is written again")
                else:
                    return
        raise Unavailable("spans could not be stored beside other writers; try again shortly")

    @staticmethod
    async def _add_all(connection: Connection, batch: _Batch) -> None:
        """The fast way. A span that is there already is an error of the whole batch."""
        await copying.copy(connection, "spans", COLUMNS, [row for _, row in batch.values()])
        await sums_sql.add(connection, summed(span for span, _ in batch.values()))

    @staticmethod
    async def _add_new(connection: Connection, batch: _Batch) -> None:
        """Half as fast, for what a client sends again."""
        await connection.execute(_STAGE)
        rows = [row for _, row in batch.values()]
        await copying.copy(connection, "spans_arriving", COLUMNS, rows)
        added = await connection.execute(_ADD_NEW)
        keys = [
            (tenant, trace_id, hexadecimal(span_id), started)
            for tenant, trace_id, span_id, started in await added.fetchall()
        ]
        if keys:
            await sums_sql.add(connection, summed(batch[each][0] for each in keys))

    def _young(self, spans: Sequence[SpanRecord]) -> Sequence[SpanRecord]:
        first = first_kept_ns(self._days_kept)
        young = [span for span in spans if span.started_ns >= first]
        if len(young) < len(spans):
            log.info("%d spans are older than what is kept", len(spans) - len(young))
        return young


def _once(spans: Sequence[SpanRecord]) -> dict[Key, SpanRecord]:
    once: dict[Key, SpanRecord] = {}
    for span in spans:
        once.setdefault(key(span), span)
    return once
