"""Traces, spans, sessions, series and costs as our own API tells of them, from the real store."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from reading_ground import Reading, reading
from told_spans import MS, Trace, answered, asks, text

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.ports.spans import SpanEvent
from freehold.ports.telemetry import LogRecord
from freehold.services.observability.conventions import MAPPER_VERSION


@pytest.fixture
def own(database: PostgresDatabase, tenant: str) -> Reading:
    return reading(database, tenant)


def _agent_trace(tenant: str, **of_all: Any) -> Trace:
    """An agent that thinks, calls a governed tool through a gateway, and answers."""
    trace = Trace(tenant, **of_all)
    root = trace.span("InvokeAgentRuntime", ms=500, origin="platform", kind=2)
    agent = trace.span(
        "invoke_agent weather", under=root, at=5, ms=480,
        attributes={
            "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "weather",
            "gen_ai.usage.input_tokens": 220, "gen_ai.usage.output_tokens": 30,
        },
    )  # fmt: skip
    trace.chat(
        under=agent, at=10, ms=100, tokens=(100, 20), heard=[text("user", "Weather in Utrecht?")],
        said=[asks("get_weather", {"city": "Utrecht"}, id="c1", thinks="It wants weather.")],
    )  # fmt: skip
    tool = trace.tool(
        "get_weather", under=agent, at=120, ms=50, call_id="c1", arguments={"city": "Utrecht"}
    )
    gateway = trace.tool(
        "weather___get_weather", under=tool, at=125, ms=40, origin="platform",
        attributes={"freehold.gateway.id": "g-1"},
    )  # fmt: skip
    trace.span(
        "policy", under=gateway, at=126, ms=1, origin="platform",
        attributes={"freehold.policy.decision": "allow", "freehold.policy.ids": ["all-0123456789"]},
    )  # fmt: skip
    trace.chat(
        under=agent, at=180, ms=100, tokens=(120, 10),
        heard=[
            text("user", "Weather in Utrecht?"),
            asks("get_weather", {"city": "Utrecht"}, id="c1"),
            answered("c1", "rain"),
        ],
        said=[text("assistant", "It rains.")],
    )  # fmt: skip
    return trace


async def test_a_trace_is_its_sums_and_a_tree(own: Reading) -> None:
    trace = _agent_trace(own.tenant, agent_id="weather-1", session_id="s-1", user="anna")
    await own.write(trace.spans)
    answer = await own.ask("GetTrace", traceId=trace.id)
    told = answer["trace"]
    assert (told["name"], told["complete"], told["status"]) == ("InvokeAgentRuntime", True, "ok")
    assert (told["durationMs"], told["spans"]) == (500, 7)
    assert (told["agentId"], told["sessionId"], told["user"]) == ("weather-1", "s-1", "anna")
    # Model calls once, though their agent tells the sum of them too; the gateway's side of the
    # tool call is the same call.
    assert (told["modelCalls"], told["toolCalls"]) == (2, 1)
    assert (told["inputTokens"], told["outputTokens"]) == (220, 30)
    assert told["cost"] == pytest.approx((220 * 2.5 + 30 * 10) / 1e6)
    assert [(span["name"], span.get("depth", 0)) for span in answer["spans"]] == [
        ("InvokeAgentRuntime", 0),
        ("invoke_agent weather", 1),
        ("chat", 2),
        ("execute_tool get_weather", 2),
        ("execute_tool weather___get_weather", 3),
        ("policy", 4),
        ("chat", 2),
    ]
    assert answer["truncated"] is False


async def test_the_list_and_the_trace_tell_the_same(own: Reading) -> None:
    trace = _agent_trace(own.tenant, agent_id="weather-1", agent_version="3", session_id="s-1")
    await own.write(trace.spans)
    [listed] = (await own.ask("ListTraces"))["traces"]
    assert listed == (await own.ask("GetTrace", traceId=trace.id))["trace"]


async def test_content_is_shown_where_it_is_asked_for(own: Reading) -> None:
    trace = _agent_trace(own.tenant)
    await own.write(trace.spans)
    lean = await own.ask("GetTrace", traceId=trace.id)
    assert "Utrecht" not in json.dumps(lean)
    [first] = [span for span in lean["spans"] if span["name"] == "chat"][:1]
    assert first["is"]["captured"] is True, "it is there, and not shown"
    full = await own.ask("GetTrace", traceId=trace.id, content=True)
    assert json.dumps(full).count("Weather in Utrecht?") == 2
    one = await own.ask("GetSpan", traceId=trace.id, spanId=first["spanId"])
    assert one["is"]["content"]["output"][0]["parts"][0] == {
        "type": "reasoning", "text": "It wants weather.",
    }  # fmt: skip
    assert (one["is"]["family"], one["is"]["mapper"]) == ("gen_ai", MAPPER_VERSION)
    assert "raw" not in one
    raw = await own.ask("GetSpan", traceId=trace.id, spanId=first["spanId"], raw=True)
    assert raw["raw"]["attributes"]["gen_ai.usage.input_tokens"] == 100


async def test_messages_that_came_as_logs_are_a_part_of_their_span(own: Reading) -> None:
    trace = Trace(own.tenant)
    chat = trace.chat()
    await own.write(trace.spans)
    said = LogRecord(
        tenant=own.tenant, at_ns=trace.began_ns, origin="agent", event="gen_ai.choice",
        body={"message": {"role": "assistant", "content": "Hi."}}, trace_id=trace.id, span_id=chat,
    )  # fmt: skip
    await own.logs.write([said])
    span = await own.ask("GetSpan", traceId=trace.id, spanId=chat)
    assert span["is"]["content"]["output"][0]["parts"] == [{"type": "text", "text": "Hi."}]


async def test_a_span_whose_parent_never_came_stands_below_the_root(own: Reading) -> None:
    trace = Trace(own.tenant)
    trace.span("root", ms=100)
    trace.span("first", under=trace.spans[0].span_id, at=1)
    lost = trace.span("lost", under="f" * 16, at=2)
    trace.span("below the lost", under=lost, at=3)
    await own.write(trace.spans)
    answer = await own.ask("GetTrace", traceId=trace.id)
    assert [(s["name"], s.get("depth", 0), s.get("orphan", False)) for s in answer["spans"]] == [
        ("root", 0, False), ("first", 1, False), ("lost", 1, True), ("below the lost", 2, False),
    ]  # fmt: skip


async def test_a_trace_without_its_root_and_a_ring_of_parents_are_shown(own: Reading) -> None:
    trace = Trace(own.tenant)
    trace.span("one", span_id="a" * 16, under="b" * 16)
    trace.span("two", span_id="b" * 16, under="a" * 16, at=1)
    trace.span("lost", under="c" * 16, at=2)
    await own.write(trace.spans)
    answer = await own.ask("GetTrace", traceId=trace.id)
    assert answer["trace"]["complete"] is False
    assert sorted(span["name"] for span in answer["spans"]) == ["lost", "one", "two"]


async def test_a_chain_of_any_depth_is_shown(own: Reading) -> None:
    trace = Trace(own.tenant)
    above = ""
    for depth in range(3_000):
        above = trace.span(f"at {depth}", under=above, at=depth / 100)
    await own.write(trace.spans)
    answer = await own.ask("GetTrace", traceId=trace.id)
    assert [span["name"] for span in answer["spans"]] == [f"at {n}" for n in range(3_000)]
    cut = await own.ask("GetTrace", traceId=trace.id, limit=10)
    assert (len(cut["spans"]), cut["truncated"]) == (10, True)


async def test_what_a_tenant_does_not_have_is_not_found(own: Reading) -> None:
    trace = _agent_trace(own.tenant, session_id="s-1")
    await own.write(trace.spans)
    span = trace.spans[0].span_id
    for other in ("ListTraces", "ListSpans", "ListTracedSessions"):
        assert [*(await own.ask(other, tenant="999999999999")).values()] == [[]]
    for name, given in (
        ("GetTrace", {"traceId": trace.id}),
        ("GetSpan", {"traceId": trace.id, "spanId": span}),
        ("ExplainSpan", {"traceId": trace.id, "spanId": span}),
        ("GetTracedSession", {"sessionId": "s-1"}),
    ):
        with pytest.raises(NotFound):
            await own.ask(name, tenant="999999999999", **given)
    with pytest.raises(NotFound):
        await own.ask("GetSpan", traceId=trace.id, spanId="0" * 15 + "1")


async def test_filters_choose_traces(own: Reading) -> None:
    cheap = _agent_trace(
        own.tenant, agent_id="weather-1", agent_version="1", session_id="s-1", user="anna"
    )
    dear = Trace(own.tenant, agent_id="trip-1", agent_version="2", session_id="s-2", user="bob")
    root = dear.span("InvokeAgentRuntime", ms=5_000, origin="platform", status=2)
    dear.chat(
        under=root, at=1, ms=4_000, model="claude-sonnet-4-5", tokens=(90_000, 900),
        attributes={"deployment": "blue, and green", "gen_ai.provider.name": "anthropic"},
    )  # fmt: skip
    dear.span(
        "parse", under=root, at=4_500, events=[SpanEvent("note", 0, {"said": "Zebra"})], status=2
    )
    await own.write(cheap.spans, dear.spans)
    chosen: dict[str, Any] = {
        "agentId": "trip-1", "agentVersion": "2", "user": "bob", "sessionId": "s-2",
        "status": "error", "model": "claude-sonnet-4-5", "durationMin": 1_000,
        "tokensMin": 10_000, "tag": r"deployment=blue\, and green", "text": "zEBRA",
        "costMin": "0.2",
    }  # fmt: skip
    for name, value in chosen.items():
        found = (await own.ask("ListTraces", **{name: value}))["traces"]
        assert [each["traceId"] for each in found] == [dear.id], name
    others: dict[str, Any] = {
        "tool": "get_weather", "status": "ok", "durationMax": 1_000, "tokensMax": 1_000,
        "costMax": "0.1",
    }  # fmt: skip
    for name, value in others.items():
        found = (await own.ask("ListTraces", **{name: value}))["traces"]
        assert [each["traceId"] for each in found] == [cheap.id], name


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"since": "yesterday"}, "since=yesterday"),
        ({"until": "2026-13-01"}, "until=2026-13-01"),
        ({"since": "1h", "until": "2h"}, "before until"),
        ({"tag": "blue"}, "expected key=value"),
        ({"tag": "=blue"}, "expected key=value"),
        ({"tag": ",".join(f"a{n}=1" for n in range(17))}, "at most 16"),
        ({"costMin": "dear"}, "costMin=dear"),
        ({"costMax": "nan"}, "costMax=nan"),
        ({"text": "x" * 1_001}, "at most 1000 characters"),
        ({"nextToken": "made up"}, "nextToken"),
    ],
)
async def test_a_wrong_filter_is_named(own: Reading, given: dict[str, str], fault: str) -> None:
    with pytest.raises(ValidationFailed, match=fault):
        await own.ask("ListTraces", **given)


async def test_an_id_that_can_be_none_is_refused(own: Reading) -> None:
    for wrong in ("x" * 32, "1" * 31, "1" * 33):
        with pytest.raises(ValidationFailed, match="32 hexadecimal digits"):
            await own.ask("GetTrace", traceId=wrong)


async def test_pages_follow_each_other(own: Reading) -> None:
    traces = [Trace(own.tenant, session_id=f"s-{n}") for n in range(5)]
    for number, trace in enumerate(traces):
        trace.span("root", at=number)
    await own.write(*(trace.spans for trace in traces))
    for name, member, key, ids in (
        ("ListTraces", "traces", "traceId", [trace.id for trace in traces]),
        ("ListTracedSessions", "sessions", "sessionId", [f"s-{n}" for n in range(5)]),
        ("ListSpans", "spans", "traceId", [trace.id for trace in traces]),
    ):
        seen: list[str] = []
        token = None
        for _ in range(3):
            page = await own.ask(name, limit=2, nextToken=token)
            seen += [each[key] for each in page[member]]
            token = page.get("nextToken")
        assert token is None
        assert seen == ids[::-1], "newest first"


async def test_single_spans_are_found_by_what_they_are(own: Reading) -> None:
    trace = _agent_trace(own.tenant)
    await own.write(trace.spans)
    [decision] = (await own.ask("ListSpans", operation="policy"))["spans"]
    assert decision["is"]["policy"] == {"decision": "allow", "policies": ["all-0123456789"]}
    called = (await own.ask("ListSpans", operation="execute_tool", tool="get_weather"))["spans"]
    assert [span["is"]["tool"]["callId"] for span in called] == ["c1"]
    slow = (await own.ask("ListSpans", durationMin=90, operation="chat"))["spans"]
    assert len(slow) == 2


async def test_a_session_is_its_traces_in_their_order(own: Reading) -> None:
    first, second = (
        _agent_trace(own.tenant, session_id="s-1", agent_id="weather-1", user="anna")
        for _ in range(2)
    )
    other = _agent_trace(own.tenant, session_id="s-2")
    await own.write(second.spans, other.spans, first.spans)
    answer = await own.ask("GetTracedSession", sessionId="s-1")
    began = [trace["startedAt"] for trace in answer["traces"]]
    assert {trace["traceId"] for trace in answer["traces"]} == {first.id, second.id}
    assert began == sorted(began)
    assert answer["session"]["traces"] == 2
    assert answer["session"]["user"] == "anna"
    assert answer["session"]["inputTokens"] == 440


async def test_a_series_has_a_point_for_every_step(own: Reading) -> None:
    minute = 60 * 10**9
    now = Trace(own.tenant).began_ns
    base = now - now % (60 * minute) - 60 * minute  # a whole hour, some time ago
    for number, ms in ((0, 100), (0, 300), (5, 200)):
        trace = Trace(own.tenant, began_ns=base + number * minute, agent_id="weather-1")
        root = trace.span("root", ms=ms, status=2 if number else 0)
        trace.chat(under=root, tokens=(100, 10))
        await own.write(trace.spans)
    hour = {"since": _iso(base), "until": _iso(base + 30 * minute), "step": "5m"}
    answer = await own.ask("GetTraceSeries", **hour)
    assert answer["stepSeconds"] == 300
    [group] = answer["groups"]
    assert [point["count"] for point in group["points"]] == [2, 1, 0, 0, 0, 0]
    assert group["points"][2]["p50Ms"] is None
    assert [point["inputTokens"] for point in group["points"]] == [200, 100, 0, 0, 0, 0]
    assert (group["total"]["count"], group["total"]["errors"]) == (3, 1)
    assert group["total"]["p50Ms"] == pytest.approx(200, rel=0.05)
    assert group["total"]["p99Ms"] == pytest.approx(300, rel=0.05)
    by_agent = await own.ask("GetTraceSeries", **hour, by="agent", measured="model_calls")
    assert [(g["group"], g["total"]["count"]) for g in by_agent["groups"]] == [("weather-1", 3)]
    nothing = await own.ask("GetTraceSeries", **hour, agentId="nobody")
    assert [point["count"] for point in nothing["groups"][0]["points"]] == [0] * 6


async def test_a_series_chooses_its_step_and_keeps_it_bearable(own: Reading) -> None:
    for since, step in (("30m", 60), ("24h", 900), ("7d", 10_800), ("90d", 86_400)):
        answer = await own.ask("GetTraceSeries", since=since)
        assert answer["stepSeconds"] == step, since
        assert len(answer["groups"][0]["points"]) <= 125
    fine = await own.ask("GetTraceSeries", since="90d", step="1m")
    assert len(fine["groups"][0]["points"]) <= 2_001


async def test_costs_are_told_by_model_agent_session_user_and_day(own: Reading) -> None:
    anna = Trace(own.tenant, agent_id="weather-1", session_id="s-1", user="anna")
    anna.chat(tokens=(1_000_000, 0))
    bob = Trace(own.tenant, agent_id="trip-1", session_id="s-2", user="bob")
    bob.chat(tokens=(0, 1_000_000))
    bob.chat(model="of-our-own", tokens=(50, 50), at=20)
    await own.write(anna.spans, bob.spans)
    for by, rows in (
        ("model", [("gpt-4o", 12.5), ("of-our-own", None)]),
        ("agent", [("trip-1", 10.0), ("weather-1", 2.5)]),
        ("session", [("s-2", 10.0), ("s-1", 2.5)]),
        ("user", [("bob", 10.0), ("anna", 2.5)]),
    ):
        report = await own.ask("GetModelCosts", by=by)
        assert [(row["key"], row["cost"]) for row in report["rows"]] == rows, by
        assert report["total"] == 12.5
        assert report["partial"] is False
    assert (await own.ask("GetModelCosts"))["unpriced"] == ["of-our-own"]
    days = (await own.ask("GetModelCosts", by="day"))["rows"]
    assert sum(row["cost"] for row in days) == 12.5
    assert (await own.ask("GetModelCosts", agentId="trip-1"))["total"] == 10.0


def _iso(ns: int) -> str:
    assert ns % MS == 0
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat()
