"""What every adapter of the port of spans does."""

import asyncio
import random

import pytest
from span_ground import (
    DAY_NS,
    NOW_NS,
    child,
    model_call,
    series_wanted,
    span,
    span_id,
    tool_call,
    trace_id,
    wanted,
)

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.spans.postgres import PostgresSpans
from freehold.ports.spans import SpanEvent, SpanLink, SpanRecord, SpanStore


@pytest.fixture(params=["postgres"])
def store(database: PostgresDatabase) -> SpanStore:
    return PostgresSpans(database)


async def _summary(store: SpanStore, of: SpanRecord) -> object:
    found = await store.traces(of.tenant, wanted(), limit=100)
    return next(each for each in found.items if each.trace_id == of.trace_id)


def _whole(tenant: str) -> SpanRecord:
    """One with everything that a span may have."""
    return span(
        tenant,
        name="chat gpt-4o",
        parent_id=span_id(),
        kind=3,
        status=2,
        message="the model was busy",
        attributes={
            "text": 'Zoë said "hi\\n" \0 and \\u0000 then left: 100%_',
            "number": 3.25,
            "big": 2**62,
            "yes": True,
            "nothing": None,
            "list": ["a", 1, [], {"b": {}}],
        },
        events=(SpanEvent("gen_ai.choice", NOW_NS + 5, {"index": 0}), SpanEvent("bare", 0)),
        links=(SpanLink(trace_id(), span_id(), {"why": "batch"}),),
        resource={"service.name": "agent", "process.pid": 7},
        scope="freehold.tests",
        scope_version="1.2",
        agent_id="demo-abcdefghij",
        agent_version="3",
        endpoint="DEFAULT",
        session_id="s" * 40,
        user="arn:aws:iam::1:access-key/X",
        facts={
            "operation": "chat", "provider": "openai", "model": "gpt-4o", "tool": "t",
            "input_tokens": 12, "output_tokens": 3, "cost": 0.25, "metered": True,
        },
    )  # fmt: skip


async def test_what_was_written_comes_back_as_it_was(store: SpanStore, tenant: str) -> None:
    whole, bare = _whole(tenant), span(tenant, origin="client")
    await store.write([whole, bare])

    assert await store.trace(tenant, whole.trace_id) == [whole]
    assert await store.span(tenant, bare.trace_id, bare.span_id) == bare
    assert (await store.spans(tenant, wanted(), operation="chat", limit=5)).items == [whole]


async def test_nothing_is_written_for_an_empty_batch(store: SpanStore, tenant: str) -> None:
    await store.write([])
    assert (await store.traces(tenant, wanted(), limit=5)).items == []


async def test_a_trace_comes_by_start_and_no_longer_than_asked_for(
    store: SpanStore, tenant: str
) -> None:
    root = span(tenant)
    steps = [child(root, after_ms=n) for n in range(1, 20)]
    await store.write([*reversed(steps), root])

    assert await store.trace(tenant, root.trace_id) == [root, *steps]
    assert await store.trace(tenant, root.trace_id, spans_max=3) == [root, *steps[:2]]


@pytest.mark.parametrize("unknown", ["0" * 32, "", "x", "A" * 32, "z" * 32, "\0" * 32])
async def test_what_is_not_there_is_nothing(store: SpanStore, tenant: str, unknown: str) -> None:
    root = span(tenant)
    await store.write([root])
    assert await store.trace(tenant, unknown) == []
    assert await store.span(tenant, unknown, root.span_id) is None
    assert await store.span(tenant, root.trace_id, unknown[:16]) is None


async def test_tenants_never_see_each_other(store: SpanStore, tenant: str) -> None:
    other = tenant[::-1] + "9"
    ours = span(tenant, session_id="shared", agent_id="shared", attributes={"k": "v"})
    theirs = span(other, trace_id=ours.trace_id, session_id="shared", agent_id="shared")
    await store.write([ours, model_call(ours), theirs])
    hidden = span(other, session_id="shared")
    await store.write([hidden])

    assert [each.tenant for each in await store.trace(tenant, ours.trace_id)] == [tenant, tenant]
    assert await store.span(tenant, ours.trace_id, theirs.span_id) is None
    assert await store.trace(tenant, hidden.trace_id) == []
    ours_listed = await store.traces(tenant, wanted(session_id="shared"), limit=5)
    assert [(each.trace_id, each.spans) for each in ours_listed.items] == [(ours.trace_id, 2)]
    assert [s.traces for s in (await store.sessions(tenant, wanted(), limit=5)).items] == [1]
    assert [s.traces for s in (await store.sessions(other, wanted(), limit=5)).items] == [2]
    listed = await store.spans(tenant, wanted(), limit=9)
    assert {each.tenant for each in listed.items} == {tenant}
    assert await store.erase_session(other, "shared") == 2
    assert len(await store.trace(tenant, ours.trace_id)) == 2


