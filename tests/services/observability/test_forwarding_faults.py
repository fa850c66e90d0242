"""Spans go on to the operator's collector: at least once, whatever it does in between."""

import asyncio

import pytest
from aiohttp import web
from collector_double import CollectorDouble, collecting, partly
from forwarding_ground import (
    KEY,
    forwarding,
    settled,
    some,
    state,
    until,
    waiting_seconds,
)

from freehold.adapters.postgres.pool import PostgresDatabase


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
