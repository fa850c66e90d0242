"""`freehold trace` where the platform's answers are prepared: what is asked, and what is said."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cli_doubles import Answering, Run

from freehold.cli.trace import shown

OWN = "/freehold/v1"
TRACE, OTHER = "4a593617302ec5085312e542ed289fca", "4a59ffff302ec5085312e542ed289fca"
AT = "2026-03-02T12:00:00+00:00"


def line(id: str = TRACE, **more: Any) -> dict[str, Any]:
    return {
        "traceId": id, "name": "InvokeAgentRuntime", "startedAt": AT, "durationMs": 1500.0,
        "status": "ok", "complete": True, "agentId": "shop-0123456789", "agentVersion": "3",
        "sessionId": "s-1", "user": "anna", "spans": 4, "errors": 0, "modelCalls": 1,
        "toolCalls": 1, "inputTokens": 1200, "outputTokens": 80, "cost": 0.0038, "models": [],
        **more,
    }  # fmt: skip


def span(id: str, name: str, depth: int = 0, **more: Any) -> dict[str, Any]:
    read = {"mapper": 1, "family": "gen_ai", **more.pop("read", {})}
    return {
        "traceId": TRACE, "spanId": id, "name": name, "depth": depth, "kind": "internal",
        "status": "ok", "origin": "agent", "startedAt": AT, "durationMs": 20.0, "is": read, **more,
    }  # fmt: skip


SPANS = [
    span("a" * 16, "InvokeAgentRuntime", durationMs=1500.0),
    span("b" * 16, "chat", 1, cost=0.0038, read={
        "model": "gpt-4o", "tokens": {"input": 1200, "output": 80, "cacheRead": 0,
                                      "cacheWrite": 0, "reasoning": 0},
        "content": {"output": [{"role": "assistant", "parts": [
            {"type": "reasoning", "text": "It is theirs."},
            {"type": "tool_call", "name": "refund", "arguments": {"order": 7}},
        ]}]},
    }),
    span("c" * 16, "execute_tool refund", 1, read={
        "operation": "execute_tool",
        "tool": {"name": "refund", "callId": "c1", "arguments": {"order": 7}},
    }),
    span("d" * 16, "policy", 2, status="error", message="denied", read={
        "policy": {"decision": "deny", "policies": ["small-0123456789"]},
    }),
    span("e" * 16, "lost", 1, orphan=True),
]  # fmt: skip


@pytest.fixture
def traces(answering: Answering) -> Answering:
    answering.answer("GET", f"{OWN}/traces", {"traces": [line()]})
    document = {"trace": line(), "spans": SPANS, "truncated": False}
    answering.answer("GET", f"{OWN}/traces/{TRACE}", document)
    return answering


def queries(platform: Answering, path: str) -> list[dict[str, list[str]]]:
    seen = [urlsplit(each.path) for each in platform.seen]
    return [parse_qs(each.query) for each in seen if each.path == OWN + path]


def test_the_list_shows_one_line_a_trace(run: Run, traces: Answering) -> None:
    done = run("trace", "list")
    assert done.exit_code == 0, done.output
    [_, row] = done.stdout.splitlines()
    for cell in (TRACE, "InvokeAgentRuntime", "shop-0123456789", "1.5 s", "1,200 > 80", "$0.0038"):
        assert cell in row
    assert json.loads(run("trace", "list", "--json").stdout) == {"traces": [line()], "more": False}


def test_a_cost_that_is_not_known_is_a_dash(run: Run, answering: Answering) -> None:
    answering.answer("GET", f"{OWN}/traces", {"traces": [line(cost=None)]})
    assert run("trace", "list").stdout.splitlines()[1].endswith(" -")


def test_filters_are_asked_for_in_the_words_of_our_own_api(run: Run, traces: Answering) -> None:
    traces.has_runtime("shop")
    done = run(
        "trace", "list", "--agent", "shop", "--agent-version", "3", "--user", "anna", "--session",
        "s-1", "--failed", "--model", "gpt-4o", "--tool", "refund", "--slower", "1.5s", "--faster",
        "2m", "--tokens", "10", "--dearer", "0.01", "--tag", "color=blue, green", "--tag", "n=1",
        "--text", "Zebra", "--since", "7d",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    [query] = queries(traces, "/traces")
    assert {name: value for name, [value] in query.items()} == {
        "agentId": "shop-aaaaaaaaaa", "agentVersion": "3", "user": "anna", "sessionId": "s-1",
        "status": "error", "model": "gpt-4o", "tool": "refund", "durationMin": "1500",
        "durationMax": "120000", "tokensMin": "10", "costMin": "0.01",
        "tag": r"color=blue\, green,n=1", "text": "Zebra", "since": "7d",
    }  # fmt: skip


def test_an_agent_that_is_gone_is_named_by_its_id(run: Run, traces: Answering) -> None:
    traces.has_runtime("shop")
    assert run("trace", "list", "--agent", "old-0123456789").exit_code == 0
    assert queries(traces, "/traces")[0]["agentId"] == ["old-0123456789"]
    assert run("trace", "list", "--agent", "nobody").exit_code == 1


def test_a_trace_is_shown_as_a_tree(run: Run, traces: Answering) -> None:
    done = run("trace", "show", TRACE)
    assert done.exit_code == 0, done.output
    [*_, root, chat, tool, policy, lost] = done.stdout.splitlines()
    assert root.startswith("InvokeAgentRuntime ")
    assert chat.startswith("├─ chat  gpt-4o ")
    assert chat.endswith("1,200 > 80  $0.0038")
    assert tool.startswith("├─ execute_tool refund ")
    assert policy.startswith("│  └─ policy  deny small-0123456789  denied ")
    assert lost.startswith("└─ lost  (its parent never came) ")
    assert "It is theirs." not in done.stdout
    with_content = run("trace", "show", TRACE, "--content").stdout
    assert "(thinks) It is theirs." in with_content
    assert '-> refund {"order": 7}' in with_content


def test_a_trace_is_found_by_its_beginning(run: Run, traces: Answering) -> None:
    assert run("trace", "show", "4A59").exit_code == 0
    assert run("trace", "show", "latest").exit_code == 0
    missing = run("trace", "show", "ffff")
    assert missing.exit_code == 1
    assert "freehold trace list" in missing.stderr
    assert "no trace's id" in run("trace", "show", "4a5").stderr
    traces.answer("GET", f"{OWN}/traces", {"traces": [line(), line(OTHER)]})
    assert "2 traces begin with 4a59" in run("trace", "show", "4a59").stderr


def test_one_span_is_shown_with_all_that_is_known(run: Run, traces: Answering) -> None:
    traces.answer("GET", f"{OWN}/traces/{TRACE}/spans/{'b' * 16}", SPANS[1])
    done = run("trace", "show", TRACE, "b" * 16)
    assert done.exit_code == 0, done.output
    for words in ("gpt-4o", "1,200 > 80", "$0.0038", "mapper 1 as gen_ai", "(thinks)"):
        assert words in done.stdout


def test_spans_are_named_by_the_beginnings_of_their_ids(run: Run, traces: Answering) -> None:
    [*_, chat, _, _, _] = run("trace", "show", TRACE, "--ids").stdout.splitlines()
    assert chat.startswith("bbbbbbbb  ├─ chat ")
    traces.answer("GET", f"{OWN}/traces/{TRACE}/spans/{'b' * 16}", SPANS[1])
    assert "gpt-4o" in run("trace", "show", TRACE, "bbbb").stdout
    assert "begins with 0000" in run("trace", "explain", TRACE, "0000").stderr


def _explanation() -> dict[str, Any]:
    def step(kind: str, sure: str, **more: Any) -> dict[str, Any]:
        return {
            "kind": kind, "sure": sure, "why": "it is so", "spanId": "f" * 16, "name": "a step",
            "origin": "agent", "startedAt": AT, "durationMs": 3.0, **more,
        }  # fmt: skip

    asked = [{"role": "user", "parts": [{"type": "text", "text": "My money\x1b[2J back!"}]}]
    said = [{"role": "assistant", "parts": [{"type": "reasoning", "text": "It is theirs."}]}]
    return {
        "span": SPANS[2],
        "steps": [
            step("request", "content", messages=asked),
            step("memory", "time", memory={"memoryId": "shop-1", "recordIds": ["mem-1", "mem-2"]}),
            step("tool_result", "id", tool={"name": "order", "result": "9 EUR"}),
            step("model_call", "id", model="gpt-4o", said=said, reasoning=["It is theirs."]),
            step("policy", "tree", policy={"decision": "allow", "policies": ["small-0123456789"]}),
            step("credential", "tree", credential="shop-key"),
            step("explained", "id"),
        ],
        "missing": ["The texts of retrieved memory were not captured; their ids were."],
    }


def test_an_explanation_tells_each_step_and_what_is_missing(run: Run, traces: Answering) -> None:
    path = f"{OWN}/traces/{TRACE}/spans/{'c' * 16}/explanation"
    traces.answer("GET", path, _explanation())
    done = run("trace", "explain", TRACE)
    assert done.exit_code == 0, done.output
    order = [
        "was asked", "remembered", "mem-1  mem-2", "had learned", "9 EUR", "the model said",
        "(thinks) It is theirs.", "policy", "allow  small-0123456789", "credential", "shop-key",
        "did", "missing: The texts of retrieved memory",
    ]  # fmt: skip
    at = [done.stdout.index(words) for words in order]
    assert at == sorted(at)
    assert "\x1b[2J" not in done.stdout, "what was said steers no terminal"
    assert run("trace", "explain", TRACE, "--tool", "refund").exit_code == 0
    assert json.loads(run("trace", "explain", TRACE, "c" * 16, "--json").stdout) == _explanation()


def test_a_trace_without_tool_calls_has_nothing_to_explain(run: Run, traces: Answering) -> None:
    done = run("trace", "explain", TRACE, "--tool", "pay")
    assert done.exit_code == 1
    assert f"Trace {TRACE} has no call of pay" in done.stderr


def test_what_is_watched_is_told_line_by_line(run: Run, answering: Answering) -> None:
    lines = [{"trace": line()}, {}, {"trace": line(OTHER, status="error")}]
    body = "".join(json.dumps(each) + "\n" for each in lines).encode()
    answering.answer("GET", f"{OWN}/traces/live", body=body)
    done = run("trace", "watch", "--json")
    assert [json.loads(each)["traceId"] for each in done.stdout.splitlines()] == [TRACE, OTHER]
    done = run("trace", "watch", "--tool", "refund")
    assert "error" in done.stdout and "The platform ended it" in done.output
    assert queries(answering, "/traces/live")[1] == {"tool": ["refund"]}


def test_costs_name_what_has_no_price(run: Run, answering: Answering) -> None:
    rows = [
        {"key": "gpt-4o", "modelCalls": 2, "inputTokens": 9, "outputTokens": 1, "cost": 12.5},
        {"key": "ours", "modelCalls": 1, "inputTokens": 9, "outputTokens": 1, "cost": None},
    ]
    report = {"since": AT, "until": AT, "by": "model", "currency": "USD", "rows": rows,
              "total": 12.5, "unpriced": ["ours"], "partial": False}  # fmt: skip
    answering.answer("GET", f"{OWN}/model-costs", report)
    done = run("trace", "costs")
    assert done.exit_code == 0, done.output
    assert "Total $12.50" in done.stdout
    assert "Without a known price: ours." in done.stderr
    assert queries(answering, "/model-costs") == [{"by": ["model"], "since": ["24h"]}]


def _point(count: int) -> dict[str, Any]:
    return {"at": AT, "count": count, "errors": 0, "p50Ms": 10.0 if count else None, "p95Ms": None,
            "p99Ms": None, "inputTokens": 0, "outputTokens": 0, "cost": None}  # fmt: skip


def test_a_series_is_a_row_a_step_or_a_row_a_group(run: Run, answering: Answering) -> None:
    groups = [{"group": "gpt-4o", "total": _point(3), "points": [_point(0), _point(3)]}]
    document = {"since": AT, "until": AT, "stepSeconds": 60, "groups": groups}
    answering.answer("GET", f"{OWN}/trace-series", document)
    assert len(run("trace", "series").stdout.splitlines()) == 3
    done = run("trace", "series", "--by", "model", "--measured", "model-calls", "--step", "5m")
    assert len(done.stdout.splitlines()) == 2
    assert queries(answering, "/trace-series")[1] == {
        "by": ["model"], "measured": ["model_calls"], "since": ["24h"], "step": ["5m"],
    }  # fmt: skip


def test_numbers_read_well() -> None:
    assert [shown.duration(ms) for ms in (None, 0.25, 12, 1_500, 150_000)] == [
        "-", "0.25 ms", "12 ms", "1.5 s", "2.5 min",
    ]  # fmt: skip
    assert [shown.dollars(cost) for cost in (None, 0.0, 0.000076, 0.0038, 12.5, 1234.5)] == [
        "-", "$0.00", "$0.000076", "$0.0038", "$12.50", "$1,234.50",
    ]  # fmt: skip