async def test_a_span_that_comes_again_changes_nothing(store: SpanStore, tenant: str) -> None:
    root = span(tenant, session_id="s", took_ms=50)
    first = [root, model_call(root)]
    more = model_call(root, tokens=(1, 1), cost=None)
    await store.write([*first, root])
    before = await _summary(store, root)
    await store.write(first)
    assert await _summary(store, root) == before
    await store.write([first[1], more, root])
    await store.write([first[1], more, root])

    assert len(await store.trace(tenant, root.trace_id)) == 3
    after = (await store.traces(tenant, wanted(), limit=5)).items[0]
    assert (after.spans, after.model_calls, after.input_tokens, after.cost) == (3, 2, 101, 0.5)
    session = (await store.sessions(tenant, wanted(), limit=5)).items[0]
    assert (session.traces, session.model_calls, session.output_tokens) == (1, 2, 11)


async def test_writers_at_the_same_time_count_each_span_once(store: SpanStore, tenant: str) -> None:
    """Eight of them, with the same traces in another order each, and much of it twice."""
    chance = random.Random(7)
    roots = [span(tenant, session_id=f"s{n % 3}", agent_id=f"a{n % 4}") for n in range(20)]
    spans = [each for root in roots for each in [root, *(model_call(root) for _ in range(9))]]

    async def write() -> None:
        mine = chance.sample(spans, len(spans))
        for start in range(0, len(mine), 25):
            await store.write(mine[start : start + 25])

    async with asyncio.timeout(100):
        await asyncio.gather(*(write() for _ in range(8)))

    found = (await store.traces(tenant, wanted(), limit=100)).items
    assert {(each.spans, each.model_calls, each.input_tokens) for each in found} == {(10, 9, 900)}
    assert len(found) == len(roots)
    sessions = (await store.sessions(tenant, wanted(), limit=100)).items
    assert sum(each.model_calls for each in sessions) == 180
    counted = await store.series(tenant, series_wanted(measured="spans", by="agent"))
    assert [(each.group, each.count) for each in counted] == [(f"a{n}", 50) for n in range(4)]


async def test_a_trace_is_summed_up_as_its_spans_come(store: SpanStore, tenant: str) -> None:
    root = span(
        tenant, name="the root", took_ms=900, agent_id="a", agent_version="2", user="me",
        session_id="s", status=2,
    )  # fmt: skip
    late = child(root, after_ms=300, name="later", agent_id="b", session_id="t", user="you")
    early = child(root, after_ms=200, name="earlier", agent_id="", session_id="")
    await store.write([late])
    await store.write([early])
    found = (await store.traces(tenant, wanted(), limit=5)).items[0]
    assert (found.name, found.complete) == ("earlier", False)
    assert (found.agent_id, found.session_id, found.user) == ("b", "t", "me")

    await store.write([root, model_call(root, model="m2"), model_call(root, model="m1")])
    await store.write([tool_call(root, "search"), model_call(root, model="m2", status=2)])
    found = (await store.traces(tenant, wanted(), limit=5)).items[0]
    assert (found.name, found.complete) == ("the root", True)
    assert (found.agent_id, found.agent_version, found.session_id, found.user) == (
        "a", "2", "s", "me",
    )  # fmt: skip
    assert (found.started_ns, found.ended_ns) == (root.started_ns, root.ended_ns)
    assert (found.spans, found.errors, found.model_calls, found.tool_calls) == (7, 2, 3, 1)
    assert (found.input_tokens, found.output_tokens, found.cost) == (300, 30, 1.5)
    assert list(found.models) == ["m1", "m2"]


async def test_a_call_that_two_tell_of_counts_once(store: SpanStore, tenant: str) -> None:
    """The doorway metered the model call that the agent's own span and its agent's total tell of,
    and what it counted holds; the gateway has a span of the tool call that the agent has one of."""
    root = span(tenant, session_id="s", agent_id="a")
    total = {"operation": "invoke_agent", "input_tokens": 100, "output_tokens": 12, "cost": 0.6}
    await store.write(
        [
            root,
            child(root, facts=total, origin="agent"),
            model_call(root, tokens=(100, 10), cost=0.5),
            model_call(root, tokens=(90, 14), cost=0.4, metered=True),
            tool_call(root, "search"),
            tool_call(root, "search", origin="platform"),
            tool_call(root, "local"),
        ]
    )
    for found in (
        (await store.traces(tenant, wanted(), limit=5)).items[0],
        (await store.sessions(tenant, wanted(), limit=5)).items[0],
    ):
        assert (found.model_calls, found.tool_calls) == (1, 2)
        assert (found.input_tokens, found.output_tokens, found.cost) == (90, 14, 0.4)
    counted = (await store.series(tenant, series_wanted(measured="model_calls")))[0]
    assert (counted.count, counted.input_tokens, counted.cost) == (1, 90, 0.4)
    assert [
        each.count for each in await store.series(tenant, series_wanted(measured="tool_calls"))
    ] == [2]
    assert (await store.series(tenant, series_wanted()))[0].input_tokens == 90


