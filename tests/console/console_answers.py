"""What the platform's own API answers, made up for pages: an agent, its traces, a session."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from console_doubles import FIRST, PlatformDouble

AGENT = "planner-a1B2c3D4e5"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SESSION = "trip-to-lisbon-000000000000000000001"
ARN = f"arn:aws:bedrock-agentcore:us-west-2:{FIRST}:runtime/{AGENT}"
NOW = datetime.now(UTC)


def ago(**span: float) -> str:
    return (NOW - timedelta(**span)).isoformat()


def span_id(number: int) -> str:
    return f"{number:016x}"


def span(number: int, name: str, operation: str, depth: int, **more: Any) -> dict[str, Any]:
    """`at` and `ms`: when it began, in milliseconds of its trace, and how long it took."""
    read = {
        "family": "gen_ai", "mapper": 1, "operation": operation, **more.pop("read", {}),
    }  # fmt: skip
    began = datetime.fromisoformat(ago(minutes=4)) + timedelta(milliseconds=more.pop("at", 0))
    return {
        "traceId": TRACE, "spanId": span_id(number), "name": name, "kind": "internal",
        "status": "unset", "origin": "agent", "startedAt": began.isoformat(),
        "durationMs": more.pop("ms", 10.0), "agentId": AGENT, "agentVersion": "3",
        "sessionId": SESSION, "user": "ada", "depth": depth, "is": read, **more,
    }  # fmt: skip


_MODEL = {"provider": "anthropic", "model": "claude-sonnet-4-5", "tokens": {
    "input": 1840, "output": 212, "cacheRead": 1024, "cacheWrite": 0, "reasoning": 96}}  # fmt: skip
_SAID = {
    "captured": True,
    "content": {
        "system": [{"type": "text", "text": "You plan journeys. Ask before you book."}],
        "input": [{"role": "user", "parts": [
            {"type": "text", "text": "A weekend in Lisbon, not above 400 euros."}]}],
        "output": [{"role": "assistant", "finish_reason": "tool_calls", "parts": [
            {"type": "reasoning", "text": "Fares first: they decide what is left for a room."},
            {"type": "tool_call", "id": "call_7", "name": "fares___search",
             "arguments": {"to": "LIS", "days": 2, "euros_max": 180}}]}],
    },
}  # fmt: skip

SPANS = [
    span(1, "invoke_agent planner", "invoke_agent", 0, ms=4210.0, origin="platform",
         kind="server", read={"captured": True, "content": {
             "inputValue": {"prompt": "A weekend in Lisbon, not above 400 euros."},
             "outputValue": {"answer": "I found a fare for 162 euros ..."}}}),
    span(2, "sandbox start", "", 1, ms=38.2, origin="platform"),
    span(3, "invoke_agent planner", "invoke_agent", 1, at=41, ms=4150.0, read={"captured": True}),
    span(4, "search_memory trips", "search_memory", 2, at=44, ms=21.4, origin="platform",
         read={"captured": True, "memory": {"memoryId": "trips-x1Y2z3A4b5",
               "namespaces": ["/actors/ada"], "query": "preferences of ada",
               "recordIds": ["mem-11", "mem-27"]}}),
    span(5, "chat claude-sonnet-4-5", "chat", 2, at=70, ms=1702.5, cost=0.0087,
         read={**_MODEL, **_SAID, "finishReasons": ["tool_calls"], "metered": True}),
    span(6, "execute_tool fares___search", "execute_tool", 2, at=1780, ms=640.0,
         read={"captured": True, "tool": {"name": "fares___search", "callId": "call_7",
               "arguments": {"to": "LIS", "days": 2, "euros_max": 180},
               "result": {"fares": [{"carrier": "TP", "euros": 162}]}}}),
    span(7, "gateway tools/call fares___search", "execute_tool", 3, at=1790, ms=620.0,
         origin="platform", kind="server", read={"tool": {"name": "fares___search"}}),
    span(8, "policy decision", "policy", 4, at=1794, ms=1.9, origin="platform",
         read={"policy": {"decision": "allow", "policies": ["fares_below_200"],
                          "mode": "ENFORCE"}}),
    span(9, "credential fares-api", "credential", 4, at=1797, ms=3.3, origin="platform",
         read={"credential": "fares-api"}),
    span(10, "POST fares.example.com", "", 4, at=1802, ms=596.0, origin="platform",
         kind="client"),
    span(11, "chat claude-sonnet-4-5", "chat", 2, at=2440, ms=1490.0, cost=0.0061,
         read={**_MODEL, "captured": True, "content": {"output": [{"role": "assistant",
               "finish_reason": "stop", "parts": [{"type": "text",
               "text": "I found a fare for 162 euros. Shall I look for a room?"}]}]}}),
    span(12, "execute_tool book_room", "execute_tool", 2, at=3950, ms=212.0, status="error",
         message="AccessDeniedException: denied by policy no_booking_unasked",
         read={"tool": {"name": "book_room"}, "errorType": "AccessDeniedException"},
         exceptions=[{"name": "exception", "at": ago(minutes=4), "attributes": {
             "exception.type": "AccessDeniedException",
             "exception.message": "denied by policy no_booking_unasked"}}]),
]  # fmt: skip


def raw(one: Mapping[str, Any]) -> dict[str, Any]:
    """As GetSpan has it, with what came."""
    return {
        **one,
        "raw": {
            "attributes": {
                "gen_ai.operation.name": one["is"]["operation"], "gen_ai.agent.id": AGENT,
                "server.address": "127.0.0.1", "server.port": 7400,
            },
            "events": [{"name": "gen_ai.choice", "at": one["startedAt"],
                        "attributes": {"index": 0}}],
            "links": [],
            "resource": {"service.name": "planner", "telemetry.sdk.language": "python"},
        },
    }  # fmt: skip


def trace_line(number: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "traceId": TRACE if not number else f"{number:032x}",
        "name": "invoke_agent planner", "startedAt": ago(minutes=4 + 7 * number),
        "durationMs": 4210.0 + 130 * number, "status": "error" if number % 3 == 0 else "ok",
        "complete": True, "agentId": AGENT, "agentVersion": "3", "sessionId": SESSION,
        "user": "ada", "spans": 12, "errors": 1 if number % 3 == 0 else 0, "modelCalls": 2,
        "toolCalls": 2, "inputTokens": 3680, "outputTokens": 424, "cost": 0.0148,
        "models": ["claude-sonnet-4-5"], **more,
    }  # fmt: skip


def long_trace(count: int) -> list[dict[str, Any]]:
    """A tree of that many spans, four deep."""
    found = [span(1, "invoke_agent crawler", "invoke_agent", 0, ms=count * 2.0)]
    for number in range(2, count + 1):
        depth = 1 + (number % 4)
        operation = ("chat", "execute_tool", "", "policy")[number % 4]
        name = f"step {number}"
        found.append(span(number, name, operation, depth, at=number * 2.0, ms=1.8))
    return found


def series(window_hours: int = 24, points: int = 48, groups: bool = False) -> dict[str, Any]:
    chance = random.Random(7)
    made: list[dict[str, Any]] = []
    for i in range(points):
        count = max(0, int(20 + 15 * chance.random() * (1 + (i % 24) / 8) - 12))
        made.append({
            "at": ago(hours=window_hours * (points - i) / points), "count": count,
            "errors": count // 9, "p50Ms": 800 + 400 * chance.random() if count else None,
            "p95Ms": 2400 + 900 * chance.random() if count else None, "p99Ms": 5000.0,
            "inputTokens": count * 1900, "outputTokens": count * 240, "cost": count * 0.011,
        })  # fmt: skip
    total = {
        "at": ago(hours=window_hours), "count": sum(p["count"] for p in made),
        "errors": sum(p["errors"] for p in made), "p50Ms": 940.0, "p95Ms": 3120.0,
        "p99Ms": 5200.0, "inputTokens": sum(p["inputTokens"] for p in made),
        "outputTokens": sum(p["outputTokens"] for p in made),
        "cost": sum(p["cost"] for p in made),
    }  # fmt: skip
    named = [AGENT, "summarizer-z9Y8x7W6v5"] if groups else [""]
    return {
        "since": ago(hours=window_hours), "until": ago(), "stepSeconds": 1800,
        "groups": [{"group": name, "total": total, "points": made} for name in named],
    }  # fmt: skip


def live_session(**more: Any) -> dict[str, Any]:
    return {
        "sessionId": SESSION, "sandboxId": "b-1", "runtimeId": AGENT, "runtimeName": "planner",
        "endpoint": "DEFAULT", "version": 3, "status": "READY", "tier": "container",
        "start": "forked", "startNote": "", "user": "ada", "startedAt": ago(minutes=12),
        "lastUsedAt": ago(minutes=4), "endedAt": None, "endReason": None, "invocations": 3,
        "metering": "measured", "cpuSeconds": 1.27, "memoryGbSeconds": 22.4, "cost": 0.00042,
        **more,
    }  # fmt: skip


def session_line() -> dict[str, Any]:
    return {
        "sessionId": SESSION, "agentId": AGENT, "user": "ada", "startedAt": ago(minutes=18),
        "endedAt": ago(minutes=4), "traces": 3, "errors": 1, "modelCalls": 6, "toolCalls": 5,
        "inputTokens": 11_040, "outputTokens": 1272, "cost": 0.0444,
    }  # fmt: skip


def explanation() -> dict[str, Any]:
    def step(kind: str, sure: str, why: str, of: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "kind": kind, "sure": sure, "why": why, "spanId": of["spanId"], "name": of["name"],
            "origin": of["origin"], "startedAt": of["startedAt"],
            "durationMs": of["durationMs"], **more,
        }  # fmt: skip

    said = _SAID["content"]
    assert isinstance(said, dict)
    return {
        "span": SPANS[5],
        "steps": [
            step("request", "tree", "what the agent was asked", SPANS[0], messages=said["input"]),
            step("memory", "time", "read before the model was called", SPANS[3],
                 memory=SPANS[3]["is"]["memory"]),
            step("model_call", "id", "it asked for tool call call_7", SPANS[4],
                 model="claude-sonnet-4-5", reasoning=["Fares first."], said=said["output"],
                 messages=said["input"]),
            step("policy", "tree", "decided within the call", SPANS[7],
                 policy=SPANS[7]["is"]["policy"]),
            step("credential", "tree", "used within the call", SPANS[8], credential="fares-api"),
            step("explained", "id", "this is what is explained", SPANS[5],
                 tool=SPANS[5]["is"]["tool"]),
        ],
        "missing": ["The order of two steps is known by time alone."],
    }  # fmt: skip


def fill(platform: PlatformDouble, spans: list[dict[str, Any]] | None = None) -> None:
    """All that the pages of agents, traces and sessions ask for."""
    shown = SPANS if spans is None else spans
    runtime = {
        "agentRuntimeArn": ARN, "agentRuntimeId": AGENT, "agentRuntimeVersion": "3",
        "agentRuntimeName": "planner", "description": "Plans journeys", "status": "READY",
        "lastUpdatedAt": ago(hours=5),
    }  # fmt: skip
    other = {
        **runtime, "agentRuntimeId": "summarizer-z9Y8x7W6v5", "agentRuntimeName": "summarizer",
        "description": "", "status": "CREATE_FAILED",
    }  # fmt: skip
    endpoint = {
        "name": "DEFAULT", "liveVersion": "3", "targetVersion": "3", "status": "READY",
        "agentRuntimeArn": ARN, "agentRuntimeEndpointArn": f"{ARN}/runtime-endpoint/DEFAULT",
        "id": "DEFAULT", "createdAt": ago(days=2), "lastUpdatedAt": ago(hours=5),
    }  # fmt: skip
    one = f"/freehold/v1/traces/{TRACE}"
    lines = [trace_line(number) for number in range(9)]
    platform.answers |= {
        "POST /runtimes/": {"agentRuntimes": [runtime, other]},
        f"GET /runtimes/{AGENT}/": {
            **runtime, "createdAt": ago(days=2),
            "networkConfiguration": {"networkMode": "PUBLIC"},
            "protocolConfiguration": {"serverProtocol": "HTTP"},
        },
        f"POST /runtimes/{AGENT}/versions/": {"agentRuntimes": [
            {**runtime, "agentRuntimeVersion": str(number)} for number in (3, 2, 1)]},
        f"POST /runtimes/{AGENT}/runtime-endpoints/": {"runtimeEndpoints": [
            endpoint, {**endpoint, "name": "prod", "liveVersion": "2", "targetVersion": "3",
                       "status": "UPDATING"}]},
        f"GET /freehold/v1/runtimes/{AGENT}/logs": [
            {"time": ago(minutes=4), "source": SESSION, "line": f"step {i}: looking for fares"}
            for i in range(30)],
        "GET /freehold/v1/trace-series": lambda _, query: series(groups="by" in query),
        "GET /freehold/v1/model-costs": {
            "since": ago(days=1), "until": ago(), "by": "model", "currency": "USD",
            "rows": [
                {"key": "claude-sonnet-4-5", "modelCalls": 812, "inputTokens": 1_480_000,
                 "outputTokens": 188_000, "cost": 7.26},
                {"key": "local/qwen3", "modelCalls": 44, "inputTokens": 80_000,
                 "outputTokens": 9000, "cost": None}],
            "total": 7.26, "unpriced": ["local/qwen3"], "partial": False,
        },
        "GET /freehold/v1/sessions": {"sessions": [
            live_session(),
            live_session(sessionId="trip-to-oslo-00000000000000000000002", status="ENDED",
                         endedAt=ago(minutes=40), endReason="idle", startedAt=ago(hours=2))],
            "nextToken": None},
        "GET /freehold/v1/traces": {"traces": lines, "nextToken": "t-2"},
        one.replace("/freehold", "GET /freehold"): {
            "trace": trace_line(spans=len(shown)), "spans": shown, "truncated": False},
        **{f"GET {one}/spans/{each['spanId']}": raw(each) for each in shown},
        **{f"GET {one}/spans/{each['spanId']}/explanation": explanation() for each in shown
           if each["is"]["operation"] == "execute_tool"},
        "GET /freehold/v1/traced-sessions": {"sessions": [session_line()]},
        f"GET /freehold/v1/traced-sessions/{SESSION}": {
            "session": session_line(), "truncated": False,
            "traces": [trace_line(), trace_line(1), trace_line(2)]},
    }  # fmt: skip
    for number in (1, 2):
        platform.answers[f"GET /freehold/v1/traces/{number:032x}"] = platform.answers[
            f"GET /freehold/v1/traces/{TRACE}"
        ]
