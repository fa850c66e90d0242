"""How every adapter of the port of spans finds traces, sessions and single spans."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from span_ground import DAY_NS, NOW_NS, SECOND_NS, child, model_call, span, tool_call, wanted

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.spans.postgres import PostgresSpans
from freehold.kernel.errors import ValidationFailed
from freehold.kernel.pages import Page
from freehold.ports.spans import SpanEvent, SpanRecord, SpanStore, Wanted


@pytest.fixture(params=["postgres"])
def store(database: PostgresDatabase) -> SpanStore:
    return PostgresSpans(database)


def _one(tenant: str) -> list[SpanRecord]:
    """The trace that each filter below finds."""
    root = span(
        tenant, name="one", took_ms=500, agent_id="agent-1", agent_version="7", user="user-1",
        session_id="session-1", attributes={"deployment": "blue", "attempt": 3, "final": True},
    )  # fmt: skip
    return [
        root,
        model_call(root, model="model-1", tokens=(1_000, 200), cost=2.0, status=2),
        tool_call(root, "tool-1", events=(SpanEvent("said", 1, {"who": "The Prince of Zürich"}),)),
        child(root, name="Ünder way", attributes={"note": 'a "quoted"\nline, 100%_ sure'}),
    ]


def _other(tenant: str) -> list[SpanRecord]:
    """The trace that none finds."""
    root = span(
        tenant, name="other", at_ns=NOW_NS - DAY_NS, took_ms=5, agent_id="agent-2",
        agent_version="8", user="user-2", session_id="session-2",
        attributes={
            "deployment": "green", "attempt": 30, "say": '"deployment":"blue"', "100": "percent",
            "blue": "deployment",
        },
    )  # fmt: skip
    return [root, model_call(root, model="model-2", tokens=(1, 2), cost=0.1), tool_call(root, "t2")]


_FILTERS: dict[str, dict[str, Any]] = {
    "since": {"since_ns": NOW_NS - SECOND_NS},
    "agent": {"agent_id": "agent-1"},
    "version": {"agent_version": "7"},
    "user": {"user": "user-1"},
    "session": {"session_id": "session-1"},
    "failed": {"status": "error"},
    "name": {"name": "one"},
    "model": {"model": "model-1"},
    "tool": {"tool": "tool-1"},
    "took at least": {"duration_ms_min": 499.5},
    "tokens at least": {"tokens_min": 1_200},
    "cost at least": {"cost_min": 1.9},
    "tag": {"tags": {"deployment": "blue"}},
    "tag, a number": {"tags": {"attempt": "3"}},
    "tag, a boolean": {"tags": {"final": "true"}},
    "tags of two spans": {"tags": {"final": "true", "note": 'a "quoted"\nline, 100%_ sure'}},
    "text of an attribute": {"text": "LINE, 100%_ s"},
    "text with quotes": {"text": '"quoted"'},
    "text of a name, beyond ASCII": {"text": "ünder WAY"},
    "text of an event, beyond ASCII": {"text": "PRINCE OF ZÜR"},
    "text of an event": {"text": "the prince of z"},
    "all at once": {
        "agent_id": "agent-1", "agent_version": "7", "user": "user-1", "session_id": "session-1",
        "status": "error", "model": "model-1", "tool": "tool-1", "duration_ms_max": 501.0,
        "tokens_max": 1_200, "cost_max": 2.0, "text": "prince", "tags": {"final": "true"},
    },
}  # fmt: skip


@pytest.mark.parametrize("by", list(_FILTERS))
async def test_each_filter_finds_the_traces_and_sessions_that_are_meant(
    store: SpanStore, tenant: str, by: str
) -> None:
    one = _one(tenant)
    await store.write([*one, *_other(tenant)])
    found = await store.traces(tenant, wanted(**_FILTERS[by]), limit=10)
    assert [each.name for each in found.items] == ["one"]
    sessions = await store.sessions(tenant, wanted(**_FILTERS[by]), limit=10)
    assert [each.session_id for each in sessions.items] == ["session-1"]


@pytest.mark.parametrize(
    "bounds",
    [
        {"until_ns": NOW_NS - 1},
        {"status": "ok"},
        {"duration_ms_max": 12.0},
        {"tokens_max": 5},
        {"cost_max": 0.5},
    ],
)
async def test_upper_bounds_leave_the_larger_out(
    store: SpanStore, tenant: str, bounds: dict[str, Any]
) -> None:
    await store.write([*_one(tenant), *_other(tenant)])
    found = await store.traces(tenant, wanted(**bounds), limit=10)
    assert [each.name for each in found.items] == ["other"]
    sessions = await store.sessions(tenant, wanted(**bounds), limit=10)
    assert [each.session_id for each in sessions.items] == ["session-2"]


@pytest.mark.parametrize(
    "text", ["100%", "100_", "%", "_", "\\", "one\\", "bl_e", "' OR true --", "é(.*", "[é]"]
)
async def test_signs_of_patterns_are_only_text(store: SpanStore, tenant: str, text: str) -> None:
    """As it stands in an attribute, and nothing that a pattern would match."""
    yes, no = span(tenant, attributes={"k": f"<{text}>"}), span(tenant, attributes={"k": "100 one"})
    await store.write([yes, no])
    found = await store.traces(tenant, wanted(text=text), limit=10)
    assert [each.trace_id for each in found.items] == [yes.trace_id]
    tagged = await store.traces(tenant, wanted(tags={"k": f"<{text}>"}), limit=10)
    assert [each.trace_id for each in tagged.items] == [yes.trace_id]


_SPAN_FILTERS: dict[str, dict[str, Any]] = {
    "model": {"model": "model-1"},
    "failed": {"status": "error"},
    "tokens": {"tokens_min": 1_200, "tokens_max": 1_200},
    "cost": {"cost_min": 1.0},
    "name": {"name": "chat model-1"},
    "everything": {"agent_id": "agent-1", "user": "user-1", "session_id": "session-1",
                   "agent_version": "7", "text": "CHAT", "duration_ms_min": 10,
                   "duration_ms_max": 10},
}  # fmt: skip


@pytest.mark.parametrize("by", list(_SPAN_FILTERS))
async def test_single_spans_are_found_by_what_they_are_themselves(
    store: SpanStore, tenant: str, by: str
) -> None:
    one = _one(tenant)
    await store.write([*one, *_other(tenant)])
    found = await store.spans(tenant, wanted(**_SPAN_FILTERS[by]), operation="chat", limit=10)
    assert found.items == [one[1]]


async def test_operations_tools_and_tags_of_single_spans(store: SpanStore, tenant: str) -> None:
    one = _one(tenant)
    await store.write([*one, *_other(tenant)])
    tools = await store.spans(tenant, wanted(), operation="execute_tool", limit=10)
    assert [each.facts.tool for each in tools.items] == ["tool-1", "t2"]
    assert (await store.spans(tenant, wanted(tool="tool-1"), limit=10)).items == [one[2]]
    assert (await store.spans(tenant, wanted(tags={"attempt": "3"}), limit=10)).items == [one[0]]
    assert (await store.spans(tenant, wanted(status="ok"), operation="chat", limit=10)).items != []
    assert (await store.spans(tenant, wanted(), operation="plan", limit=10)).items == []


async def test_sessions_sum_up_their_traces(store: SpanStore, tenant: str) -> None:
    first = span(tenant, session_id="s", agent_id="a", at_ns=NOW_NS - 60 * SECOND_NS)
    second = span(tenant, session_id="s", agent_id="a", user="me", status=2, took_ms=900)
    alone = span(tenant, session_id="older", at_ns=NOW_NS - DAY_NS)
    await store.write([first, model_call(first), second, model_call(second), alone, span(tenant)])
    await store.write([tool_call(second, "search"), model_call(second, cost=None)])

    found = (await store.sessions(tenant, wanted(), limit=10)).items
    assert [each.session_id for each in found] == ["s", "older"]
    s = found[0]
    assert (s.agent_id, s.user, s.traces, s.errors) == ("a", "me", 2, 1)
    assert (s.started_ns, s.ended_ns) == (first.started_ns, second.ended_ns)
    assert (s.model_calls, s.tool_calls, s.input_tokens, s.output_tokens) == (3, 1, 300, 30)
    assert s.cost == 1.0 and found[1].cost is None
    larger = await store.sessions(tenant, wanted(tokens_min=250, cost_max=1.0), limit=10)
    assert [each.session_id for each in larger.items] == ["s"]


async def test_a_session_in_another_agents_trace_is_found(store: SpanStore, tenant: str) -> None:
    """Agent a calls agent b: one trace, in two sessions."""
    root = span(tenant, session_id="of-a", agent_id="a")
    called = child(root, session_id="of-b", agent_id="b")
    await store.write([root, called, model_call(called)])

    for filters in ({"session_id": "of-b"}, {"agent_id": "b"}, {"agent_id": "a"}):
        found = (await store.traces(tenant, wanted(**filters), limit=10)).items
        assert [(each.trace_id, each.agent_id) for each in found] == [(root.trace_id, "a")]
    assert not (await store.traces(tenant, wanted(agent_id="a", session_id="of-b"), limit=5)).items
    sessions = (await store.sessions(tenant, wanted(), limit=10)).items
    assert {s.session_id: s.input_tokens for s in sessions} == {"of-a": 0, "of-b": 100}


List = Callable[[SpanStore, str, Wanted, int, str | None], Awaitable[Page[Any]]]
_LISTS: dict[str, List] = {
    "traces": lambda store, t, w, n, token: store.traces(t, w, limit=n, token=token),
    "sessions": lambda store, t, w, n, token: store.sessions(t, w, limit=n, token=token),
    "spans": lambda store, t, w, n, token: store.spans(t, w, limit=n, token=token),
}


@pytest.mark.parametrize("of", list(_LISTS))
async def test_pages_stay_what_they_are_while_more_comes(
    store: SpanStore, tenant: str, of: str
) -> None:
    """Half of them began at the very same moment."""
    spans = [
        span(tenant, at_ns=NOW_NS - max(0, n - 15) * SECOND_NS, session_id=f"s{n}")
        for n in range(30)
    ]
    await store.write(spans)
    seen: list[Any] = []
    token: str | None = None
    for number in range(100):
        page = await _LISTS[of](store, tenant, wanted(), 4, token)
        seen.extend(page.items)
        token = page.next_token
        if token is None:
            break
        assert len(page.items) == 4
        await store.write([span(tenant, at_ns=NOW_NS + (number + 1) * SECOND_NS, session_id="new")])
    assert {each.session_id for each in seen} == {each.session_id for each in spans}
    assert len(seen) == 30
    assert [each.started_ns for each in seen] == sorted(
        (each.started_ns for each in spans), reverse=True
    )


async def test_a_full_last_page_has_no_token(store: SpanStore, tenant: str) -> None:
    await store.write([span(tenant, session_id=f"s{n}") for n in range(3)])
    for ask in _LISTS.values():
        assert (await ask(store, tenant, wanted(), 3, None)).next_token is None
        assert (await ask(store, tenant, wanted(), 2, None)).next_token is not None


@pytest.mark.parametrize("of", list(_LISTS))
async def test_a_token_that_is_none_is_refused(store: SpanStore, tenant: str, of: str) -> None:
    await store.write([span(tenant, session_id=f"s{n}") for n in range(3)])
    foreign = [
        (await ask(store, tenant, wanted(), 2, None)).next_token
        for name, ask in _LISTS.items()
        if name != of
    ]
    for token in [*foreign, "", "x", "!!", "WzFd", "WyJ0cmFjZXMiLDFd", "a" * 5_000]:
        with pytest.raises(ValidationFailed):
            await _LISTS[of](store, tenant, wanted(), 2, token)
