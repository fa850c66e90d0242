"""What the platform answers of forks, made up: beside the trace of console_answers.py."""

from typing import Any

from console_answers import AGENT, SESSION, TRACE, ago, span_id
from console_doubles import FIRST, PlatformDouble

FORK = "fork-00112233445566778899aabbccddeeff"
MODEL_STEP, TOOL_STEP, INNER, TURN_STEP = span_id(5), span_id(7), span_id(6), span_id(1)
FORKING = f"/console/traces/{TRACE}/spans/{MODEL_STEP}/fork"
REASON = "what was said here was not captured: set the tag freehold:content-capture = on"

_PAYLOAD = '{"prompt": "A weekend in Lisbon, not above 400 euros."}'
_ASKED = '{"messages": [{"role": "user", "content": "A weekend in Lisbon."}], "temperature": 0}'
_SAID = "I found a fare for 162 euros.\nShall I look for a room?"
_SAYS = "I found a fare for 99 euros.\nShall I look for a room?\nThere is one for 80 euros."


def fork(**more: Any) -> dict[str, Any]:
    return {
        "forkId": FORK, "sessionId": FORK, "status": "COMPLETED", "reason": "", "notes": [],
        "agentId": AGENT, "endpoint": "DEFAULT", "recordedVersion": "2", "version": "3",
        "traceId": TRACE, "spanId": MODEL_STEP, "recordedSessionId": SESSION,
        "step": {"kind": "model", "name": "chat claude-sonnet-4-5", "turn": 1, "position": 1},
        "change": {"model": "qwen3", "system": "Be brief."}, "until": "turn",
        "turns": [{"number": 1, "recordedTraceId": TRACE, "traceId": f"{1:032x}",
                   "status": "COMPLETED"}],
        "calls": {"recorded": 2, "given": 1, "live": 2, "differing": 1, "waiting": 0},
        "createdAt": ago(minutes=2), "createdBy": f"arn:aws:iam::{FIRST}:user/ada",
        "startedAt": ago(minutes=2), "endedAt": ago(minutes=1),
        "recordedAt": ago(minutes=4), **more,
    }  # fmt: skip


def view(span: str, answered: str, **more: Any) -> dict[str, Any]:
    return {
        "spanId": span, "traceId": TRACE, "startedAt": ago(minutes=2), "durationMs": 1702.5,
        "status": "ok", "model": "claude-sonnet-4-5", "asked": _ASKED, "answered": answered,
        "inputTokens": 1840, "outputTokens": 212, "cost": 0.0087, **more,
    }  # fmt: skip


def row(kind: str, name: str, source: str, verdict: str, *views: Any) -> dict[str, Any]:
    recorded, made = views
    for side in views:
        if side and kind != "model":
            side["model"] = ""
    return {"kind": kind, "name": name, "source": source, "verdict": verdict,
            "recorded": recorded, "fork": made}  # fmt: skip


def comparison(**more: Any) -> dict[str, Any]:
    totals = {"durationMs": 4210.0, "modelCalls": 2, "toolCalls": 2, "inputTokens": 3680,
              "outputTokens": 424, "cost": 0.0148}  # fmt: skip
    fares = '{"content": [{"type": "text", "text": "162 euros"}]}'
    asked = _ASKED.replace("weekend", "week")
    return {
        "fork": fork(), "truncated": False, "firstDifference": {"turn": 1, "row": 2},
        "turns": [{
            "number": 1,
            "payload": {"recorded": _PAYLOAD, "fork": _PAYLOAD},
            "answer": {"recorded": _SAID, "fork": _SAYS},
            "rows": [
                row("turn", "invoke_agent planner", "", "differs",
                    view(TURN_STEP, _SAID, asked=_PAYLOAD, durationMs=4210.0),
                    view("e" * 16, _SAYS, asked=_PAYLOAD, durationMs=2950.0)),
                row("memory", "search_memory trips", "live", "same",
                    view(span_id(4), "", asked="", durationMs=21.4),
                    view("a" * 16, "", asked="", durationMs=19.0)),
                row("model", "chat", "live", "differs",
                    view(MODEL_STEP, _SAID), view("b" * 16, _SAYS, model="qwen3", asked=asked)),
                row("tool", "fares___search", "given", "differs",
                    view(TOOL_STEP, fares), view("c" * 16, fares.replace("162", "99"))),
                row("inner", "execute_tool book_room", "live", "only_recorded",
                    view(span_id(12), ""), None),
                row("model", "chat", "live", "only_fork", None, view("d" * 16, _SAYS)),
            ],
        }],
        "totals": {"recorded": totals, "fork": {
            **totals, "durationMs": 2950.0, "inputTokens": 1900, "cost": None}},
        **more,
    }  # fmt: skip


def point(**more: Any) -> dict[str, Any]:
    return {
        "possible": True, "reason": "", "turns": 3, "callsBefore": 2, "forks": 1, "notes": [],
        "step": {"kind": "model", "name": "chat claude-sonnet-4-5", "turn": 1, "position": 3},
        "changes": ["model", "system", "prompt", "policyEngineId"], **more,
    }  # fmt: skip


def refused(reason: str = REASON) -> dict[str, Any]:
    return point(possible=False, reason=reason, step=None, changes=[], forks=0)


def fill_forks(platform: PlatformDouble) -> None:
    """After `fill` of console_answers.py."""
    spans = f"GET /freehold/v1/traces/{TRACE}/spans"
    tool = {"kind": "tool", "name": "fares___search", "turn": 1, "position": 2}
    turn = {"kind": "turn", "name": "invoke_agent planner", "turn": 1, "position": 0}
    platform.answers |= {
        "GET /freehold/v1/forks": {"forks": [
            fork(), fork(forkId=FORK[:-1] + "0", status="RUNNING", change={}),
            fork(forkId=FORK[:-1] + "1", status="DIVERGED", step=tool,
                 change={"toolAnswer": "99 euros"})], "nextToken": None},
        f"GET /freehold/v1/forks/{FORK}": fork(),
        f"GET /freehold/v1/forks/{FORK}/comparison": comparison(),
        f"DELETE /freehold/v1/forks/{FORK}": lambda *_: None,
        "POST /freehold/v1/forks": lambda body, _: fork(status="PENDING", change=body["change"]),
        f"{spans}/{MODEL_STEP}/fork-point": point(),
        f"{spans}/{TOOL_STEP}/fork-point": point(
            step=tool, changes=["toolAnswer", "model", "system", "policyEngineId"]),
        f"{spans}/{TURN_STEP}/fork-point": point(
            step=turn, callsBefore=0, changes=["payload", "model", "system", "policyEngineId"]),
        f"{spans}/{INNER}/fork-point": refused("it ran inside the agent; take the model call"),
        "GET /policy-engines": {"policyEngines": [
            {"policyEngineId": "strict-0123456789", "name": "strict", "status": "ACTIVE"},
            {"policyEngineId": "gone-0123456789", "name": "gone", "status": "DELETING"}]},
    }  # fmt: skip
