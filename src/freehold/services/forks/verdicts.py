"""What of two steps is the same, but for what is made anew each time. Pure."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from freehold.ports.spans import SpanRecord
from freehold.services.forks.content import ARGUMENTS, REQUEST, RESPONSE, RESULT
from freehold.services.forks.record import failed, text_of
from freehold.services.forks.views import ForkComparedTurn, ForkPlace, ForkSides, RowKind

# On the wires of models, made anew for every call, and so no difference.
_PASSING = frozenset({
    "id", "created", "created_at", "completed_at", "system_fingerprint", "tool_call_id", "call_id",
    "tool_use_id", "toolUseId", "response_id", "responseId", "item_id", "previous_response_id",
    "usage", "metrics", "service_tier",
})  # fmt: skip
# What tools are called with has members of any name.
_ARGUMENTS = frozenset({"arguments", "input", "args"})


class Step(NamedTuple):
    """`key` is what it is paired by, within its kind; `name` is for people."""

    kind: RowKind
    name: str
    key: str
    span: SpanRecord


def said_of(step: Step) -> tuple[str, str]:
    span = step.span
    if step.kind in ("tool", "inner"):
        return text_of(span, ARGUMENTS), text_of(span, RESULT)
    if step.kind == "memory":
        asked = text_of(span, "freehold.memory.query")
        found = span.attributes.get("freehold.memory.record_ids")
        return asked, msgspec.json.encode(found).decode() if found else ""
    # What a model said is told without the wire around it, of a stream put together.
    told = text_of(span, "gen_ai.output.messages") if step.kind == "model" else ""
    return text_of(span, REQUEST), told or text_of(span, RESPONSE)


def is_same(left: Step, right: Step) -> bool:
    if failed(left.span) != failed(right.span):
        return False
    with_ids = left.kind != "model"
    return all(
        _alike(one, other, with_ids=with_ids)
        for one, other in zip(said_of(left), said_of(right), strict=True)
    )


def _alike(one: str, other: str, *, with_ids: bool) -> bool:
    """Texts; of JSON it does not matter how it is written."""
    if one == other:
        return True
    try:
        left, right = msgspec.json.decode(one), msgspec.json.decode(other)
    except msgspec.DecodeError:
        return False
    return bool(left == right or (not with_ids and _lasting(left) == _lasting(right)))


def _lasting(value: Any) -> Any:
    """Without what is made anew each time."""
    if isinstance(value, dict):
        return {
            name: each if name in _ARGUMENTS and isinstance(each, dict) else _lasting(each)
            for name, each in value.items()
            if name not in _PASSING
        }
    if isinstance(value, list):
        return [_lasting(each) for each in value]
    return value


def first_difference(turns: Iterable[ForkComparedTurn], *, under_way: bool) -> ForkPlace | None:
    """Where the two part. A turn's own answer comes after all that it did; its payload before. Of a
    fork that is under way, what is missing may still come."""
    for turn in turns:
        answer: ForkPlace | None = None
        for number, row in enumerate(turn.rows):
            if row.verdict == "same" or (under_way and row.fork is None):
                continue
            place = ForkPlace(turn=turn.number, row=number)
            if row.kind != "turn" or (row.fork is not None and not _same_sides(turn.payload)):
                return place
            answer = place
        if answer is not None:
            return answer
    return None


def _same_sides(sides: ForkSides) -> bool:
    return _alike(sides.recorded, sides.fork, with_ids=True)
