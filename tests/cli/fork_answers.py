"""A fork and its comparison as the platform answers them, made up."""

from typing import Any

FORK = "fork-4a593617302ec5085312e542ed289fca"
TRACE, SPAN = "4a593617302ec5085312e542ed289fca", "b" * 16
AT = "2026-03-02T12:00:00+00:00"


def fork(**more: Any) -> dict[str, Any]:
    return {
        "forkId": FORK, "sessionId": FORK, "status": "COMPLETED", "reason": "", "notes": [],
        "agentId": "shop-0123456789", "endpoint": "DEFAULT", "recordedVersion": "3",
        "version": "4", "traceId": TRACE, "spanId": SPAN, "recordedSessionId": "s-1",
        "step": {"kind": "model", "name": "chat gpt-4o", "turn": 1, "position": 2},
        "change": {"model": "gpt-5"}, "until": "turn",
        "turns": [{"number": 1, "recordedTraceId": TRACE, "traceId": "c" * 32,
                   "status": "COMPLETED"}],
        "calls": {"recorded": 2, "given": 0, "live": 1, "differing": 0, "waiting": 0},
        "createdAt": AT, "createdBy": "arn:aws:iam::123456789012:user/anna", "startedAt": AT,
        "endedAt": AT, **more,
    }  # fmt: skip


def view(answered: str, **more: Any) -> dict[str, Any]:
    return {
        "spanId": SPAN, "traceId": TRACE, "startedAt": AT, "durationMs": 1500.0, "status": "ok",
        "model": "gpt-4o", "asked": "What is left?", "answered": answered, "inputTokens": 1200,
        "outputTokens": 80, "cost": 0.0038, **more,
    }  # fmt: skip


def row(name: str, source: str, verdict: str, recorded: Any, fork: Any) -> dict[str, Any]:
    kind, _, _ = name.partition(" ")
    kind = {"chat": "model", "execute_tool": "tool"}.get(kind, kind)
    for side in (recorded, fork):
        if side and kind != "model":
            side["model"] = ""
    return {"kind": kind, "name": name, "source": source, "verdict": verdict,
            "recorded": recorded, "fork": fork}  # fmt: skip


def comparison(**more: Any) -> dict[str, Any]:
    totals = {"durationMs": 1500.0, "modelCalls": 2, "toolCalls": 1, "inputTokens": 1200,
              "outputTokens": 80, "cost": 0.0038}  # fmt: skip
    prompt = '{"prompt": "What is left?"}'
    return {
        "fork": fork(),
        "turns": [{
            "number": 1,
            "payload": {"recorded": prompt, "fork": prompt},
            "answer": {"recorded": "Nine euros are left.", "fork": "Two euros are left."},
            "rows": [
                row("turn InvokeAgentRuntime", "", "differs", view("Nine euros are left."),
                    view("Two euros are left.", durationMs=900.0)),
                row("execute_tool orders___get", "recorded", "same", view("9"), view("9")),
                row("chat", "live", "differs", view("Nine euros are left."),
                    view("Two euros\x1b[2J are left.", model="gpt-5")),
                row("execute_tool mail___send", "live", "only_fork", None, view("sent")),
            ],
        }],
        "totals": {"recorded": totals, "fork": {**totals, "durationMs": 900.0, "cost": None}},
        "firstDifference": {"turn": 1, "row": 2}, "truncated": False, **more,
    }  # fmt: skip
