"""Spans of a trace as pages show them: the platform's API has put them in the tree's order."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from freehold.console import words

KINDS = {
    "chat": "model", "text_completion": "model", "generate_content": "model",
    "embeddings": "model", "execute_tool": "tool", "invoke_agent": "agent",
    "create_agent": "agent", "invoke_workflow": "agent", "plan": "agent", "retrieval": "memory",
    "search_memory": "memory", "create_memory": "memory", "update_memory": "memory",
    "upsert_memory": "memory", "delete_memory": "memory", "policy": "policy",
    "credential": "credential",
}  # fmt: skip
"""Operations of the GenAI conventions, as the few kinds that have a colour."""

KIND_NAMES = {
    "model": "model call", "tool": "tool call", "agent": "agent", "memory": "memory",
    "policy": "policy decision", "credential": "credential", "other": "step",
}  # fmt: skip

Span = Mapping[str, Any]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A span in the tree. `left` and `width` are its place in the trace's time, in parts of a
    hundred; `depth` is that in the tree, 0 for a root. `parent`: others are below it."""

    id: str
    depth: int
    name: str
    kind: str
    left: float
    width: float
    ms: float
    failed: bool
    parent: bool
    note: str

    def compact(self) -> tuple[Any, ...]:
        """As static/console.js takes it: five thousand of them are one answer."""
        return (
            self.id, self.depth, self.name, self.kind, round(self.left, 3), round(self.width, 3),
            words.duration(self.ms), int(self.failed), int(self.parent), self.note,
        )  # fmt: skip


def kind_of(span: Span) -> str:
    return KINDS.get(str(_is(span).get("operation") or ""), "other")


def may_fork(span: Span) -> bool:
    """Whether it looks like a step that a session can be forked from. Of a tool or a model that the
    agent tells of itself the form says which step to take in its place."""
    kind = kind_of(span)
    mine = span.get("origin") == "platform"
    known = bool(span.get("agentId")) and bool(span.get("sessionId"))
    return known and (kind in ("model", "tool") or (kind == "agent" and mine))


def note_of(span: Span) -> str:
    """What is worth a word beside the name: a model and its tokens, a policy's answer."""
    read = _is(span)
    tokens = read.get("tokens") or {}
    taken = tokens.get("input", 0) + tokens.get("output", 0)
    model = str(read.get("model") or "")
    said = [] if model in str(span.get("name")) else [model]
    if taken:
        said.append(f"{words.number(taken)} tokens")
    if policy := read.get("policy"):
        said.append(str(policy.get("decision") or "").lower())
    return " \u00b7 ".join(said)


def rows(spans: Sequence[Span]) -> list[Row]:
    starts = [_seconds(span) for span in spans]
    ends = [start + span["durationMs"] / 1e3 for start, span in zip(starts, spans, strict=True)]
    began = min(starts, default=0.0)
    length = max(1e-6, max(ends, default=0.0) - began)
    depths = [int(span.get("depth", 0)) for span in spans]
    found = []
    for i, span in enumerate(spans):
        left = max(0.0, min(99.6, (starts[i] - began) / length * 100))
        found.append(
            Row(
                id=span["spanId"],
                depth=depths[i],
                name=str(span.get("name") or "unnamed"),
                kind=kind_of(span),
                left=left,
                width=max(0.4, min(100 - left, (ends[i] - starts[i]) / length * 100)),
                ms=span["durationMs"],
                failed=span.get("status") == "error",
                parent=i + 1 < len(spans) and depths[i + 1] > depths[i],
                note=note_of(span),
            )
        )
    return found


def _is(span: Span) -> Mapping[str, Any]:
    found: Mapping[str, Any] = span.get("is") or {}
    return found


def _seconds(span: Span) -> float:
    at = words.moment(span["startedAt"])
    return 0.0 if at is None else at.timestamp()
