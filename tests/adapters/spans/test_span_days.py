"""Days of spans as partitions: made by whoever comes first, dropped when they are old."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.spans.days import Days
from freehold.adapters.spans.logs import PostgresLogs
from freehold.adapters.spans.metrics import PostgresMetrics
from freehold.adapters.spans.postgres import PostgresSpans
from freehold.adapters.spans.retention import Retention, SpanRetention
from freehold.kernel import clock
from freehold.ports.spans import SeriesWanted, SpanRecord, Wanted
from freehold.ports.telemetry import LogRecord, LogsWanted, MetricPoint

MakeDsn = Callable[[], Awaitable[str]]
TENANT = "123456789012"
DAY_NS = 86_400 * 10**9
KEEP = Retention(spans_days=5, logs_days=2, points_days=1, minutes_days=3, hours_days=8)


@pytest.fixture(scope="module")
async def of_these_tests(fresh_dsn: MakeDsn) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(await fresh_dsn(), pool_size_max=8, application_name="days")
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def own(of_these_tests: PostgresDatabase) -> PostgresDatabase:
    """Without any day, as no other test has it."""
    for table in ("spans", "otlp_logs", "otlp_points"):
        await Days(of_these_tests, table).drop(before=date.max)
    async with of_these_tests.connection() as connection:
        await connection.execute(
            "TRUNCATE spans, otlp_logs, otlp_points, traces, trace_parts, span_resources,"
            " span_minutes, span_hours, span_days, otlp_metrics"
        )
    return of_these_tests


def _noon_ns(days_ago: int) -> int:
    noon = clock.now().replace(hour=12, minute=0, second=0, microsecond=0)
    return int((noon - timedelta(days=days_ago)).timestamp()) * 10**9


def _span(days_ago: int, number: int = 0, **values: Any) -> SpanRecord:
    at_ns = _noon_ns(days_ago) + number
    return SpanRecord(
        **{
            "tenant": TENANT, "trace_id": f"{days_ago + 100:016x}{number + 1:016x}",
            "span_id": f"{number + 1:016x}", "name": f"{days_ago} days ago", "started_ns": at_ns,
            "ended_ns": at_ns + 10**6, "origin": "agent", "agent_id": "a", "session_id": "s",
            "resource": {"process.pid": days_ago}, **values,
        }
    )  # fmt: skip


async def _days(database: PostgresDatabase, table: str) -> list[int]:
    """Of the table's partitions: how many days ago each is."""
    async with database.connection() as connection:
        rows = await connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass",
            (table,),
        )
        names = [name.removeprefix(f"{table}_") for (name,) in await rows.fetchall()]
    today = clock.now().date()
    days = [datetime.strptime(n, "%Y%m%d").replace(tzinfo=UTC) for n in names if n.isdecimal()]
    return sorted((today - day.date()).days for day in days)


async def _count(database: PostgresDatabase, table: str) -> int:
    async with database.connection() as connection:
        row = await (await connection.execute(f"SELECT count(*) FROM {table}")).fetchone()
    assert row is not None
    return int(row[0])


async def _names(store: PostgresSpans) -> list[str]:
    wanted = Wanted(since_ns=0, until_ns=_noon_ns(-9))
    return [trace.name for trace in (await store.traces(TENANT, wanted, limit=99)).items]


