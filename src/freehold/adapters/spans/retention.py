"""What is too old goes: whole days of spans, logs and points at once, sums by the row."""

from datetime import date, timedelta

import msgspec

from freehold.adapters.spans.days import DAY_NS, Days
from freehold.adapters.spans.resources import Resources
from freehold.kernel import clock
from freehold.ports.database import Database

_AT_ONCE = 5_000
_EPOCH = date(1970, 1, 1)
# Later spans of a trace may be in a day that is kept; a week's grace, as an end may be absurd.
_TRACE_ENDED = f"""started_ns < %(before)s
    AND least(ended_ns, started_ns + {7 * DAY_NS}) < %(before)s"""


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """Days that each is kept after its own. Series outlive what they were made of: those of
    hours and days are small, and name no session and no person."""

    spans_days: int = 30
    logs_days: int = 30
    points_days: int = 30
    minutes_days: int = 8
    hours_days: int = 400


class SpanRetention:
    def __init__(self, database: Database, keep: Retention) -> None:
        self._database = database
        self._keep = keep
        self._days = (
            (Days(database, "spans"), keep.spans_days),
            (Days(database, "otlp_logs"), keep.logs_days),
            (Days(database, "otlp_points"), keep.points_days),
        )
        self._resources = Resources(database)

    async def sweep(self) -> None:
        """Everything that is due, and tomorrow's partitions. Never holds up a writer for long: old
        days are detached beside them, old sums go in small batches. Call it at least once a day;
        any number of processes may."""
        today = clock.now().date()
        for days, kept in self._days:
            await days.ahead()
            await days.drop(before=today - timedelta(days=kept))
        keep = self._keep
        traces_ns = _day(today, keep.spans_days) * DAY_NS
        for table in ("traces", "trace_parts"):
            await self._delete(table, _TRACE_ENDED, traces_ns)
        await self._delete(
            "span_minutes", "at < %(before)s", _day(today, keep.minutes_days) * 86_400
        )
        for table in ("span_hours", "span_days"):
            await self._delete(table, "at < %(before)s", _day(today, keep.hours_days) * 86_400)
        longest = max(keep.spans_days, keep.logs_days, keep.points_days)
        # Two days more: what came a day ahead of its time was seen a day before it.
        await self._resources.drop(before=today - timedelta(days=longest + 2))
        await self._forget_metrics(_day(today, keep.points_days) * DAY_NS)

    async def _delete(self, table: str, due: str, before: int) -> None:
        """In batches that skip what a writer holds: that is not old, or goes the next time."""
        statement = f"""
            DELETE FROM {table} WHERE ctid = ANY(ARRAY(
                SELECT ctid FROM {table} WHERE {due} LIMIT %(most)s FOR UPDATE SKIP LOCKED))
        """  # noqa: S608 - names of this module
        while True:
            async with self._database.connection() as connection:
                gone = await connection.execute(
                    statement.encode(), {"before": before, "most": _AT_ONCE}
                )
            if gone.rowcount < _AT_ONCE:
                return

    async def _forget_metrics(self, before_ns: int) -> None:
        async with self._database.connection() as connection:
            await connection.execute("DELETE FROM otlp_metrics WHERE last_ns < %s", (before_ns,))


def _day(today: date, days: int) -> int:
    """Days since 1970."""
    return (today - _EPOCH).days - days