async def test_a_call_told_by_a_framework_and_by_its_client_counts_once(
    store: SpanStore, tenant: str
) -> None:
    root = span(tenant, origin="client", agent_id="a")
    outer = model_call(root, tokens=(100, 10), cost=0.5)
    inner = model_call(outer, tokens=(100, 10), cost=0.5)
    await store.write([inner, outer, root])
    found = (await store.traces(tenant, wanted(), limit=5)).items[0]
    assert (found.model_calls, found.input_tokens, found.cost) == (1, 100, 0.5)
    counted = (await store.series(tenant, series_wanted(measured="model_calls")))[0]
    assert (counted.count, counted.input_tokens) == (1, 100)


async def test_a_trace_that_began_elsewhere_has_its_root_where_it_came_in(
    store: SpanStore, tenant: str
) -> None:
    entry = span(
        tenant, name="invoke_agent planner", origin="platform", parent_id="00f067aa0ba902b7",
        attributes={"freehold.entry": True},
    )  # fmt: skip
    claimed = span(tenant, name="mine", parent_id="00f067aa0ba902b7",
                   attributes={"freehold.entry": True}, origin="client")  # fmt: skip
    await store.write([entry, child(entry), claimed])
    found = {t.trace_id: t for t in (await store.traces(tenant, wanted(), limit=5)).items}
    assert (found[entry.trace_id].complete, found[entry.trace_id].name) == (True, entry.name)
    assert not found[claimed.trace_id].complete, "who sends spans does not say where we came in"
    assert sum(each.count for each in await store.series(tenant, series_wanted())) == 1


async def test_spans_of_another_day_find_their_trace(store: SpanStore, tenant: str) -> None:
    root = span(tenant, at_ns=NOW_NS - 3 * DAY_NS, took_ms=3 * 86_400_000)
    steps = [child(root, after_ms=n * 86_400_000) for n in range(1, 4)]
    await store.write([steps[2], steps[0]])
    await store.write([root])
    await store.write([steps[1]])

    assert await store.trace(tenant, root.trace_id) == [root, *steps]
    found = (await store.traces(tenant, wanted(), limit=5)).items
    assert [(each.spans, each.started_ns) for each in found] == [(4, root.started_ns)]
    listed = await store.spans(tenant, wanted(), limit=5)
    assert listed.items == [*reversed(steps), root]


@pytest.mark.parametrize("at_ns", [0, -5, 10**9, NOW_NS + 400 * DAY_NS, 2**63 - 1, 2**64 - 1])
async def test_an_absurd_time_loses_nothing_beside_it(
    store: SpanStore, tenant: str, at_ns: int
) -> None:
    good, absurd = span(tenant), span(tenant, at_ns=at_ns, took_ms=0)
    await store.write([absurd, good])
    assert await store.trace(tenant, good.trace_id) == [good]


async def test_awkward_contents_lose_nothing_beside_them(store: SpanStore, tenant: str) -> None:
    deep: dict[str, object] = {}
    inner = deep
    for _ in range(5_000):
        inner["in"] = inner = {}
    awkward = [
        span(tenant, name="N\0L", message="\0", session_id="\0", attributes={"\0": "\0"}),
        span(tenant, name="\ud800", attributes={"half": "\udfff", "x": {1: object, "b": b"b"}}),
        span(tenant, name="deep", attributes={"deep": deep}),
        span(tenant, name="long" * 10_000, session_id="s" * 9_000, agent_id="é" * 9_000),
        span(tenant, name="numbers", kind=99_999, status=-1, attributes={"n": float("nan")},
             facts={"input_tokens": 2**70, "output_tokens": -4, "cost": float("inf")}),
        span(tenant, name="resource", resource={"\0": "\ud800"}),
    ]  # fmt: skip
    good = span(tenant, name="good")
    await store.write([*awkward, good])

    for each in [*awkward, good]:
        assert len(await store.trace(tenant, each.trace_id)) == 1
    assert len((await store.traces(tenant, wanted(), limit=50)).items) == 7
    assert len((await store.traces(tenant, wanted(session_id="s" * 9_000), limit=50)).items) == 1
    assert len((await store.traces(tenant, wanted(name="N\0L"), limit=50)).items) == 1
    assert len((await store.traces(tenant, wanted(text="\0", status="ok"), limit=50)).items) >= 1