async def test_what_is_too_old_goes_by_the_day_and_sums_go_later(own: PostgresDatabase) -> None:
    store = PostgresSpans(own)
    await store.write([_span(n) for n in range(12)])
    await PostgresLogs(own).write(
        [LogRecord(tenant=TENANT, at_ns=_noon_ns(n), origin="agent", body=n) for n in range(5)]
    )
    await PostgresMetrics(own).write(
        [
            MetricPoint(
                tenant=TENANT, at_ns=_noon_ns(n), started_ns=0, origin="agent", name=f"m{n}",
                kind="gauge", value=n,
            )
            for n in range(5)
        ]
    )  # fmt: skip
    await SpanRetention(own, KEEP).sweep()

    assert await _days(own, "spans") == [-1, 0, 1, 2, 3, 4, 5]
    assert await _days(own, "otlp_logs") == [-1, 0, 1, 2]
    assert await _days(own, "otlp_points") == [-1, 0, 1]
    assert await _names(store) == [f"{n} days ago" for n in range(6)]
    assert await _count(own, "trace_parts") == 6
    tables = ("span_minutes", "span_hours", "span_days")
    assert [await _count(own, table) for table in tables] == [4, 9, 9]
    assert (await store.trace(TENANT, _span(5).trace_id))[0].resource == {"process.pid": 5}
    assert await store.trace(TENANT, _span(6).trace_id) == []
    logs = await PostgresLogs(own).logs(
        TENANT, LogsWanted(since_ns=0, until_ns=_noon_ns(-1)), limit=9
    )
    assert [record.body for record in logs.items] == [0, 1, 2]
    assert await PostgresMetrics(own).names(TENANT, since_ns=0) == ["m0", "m1"]
    hourly = SeriesWanted(since_ns=0, until_ns=_noon_ns(-1), step_seconds=86_400)
    assert sum(point.count for point in await store.series(TENANT, hourly)) == 9


async def test_old_sums_go_however_many_they_are(own: PostgresDatabase) -> None:
    store = PostgresSpans(own)
    await store.write([_span(9, n) for n in range(5_200)])
    await store.write([_span(0)])
    await SpanRetention(own, KEEP).sweep()
    assert (await _count(own, "traces"), await _count(own, "trace_parts")) == (1, 1)


async def test_resources_that_nobody_sends_any_more_go(own: PostgresDatabase) -> None:
    store = PostgresSpans(own)
    await store.write([_span(0), _span(1)])
    async with own.connection() as connection:
        await connection.execute(
            "UPDATE span_resources SET seen_on = seen_on - 8 WHERE attributes LIKE '%1%'"
        )
    await SpanRetention(own, KEEP).sweep()
    assert await _count(own, "span_resources") == 1


async def test_a_trace_stays_as_long_as_its_last_span(own: PostgresDatabase) -> None:
    store = PostgresSpans(own)
    root = _span(7, ended_ns=_noon_ns(4))
    late = _span(4, trace_id=root.trace_id, span_id="00000000000000ff", parent_id=root.span_id)
    await store.write([root, late])
    await SpanRetention(own, KEEP).sweep()
    assert await store.trace(TENANT, root.trace_id) == [late]


async def test_what_is_older_than_what_is_kept_is_not_stored(own: PostgresDatabase) -> None:
    """Else a client could have a partition made for each day since 2000."""
    store = PostgresSpans(own, days_kept=5)
    await store.write([_span(n) for n in (0, 5, 6, 400)])
    await store.write([_span(700)])
    logs = PostgresLogs(own, days_kept=5)
    await logs.write([LogRecord(tenant=TENANT, at_ns=_noon_ns(9), origin="agent")])
    assert await _days(own, "spans") == [0, 5]
    assert await _names(store) == ["0 days ago", "5 days ago"]
    assert await _days(own, "otlp_logs") == []


async def test_a_forgotten_session_leaves_no_log_record_and_no_point(
    own: PostgresDatabase,
) -> None:
    store, logs = PostgresSpans(own), PostgresLogs(own)
    gone, other = _span(0), _span(0, 1, session_id="other")
    await store.write([gone, other])
    said: dict[str, Any] = {"tenant": TENANT, "at_ns": _noon_ns(0), "origin": "agent"}
    await logs.write(
        [
            LogRecord(**said, body="in the session", session_id="s"),
            LogRecord(**said, body="in its trace", trace_id=gone.trace_id),
            LogRecord(**said, body="in the other's trace", trace_id=other.trace_id),
        ]
    )
    point = {**said, "started_ns": 0, "name": "m", "kind": "gauge", "value": 1.0}
    metrics = PostgresMetrics(own)
    await metrics.write([MetricPoint(**point, session_id=each) for each in ("s", "other", "")])

    assert await store.erase_session(TENANT, "s") == 1
    left = await logs.logs(TENANT, LogsWanted(since_ns=0, until_ns=_noon_ns(-1)), limit=9)
    assert [record.body for record in left.items] == ["in the other's trace"]
    points = await metrics.points(TENANT, "m", since_ns=0, until_ns=_noon_ns(-1), limit=9)
    assert {each.session_id for each in points} == {"other", ""}


