"""Traces as they come: told by the database, looked up once, nothing of another tenant."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from reading_ground import Reading, reading
from told_spans import Trace

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.observability import queries

WITHIN_SECONDS = 60


@pytest.fixture
def own(database: PostgresDatabase, tenant: str) -> Reading:
    return reading(database, tenant)


@contextlib.asynccontextmanager
async def watching(own: Reading, **given: Any) -> AsyncIterator["asyncio.Queue[dict[str, Any]]"]:
    """What was told, the lines that only say that it goes on left out. It listens by then."""
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def read() -> None:
        async for line in own.lines("WatchTraces", **given):
            if line:
                told.put_nowait(line)

    task = asyncio.create_task(read())
    # The first trace may be written before the watch listens: one is written until it is seen.
    if "traceId" not in given:
        async with asyncio.timeout(WITHIN_SECONDS):
            while told.empty():
                first = Trace(own.tenant)
                first.span("listening?")
                await own.write(first.spans)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        told.put_nowait(await told.get())
        while not told.empty():
            told.get_nowait()
    try:
        yield told
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _told(told: "asyncio.Queue[dict[str, Any]]", trace_id: str) -> dict[str, Any]:
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            line = await told.get()
            if line.get("trace", {}).get("traceId") == trace_id:
                return dict(line["trace"])


async def test_a_trace_is_told_as_it_comes_and_again_as_it_grows(own: Reading) -> None:
    async with watching(own) as told:
        trace = Trace(own.tenant, session_id="s-1")
        child = trace.chat(under="a" * 16)
        await own.write(trace.spans)
        first = await _told(told, trace.id)
        assert (first["spans"], first["complete"]) == (1, False)
        trace.span("InvokeAgentRuntime", span_id="a" * 16, at=-1)
        await own.write(trace.spans[1:])
        second = await _told(told, trace.id)
        assert (second["spans"], second["complete"]) == (2, True)
        assert second["name"] == "InvokeAgentRuntime"
        assert child


async def test_only_what_fits_is_told_and_nothing_of_another_tenant(
    own: Reading, database: PostgresDatabase
) -> None:
    theirs = reading(database, "999999999998")
    async with watching(own) as told:
        foreign = Trace(theirs.tenant)
        foreign.span("root")
        await theirs.write(foreign.spans)
        mine = Trace(own.tenant)
        mine.span("root")
        await own.write(mine.spans)
        async with asyncio.timeout(WITHIN_SECONDS):
            seen = []
            while mine.id not in seen:
                seen.append((await told.get())["trace"]["traceId"])
        assert foreign.id not in seen


async def test_a_filter_is_for_what_is_watched_too(own: Reading) -> None:
    async with watching(own) as told:
        pass  # it works at all, so that silence below means something
    fine, failed = Trace(own.tenant), Trace(own.tenant)
    lines = own.lines("WatchTraces", status="error")
    waiting = asyncio.ensure_future(anext(lines))
    async with asyncio.timeout(WITHIN_SECONDS):
        while not waiting.done():
            fine.span("fine")
            failed.span("failed", status=2)
            await own.write(fine.spans, failed.spans)
            await asyncio.wait((waiting,), timeout=1)
    assert waiting.result()["trace"]["traceId"] == failed.id
    await lines.aclose()
    assert told.empty()


async def test_the_spans_of_one_trace_are_told_once_each(own: Reading) -> None:
    trace = Trace(own.tenant)
    trace.span("first")
    await own.write(trace.spans)
    async with watching(own, traceId=trace.id) as told, asyncio.timeout(WITHIN_SECONDS):
        assert (await told.get())["span"]["name"] == "first"
        trace.span("second", at=10)
        await own.write(trace.spans)
        line = (await told.get())["span"]
        assert line["name"] == "second"
        assert told.empty()


async def test_silence_says_now_and_then_that_it_goes_on(
    own: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "_ALIVE_SECONDS", 0.01)
    async with asyncio.timeout(WITHIN_SECONDS):
        async for line in own.lines("WatchTraces"):
            assert line == {}
            break
