"""Spans go on to the operator's collector: at least once, whatever it does in between."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from collector_double import CollectorDouble, collecting, partly

from freehold.adapters.otlp.exporter import OtlpExporter
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.ports.spans import SpanEvent, SpanLink, SpanRecord
from freehold.ports.telemetry import LogRecord, MetricPoint
from freehold.services.observability.forwarding import Bounds, Forwarding
from freehold.services.observability.forwarding_store import ForwardingQueue, Status

NOW = 1_790_000_000_000_000_000
TENANT = "111122223333"
KEY = "secret-of-the-collector"


def a_span(**more: Any) -> SpanRecord:
    given: dict[str, Any] = {
        "tenant": TENANT, "trace_id": secrets.token_hex(16), "span_id": secrets.token_hex(8),
        "name": "chat", "started_ns": NOW, "ended_ns": NOW + 5, "origin": "agent",
    }  # fmt: skip
    return SpanRecord(**{**given, **more})


def some(count: int, **more: Any) -> list[SpanRecord]:
    return [a_span(**more) for _ in range(count)]


@pytest.fixture(scope="module")
async def module_database(
    fresh_dsn: Callable[[], Awaitable[str]],
) -> AsyncIterator[PostgresDatabase]:
    """The queue is the whole platform's: no other test may read of it."""
    database = PostgresDatabase(await fresh_dsn(), pool_size_max=6)
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def own_database(module_database: PostgresDatabase) -> PostgresDatabase:
    async with module_database.connection() as connection:
        await connection.execute("TRUNCATE forwarding_queue, forwarding_state")
    return module_database


@pytest.fixture
async def collector() -> AsyncIterator[CollectorDouble]:
    async with collecting() as double:
        yield double


@asynccontextmanager
async def forwarding(
    database: PostgresDatabase, endpoint: str, *, seconds_max: float = 10, **options: Any
) -> AsyncIterator[Forwarding]:
    exporter = OtlpExporter(
        endpoint, headers={"Authorization": f"Bearer {KEY}"}, seconds_max=seconds_max
    )
    service = Forwarding(
        database, exporter,
        **{"signals": ("traces",), "backoff_seconds": 0.02, "take_over_seconds": 0.05, **options},
    )  # fmt: skip
    await service.start()
    try:
        yield service
    finally:
        await service.close()
        await exporter.close()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.01)


async def state(database: PostgresDatabase) -> Status:
    return next(s for s in await ForwardingQueue(database).status() if s.signal == "traces")


async def settled(database: PostgresDatabase) -> Status:
    async def empty() -> bool:
        return (await state(database)).waiting == 0

    await until(empty)
    return await state(database)