async def test_writers_make_the_same_new_day_at_once(own: PostgresDatabase) -> None:
    stores = [PostgresSpans(own) for _ in range(6)]
    async with asyncio.timeout(60):
        await asyncio.gather(
            *(store.write([_span(3, n), _span(2, n)]) for n, store in enumerate(stores))
        )
    assert await _days(own, "spans") == [2, 3]
    assert await _count(own, "spans") == 12


async def test_processes_sweep_at_once(own: PostgresDatabase) -> None:
    await PostgresSpans(own).write([_span(n) for n in range(12)])
    async with asyncio.timeout(60):
        await asyncio.gather(*(SpanRetention(own, KEEP).sweep() for _ in range(4)))
    # Who met another at the same day let it be; nothing is left to do for the next.
    await SpanRetention(own, KEEP).sweep()
    assert await _days(own, "spans") == [-1, 0, 1, 2, 3, 4, 5]


async def test_a_day_that_another_process_dropped_is_made_again(own: PostgresDatabase) -> None:
    store = PostgresSpans(own)
    await store.write([_span(9), _span(0)])
    logs = PostgresLogs(own)
    record = LogRecord(tenant=TENANT, at_ns=_noon_ns(9), origin="agent")
    await logs.write([record])
    await SpanRetention(own, KEEP).sweep()
    await store.write([_span(9, 1), _span(0, 1)])
    await logs.write([record])
    assert await _days(own, "spans") == [-1, 0, 9]
    assert await _count(own, "spans") == 3


async def test_a_day_left_half_dropped_is_done_with_the_next_time(own: PostgresDatabase) -> None:
    """The process ended between the two steps."""
    store = PostgresSpans(own)
    await store.write([_span(9), _span(8), _span(0)])
    day = f"spans_{clock.now() - timedelta(days=9):%Y%m%d}"
    async with own.connection() as connection:
        await connection.execute(f"ALTER TABLE spans DETACH PARTITION {day} CONCURRENTLY".encode())
    await SpanRetention(own, KEEP).sweep()
    async with own.connection() as connection:
        row = await (await connection.execute("SELECT to_regclass(%s)", (day,))).fetchone()
    assert row == (None,)
    assert await _days(own, "spans") == [-1, 0]

    await store.write([_span(8, 1)])
    day = f"spans_{clock.now() - timedelta(days=8):%Y%m%d}"
    async with own.connection() as connection:
        await connection.execute(f"ALTER TABLE spans DETACH PARTITION {day} CONCURRENTLY".encode())
    await PostgresSpans(own).write([_span(8, 2)])
    assert await _count(own, "spans") == 2


async def test_a_sweep_goes_on_beside_writers_and_readers(own: PostgresDatabase) -> None:
    """A transaction that has read the table is open all the while that an old day goes: writers
    wait for neither."""
    store = PostgresSpans(own)
    await store.write([_span(9), _span(0)])
    async with own.transaction() as reader:
        await reader.execute("SELECT count(*) FROM spans")
        sweep = asyncio.create_task(Days(own, "spans").drop(before=clock.now().date()))
        try:
            await _until_waiting(own)
            async with asyncio.timeout(60):
                for n in range(1, 5):
                    await store.write([_span(0, n)])
            assert not sweep.done()
        except BaseException:
            sweep.cancel()
            raise
    async with asyncio.timeout(60):
        assert await sweep == 1
    assert await _count(own, "spans") == 5


async def _until_waiting(database: PostgresDatabase) -> None:
    """Until the sweep waits for the reader's transaction."""
    async with asyncio.timeout(60), database.connection() as connection:
        while True:
            rows = await connection.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
                " AND query LIKE '%DETACH PARTITION%' AND wait_event_type = 'Lock'"
                " AND pid <> pg_backend_pid()"
            )
            if await rows.fetchone() is not None:
                return
            await asyncio.sleep(0.01)
