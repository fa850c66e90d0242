"""What a tool's caller is told: results of our own, and labels on those of others."""

from typing import Any

from freehold.ports.mcp import REFUSED
from freehold.ports.targets import Json, TargetFailed
from freehold.services.gateway.model import SEPARATOR

UNTRUSTED = "freehold/untrusted"
"""In a result's `_meta`: the text comes from a target, and is data, not instructions."""
TARGET = "freehold/target"
STATUS = "freehold/upstream-status"
UNAVAILABLE = "freehold/unavailable"
"""In a list's `_meta`: targets of which nothing could be listed, with the reason."""


_AWAY = frozenset({502, 503, 504})


def wrong(text: str, **meta: Any) -> Json:
    """Something that a model can act on."""
    result: Json = {"content": [{"type": "text", "text": text}], "isError": True}
    if meta:
        result["_meta"] = meta
    return result


def refused(text: str, by: str) -> Json:
    """Nothing was called. `by` is for the audit, which has no texts of errors."""
    return wrong(text, **{REFUSED: by})


def failed(target: str, error: TargetFailed) -> Json:
    meta: Json = {TARGET: target}
    if error.status is not None:
        meta[STATUS] = error.status
    return wrong(f"{target}: {error.message}", **meta)


def named_task(result: Json, target: str) -> None:
    """A task of one target among several: its id says whose it is."""
    task = result.get("task")
    if isinstance(task, dict) and isinstance(task.get("taskId"), str):
        task["taskId"] = f"{target}{SEPARATOR}{task['taskId']}"
    if result.get("resultType") == "task" and isinstance(result.get("taskId"), str):
        result["taskId"] = f"{target}{SEPARATOR}{result['taskId']}"


def labelled(result: Json, target: str) -> Json:
    """A target's own answer: which it is of, and that it is not ours."""
    said = result.get("_meta")
    meta: Json = {**(said if isinstance(said, dict) else {}), TARGET: target, UNTRUSTED: True}
    meta.pop(REFUSED, None)  # we say that, no target does
    result["_meta"] = meta
    return result


def is_away(result: Json) -> bool:
    """An answer of a server in front of the target's own, which is not there."""
    meta = result.get("_meta")
    return isinstance(meta, dict) and meta.get(STATUS) in _AWAY