async def test_all_of_a_span_arrives_as_it_came(
    own_database: PostgresDatabase, collector: CollectorDouble
) -> None:
    span = a_span(
        parent_id=secrets.token_hex(8), kind=3, status=2, message="too long", scope="my.tracer",
        scope_version="2.1", resource={"service.name": "helper", "host.cpus": 4},
        attributes={
            "text": "grüße", "flag": True, "count": -7, "share": 0.25, "huge": 2**64 - 1,
            "many": ["a", 1, None], "inner": {"a": {"b": []}},
        },
        events=[SpanEvent("gen_ai.choice", NOW + 1, {"message": "four"})],
        links=[SpanLink(secrets.token_hex(16), secrets.token_hex(8), {"why": "a2a"})],
    )  # fmt: skip
    async with forwarding(own_database, collector.endpoint) as service:
        await service.take_spans([span])
        await collector.has(1)

    [request] = collector.requests
    [of_resource] = request.resource_spans
    [of_scope] = of_resource.scope_spans
    [got] = of_scope.spans
    assert plain(of_resource.resource.attributes) == span.resource
    assert (of_scope.scope.name, of_scope.scope.version) == ("my.tracer", "2.1")
    assert plain(got.attributes) == {**span.attributes, "huge": str(2**64 - 1)}
    assert (got.trace_id.hex(), got.span_id.hex()) == (span.trace_id, span.span_id)
    assert got.parent_span_id.hex() == span.parent_id
    assert (got.name, got.kind, got.status.code, got.status.message) == ("chat", 3, 2, "too long")
    assert (got.start_time_unix_nano, got.end_time_unix_nano) == (NOW, NOW + 5)
    assert [(e.name, e.time_unix_nano, plain(e.attributes)) for e in got.events] == [
        ("gen_ai.choice", NOW + 1, {"message": "four"})
    ]
    assert [(k.trace_id.hex(), plain(k.attributes)) for k in got.links] == [
        (span.links[0].trace_id, {"why": "a2a"})
    ]
    assert collector.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_spans_of_one_resource_travel_under_it(
    own_database: PostgresDatabase, collector: CollectorDouble
) -> None:
    here, there = {"service.name": "here"}, {"service.name": "there"}
    async with forwarding(own_database, collector.endpoint) as service:
        await service.take_spans([
            *some(2, resource=here, scope="a"), *some(1, resource=there), *some(1, resource=here),
        ])  # fmt: skip
        await collector.has(4)

    groups = [
        (plain(r.resource.attributes)["service.name"], [len(s.spans) for s in r.scope_spans])
        for r in collector.requests[0].resource_spans
    ]
    assert groups == [("here", [2, 1]), ("there", [1])]


async def test_logs_and_points_go_where_they_are_asked_for(
    own_database: PostgresDatabase, collector: CollectorDouble
) -> None:
    record = LogRecord(
        tenant=TENANT, at_ns=NOW, origin="agent", body={"said": "hello"}, severity=9,
        event="my.event", attributes={"a": 1}, scope="my.logger",
    )  # fmt: skip
    common: dict[str, Any] = {
        "tenant": TENANT, "at_ns": NOW, "started_ns": NOW - 9, "origin": "agent",
    }  # fmt: skip
    points = [
        MetricPoint(name="tokens", kind="sum", monotonic=True, delta=True, value=3.0, **common),
        MetricPoint(name="load", kind="gauge", value=0.5, **common),
        MetricPoint(
            name="took", kind="histogram", count=3, sum=4.5, bounds=[1, 2], buckets=[1, 1, 1],
            unit="s", **common,
        ),
    ]  # fmt: skip
    async with forwarding(own_database, collector.endpoint, signals=("logs", "metrics")) as service:
        await service.take_spans(some(1))
        await service.take_logs([record])
        await service.take_points(points)

        async def both() -> bool:
            return len(collector.requests) == 2

        await until(both)

    assert collector.span_ids == []
    logs = next(r for r in collector.requests if hasattr(r, "resource_logs"))
    metrics = next(r for r in collector.requests if hasattr(r, "resource_metrics"))
    [got] = logs.resource_logs[0].scope_logs[0].log_records
    assert plain(got.body.kvlist_value.values) == {"said": "hello"}
    assert (got.event_name, got.severity_number, got.time_unix_nano) == ("my.event", 9, NOW)
    tokens, load, took = metrics.resource_metrics[0].scope_metrics[0].metrics
    assert tokens.sum.is_monotonic
    assert tokens.sum.aggregation_temporality == 1
    assert tokens.sum.data_points[0].as_double == 3.0
    assert load.gauge.data_points[0].as_double == 0.5
    [point] = took.histogram.data_points
    assert (list(point.explicit_bounds), list(point.bucket_counts)) == ([1, 2], [1, 1, 1])
    assert (point.count, point.sum, took.unit) == (3, 4.5, "s")


