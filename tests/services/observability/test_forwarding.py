"""Spans go on to the operator's collector: whole, where they are asked for, within bounds."""

import logging
import secrets
from typing import Any

import pytest
from collector_double import CollectorDouble
from forwarding_ground import (
    KEY,
    NOW,
    TENANT,
    a_span,
    forwarding,
    plain,
    settled,
    some,
    state,
    until,
)

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.ports.spans import SpanEvent, SpanLink
from freehold.ports.telemetry import LogRecord, MetricPoint
from freehold.services.observability.forwarding import Bounds
from freehold.services.observability.forwarding_store import ForwardingQueue


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
