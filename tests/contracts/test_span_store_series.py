"""How every adapter of the port of spans draws series, and forgets sessions."""

import math
import random

import pytest
from span_ground import (
    DAY_NS,
    HOUR_NS,
    MINUTE_NS,
    NOW_NS,
    SECOND_NS,
    child,
    model_call,
    series_wanted,
    span,
    tool_call,
    wanted,
)

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.spans.postgres import PostgresSpans
from freehold.ports.spans import SpanRecord, SpanStore


@pytest.fixture(params=["postgres"])
def store(database: PostgresDatabase) -> SpanStore:
    return PostgresSpans(database)


@pytest.mark.parametrize("step", [60, 3600, 86_400])
async def test_percentiles_are_within_a_twentieth_of_the_true_ones(
    store: SpanStore, tenant: str, step: int
) -> None:
    """Written in many batches, from microseconds to minutes."""
    chance = random.Random(step)
    took_ms = [chance.lognormvariate(3, 2.5) for _ in range(2_000)]
    spans = [span(tenant, took_ms=each) for each in took_ms]
    for start in range(0, len(spans), 130):
        await store.write(spans[start : start + 130])

    (point,) = await store.series(tenant, series_wanted(step_seconds=step))
    ordered = sorted(took_ms)
    assert (point.count, point.at_ns) == (2_000, NOW_NS // (step * 10**9) * step * 10**9)
    for part, told in ((0.5, point.p50_ms), (0.95, point.p95_ms), (0.99, point.p99_ms)):
        true = ordered[math.ceil(part * len(ordered)) - 1]
        assert told == pytest.approx(true, rel=0.05)


async def test_steps_hold_what_began_in_them(store: SpanStore, tenant: str) -> None:
    await store.write(
        [
            span(tenant, at_ns=NOW_NS),
            span(tenant, at_ns=NOW_NS + MINUTE_NS - 1),
            span(tenant, at_ns=NOW_NS + MINUTE_NS),
            span(tenant, at_ns=NOW_NS + 10 * MINUTE_NS, status=2),
            span(tenant, at_ns=NOW_NS - 2 * DAY_NS),
        ]
    )

    async def counts(**values: int) -> list[tuple[int, int, int]]:
        found = await store.series(tenant, series_wanted(**values))
        return [((p.at_ns - NOW_NS) // SECOND_NS, p.count, p.errors) for p in found]

    assert await counts(step_seconds=60) == [
        (-2 * 86_400, 1, 0), (0, 2, 0), (60, 1, 0), (600, 1, 1),
    ]  # fmt: skip
    assert await counts(step_seconds=3600) == [(-2 * 86_400, 1, 0), (0, 4, 1)]
    assert await counts(step_seconds=300, since_ns=NOW_NS) == [(0, 3, 0), (600, 1, 1)]
    assert await counts(step_seconds=60, since_ns=NOW_NS, until_ns=NOW_NS + MINUTE_NS) == [
        (0, 2, 0)
    ]
    assert await counts(step_seconds=3600, since_ns=NOW_NS + HOUR_NS) == []
    day = await store.series(tenant, series_wanted(step_seconds=86_400))
    assert [p.at_ns % DAY_NS for p in day] == [0, 0]


@pytest.mark.parametrize("hours", [1, 5, 24, 30, 48, 61, 80])
async def test_one_step_over_many_days_begins_and_ends_with_the_hour(
    store: SpanStore, tenant: str, hours: int
) -> None:
    """What is written in each of a hundred hours, the n-th taking n seconds."""
    await store.write(
        [span(tenant, at_ns=NOW_NS - n * HOUR_NS + 1, took_ms=1_000 * n) for n in range(1, 100)]
    )
    window = {"since_ns": NOW_NS - (hours + 3) * HOUR_NS, "until_ns": NOW_NS - 3 * HOUR_NS}
    ever = 2**31 // 3_600 * 3_600
    (point,) = await store.series(tenant, series_wanted(step_seconds=ever, **window))
    assert point.count == hours
    assert point.p50_ms == pytest.approx((3 + (hours + 1) // 2) * 1_000, rel=0.05)
    by_the_hour = await store.series(tenant, series_wanted(step_seconds=3_600, **window))
    assert [each.count for each in by_the_hour] == [1] * hours


def _traffic(tenant: str) -> list[SpanRecord]:
    found = []
    for n in range(4):
        root = span(tenant, agent_id=f"a{n % 2}", agent_version=str(n), status=2 * (n == 3))
        call = model_call(root, model=f"m{n % 2}", metered=True, tokens=(10, 1), cost=0.25)
        found += [root, call, tool_call(root, f"t{n}"), child(root, facts={"operation": "policy"})]
    return found


@pytest.mark.parametrize(
    ("measured", "by", "counts"),
    [
        ("traces", None, {"": 4}),
        ("traces", "agent", {"a0": 2, "a1": 2}),
        ("traces", "version", {"0": 1, "1": 1, "2": 1, "3": 1}),
        ("traces", "status", {"error": 1, "ok": 3}),
        ("model_calls", "model", {"m0": 2, "m1": 2}),
        ("tool_calls", "tool", {"t0": 1, "t1": 1, "t2": 1, "t3": 1}),
        ("spans", "operation", {"": 4, "chat": 4, "execute_tool": 4, "policy": 4}),
        ("spans", None, {"": 16}),
    ],
)
async def test_what_is_measured_comes_in_groups(
    store: SpanStore, tenant: str, measured: str, by: str | None, counts: dict[str, int]
) -> None:
    await store.write(_traffic(tenant))
    found = await store.series(tenant, series_wanted(measured=measured, by=by))
    assert {point.group: point.count for point in found} == counts
    assert [point.group for point in found] == sorted(counts)


async def test_series_of_one_agent_version_model_or_tool(store: SpanStore, tenant: str) -> None:
    await store.write(_traffic(tenant))

    async def count(**values: str) -> int:
        return sum(p.count for p in await store.series(tenant, series_wanted(**values)))

    assert await count(agent_id="a0") == 2
    assert await count(agent_id="a0", agent_version="2") == 1
    assert await count(measured="model_calls", model="m1") == 2
    assert await count(measured="tool_calls", tool="t2") == 1
    assert await count(agent_id="unknown") == 0


@pytest.mark.parametrize("measured", ["traces", "model_calls", "spans"])
async def test_tokens_and_cost_come_with_every_measure(
    store: SpanStore, tenant: str, measured: str
) -> None:
    await store.write(_traffic(tenant))
    found = await store.series(tenant, series_wanted(measured=measured, by="agent"))
    assert [(p.group, p.input_tokens, p.output_tokens, p.cost) for p in found] == [
        ("a0", 20, 2, 0.5), ("a1", 20, 2, 0.5),
    ]  # fmt: skip


async def test_nothing_is_known_of_who_did_nothing(store: SpanStore, tenant: str) -> None:
    assert await store.series(tenant, series_wanted()) == []


async def test_a_session_is_forgotten(store: SpanStore, tenant: str) -> None:
    """Its spans, and those of its traces that are in no session; not what others have there."""
    root = span(tenant, session_id="gone", agent_id="a", user="me")
    called = child(root, session_id="stays", agent_id="b", user="")
    nobodys = child(root, session_id="", attributes={"secret": "of the session"})
    alone = span(tenant, session_id="gone")
    other = span(tenant, session_id="other")
    shared = [root, called, nobodys, model_call(called)]
    await store.write([*shared, alone, model_call(alone), other])
    before = await store.series(tenant, series_wanted(measured="spans"))

    assert await store.erase_session(tenant, "gone") == 4
    assert await store.trace(tenant, alone.trace_id) == []
    assert await store.trace(tenant, root.trace_id) == [called, shared[3]]
    assert not (await store.traces(tenant, wanted(session_id="gone"), limit=5)).items
    found = {each.trace_id: each for each in (await store.traces(tenant, wanted(), limit=5)).items}
    assert set(found) == {root.trace_id, other.trace_id}
    left = found[root.trace_id]
    assert (left.spans, left.session_id, left.user, left.complete) == (2, "stays", "", False)
    assert (left.model_calls, left.input_tokens, left.cost) == (1, 100, 0.5)
    sessions = (await store.sessions(tenant, wanted(), limit=5)).items
    assert {each.session_id for each in sessions} == {"stays", "other"}
    assert await store.series(tenant, series_wanted(measured="spans")) == before
    assert await store.erase_session(tenant, "gone") == 0
    assert await store.erase_session(tenant, "") == 0