async def test_a_collector_that_is_away_costs_whoever_brings_spans_nothing_and_gets_them_later(
    own_database: PostgresDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    async with collecting() as away:
        port = int(away.endpoint.rpartition(":")[2])
    spans = some(5)
    async with forwarding(own_database, f"http://127.0.0.1:{port}") as service:
        await service.take_spans(spans)

        async def failed_twice() -> bool:
            return (await state(own_database)).failures >= 2

        await until(failed_twice)
        async with collecting(port) as back:
            await back.has(5)
            after = await settled(own_database)

    assert sorted(back.span_ids) == sorted(s.span_id for s in spans)
    assert (after.sent, after.failures, after.error) == (5, 0, "")
    told = [r.getMessage() for r in caplog.records if r.name == "freehold.forwarding"]
    assert len([t for t in told if "wait for the collector" in t]) == 1
    assert KEY not in caplog.text


@pytest.mark.parametrize("status", [401, 404, 429, 500, 502, 503, 504])
async def test_what_may_pass_later_is_sent_again(
    own_database: PostgresDatabase, collector: CollectorDouble, status: int
) -> None:
    collector.answers = [web.Response(status=status)]
    async with forwarding(own_database, collector.endpoint) as service:
        await service.take_spans(some(2))
        await collector.has(2)

    assert len(collector.headers) == 2


async def test_a_collector_that_asks_for_time_gets_it(
    own_database: PostgresDatabase, collector: CollectorDouble
) -> None:
    collector.answers = [web.Response(status=429, headers={"Retry-After": "300"})]
    async with forwarding(own_database, collector.endpoint) as service:
        await service.take_spans(some(1))

        async def put_off() -> bool:
            return (await state(own_database)).failures == 1

        await until(put_off)
        wait = await waiting_seconds(own_database)

    assert 200 < wait <= 300
    # Another worker, or the next start, leaves it alone as well.
    async with forwarding(own_database, collector.endpoint) as second:
        await second.take_spans(some(1))
        await asyncio.sleep(0.2)
    assert len(collector.headers) == 1


async def test_what_is_refused_for_good_does_not_stand_in_the_way(
    own_database: PostgresDatabase, collector: CollectorDouble, caplog: pytest.LogCaptureFixture
) -> None:
    collector.answers = [web.Response(status=400)]
    async with forwarding(own_database, collector.endpoint) as service:
        await service.take_spans(some(2))
        await settled(own_database)
        await service.take_spans(some(3))
        await collector.has(3)
        after = await settled(own_database)

    assert (after.sent, after.refused) == (3, 2)
    assert "the collector refused 2 of 2 spans: HTTP 400" in caplog.text


async def test_a_partial_success_is_told_to_the_log(
    own_database: PostgresDatabase, collector: CollectorDouble, caplog: pytest.LogCaptureFixture
) -> None:
    collector.answers = [partly(1, "name too\nlong")]
    async with forwarding(own_database, collector.endpoint) as service:
        await service.take_spans(some(3))
        after = await settled(own_database)

    assert (after.sent, after.refused) == (2, 1)
    assert "the collector refused 1 of 3 spans: name too long" in caplog.text


async def test_what_is_too_large_together_is_sent_in_parts(
    own_database: PostgresDatabase, collector: CollectorDouble
) -> None:
    collector.spans_max = 3
    spans = some(10)
    async with forwarding(own_database, collector.endpoint) as service:
        await service.take_spans(spans)
        after = await settled(own_database)

    assert sorted(collector.span_ids) == sorted(s.span_id for s in spans)
    assert after.refused == 0


async def test_a_worker_that_ends_in_the_middle_loses_nothing(
    own_database: PostgresDatabase, collector: CollectorDouble
) -> None:
    collector.silent = asyncio.Event()
    spans = some(4)
    async with forwarding(own_database, collector.endpoint) as service:
        await service.take_spans(spans)
        async with asyncio.timeout(60):
            await collector.asked.wait()
    collector.silent = None

    async with forwarding(own_database, collector.endpoint):
        await collector.has(4)
        after = await settled(own_database)

    assert after.sent == 4


async def test_two_workers_send_each_span_once(
    own_database: PostgresDatabase, collector: CollectorDouble
) -> None:
    spans = some(2000)
    async with (
        forwarding(own_database, collector.endpoint) as one,
        forwarding(own_database, collector.endpoint) as other,
    ):
        await asyncio.gather(
            *(
                worker.take_spans(spans[at : at + 100])
                for at, worker in zip(range(0, 2000, 100), [one, other] * 10, strict=True)
            )
        )
        await settled(own_database)

    assert sorted(collector.span_ids) == sorted(s.span_id for s in spans)


async def test_another_worker_goes_on_where_one_died(
    own_database: PostgresDatabase, collector: CollectorDouble
) -> None:
    collector.silent = asyncio.Event()
    async with forwarding(own_database, collector.endpoint) as survivor:
        async with forwarding(own_database, collector.endpoint):
            await survivor.take_spans(some(3))
            async with asyncio.timeout(60):
                await collector.asked.wait()
        collector.silent.set()
        await collector.has(3)


async def test_what_waits_too_long_goes_and_is_counted(
    own_database: PostgresDatabase, collector: CollectorDouble, caplog: pytest.LogCaptureFixture
) -> None:
    queue = ForwardingQueue(own_database)
    async with forwarding(own_database, "http://127.0.0.1:9", signals=()) as nobody:
        assert nobody
    await queue.know(["traces"])
    await queue.add("traces", [(7, b"old")])
    async with own_database.connection() as connection:
        await connection.execute("UPDATE forwarding_queue SET created_at = now() - interval '2h'")
    async with forwarding(own_database, collector.endpoint, bounds=Bounds(hours=1)) as service:
        await service.take_spans(some(2))
        await collector.has(2)
        after = await settled(own_database)

    assert (after.sent, after.dropped) == (2, 7)
    assert "7 spans went unsent" in caplog.text


async def test_what_there_is_no_room_for_goes_the_oldest_first(
    own_database: PostgresDatabase,
) -> None:
    queue = ForwardingQueue(own_database)
    await queue.know(["traces"])
    await queue.add("traces", [(1, b"x" * 1000), (2, b"x" * 1000), (3, b"x" * 1000)])
    async with queue.held("traces") as found:
        assert found is not None
        gone = await queue.drop(found[0], "traces", seconds_max=3600, bytes_max=2100)

    assert gone == 1
    assert (await state(own_database)).waiting == 5


async def test_only_the_accounts_that_are_named_are_sent_on(
    own_database: PostgresDatabase, collector: CollectorDouble
) -> None:
    async with forwarding(
        own_database, collector.endpoint, accounts=frozenset({TENANT})
    ) as service:
        mine = a_span()
        await service.take_spans([a_span(tenant="999900009999"), mine])
        await collector.has(1)
        await settled(own_database)

    assert collector.span_ids == [mine.span_id]


async def test_a_collector_that_never_answers_is_given_up_in_time(
    own_database: PostgresDatabase, collector: CollectorDouble
) -> None:
    collector.silent = asyncio.Event()
    async with forwarding(own_database, collector.endpoint, seconds_max=0.05) as service:
        await service.take_spans(some(1))

        async def given_up() -> bool:
            return "no answer within" in (await state(own_database)).error

        await until(given_up)
        collector.silent.set()
        await collector.has(1)


async def test_no_header_of_the_collector_s_stands_in_a_log_or_an_error(
    own_database: PostgresDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint = f"http://user:{KEY}@127.0.0.1:9"
    async with forwarding(own_database, endpoint) as service:
        await service.take_spans(some(1))

        async def failed() -> bool:
            return (await state(own_database)).failures > 0

        await until(failed)
        assert KEY not in repr(service)

    assert KEY not in (await state(own_database)).error
    assert KEY not in caplog.text


async def waiting_seconds(database: PostgresDatabase) -> float:
    async with database.connection() as connection:
        found = await connection.execute(
            "SELECT extract(epoch FROM not_before - clock_timestamp())::float8"
            " FROM forwarding_state WHERE signal = 'traces'"
        )
        row = await found.fetchone()
    assert row is not None
    return float(row[0])


def plain(pairs: Any) -> dict[str, Any]:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return plain(value.kvlist_value.values)
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    return None if kind is None else getattr(value, kind)
