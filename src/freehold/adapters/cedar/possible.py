"""What Cedar's partial evaluation leaves of a policy, read for one question: can it still hold?

Partial evaluation is experimental upstream, so that everything in its answer is checked for its
shape, and an answer of another shape is no answer. A wrong "it may" costs nothing: the call itself
is decided again.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import cedarpy

from freehold.adapters.cedar.answers import failed_policies
from freehold.ports.policies import Uid


class Verdict(Enum):
    NEVER = 0
    MAYBE = 1
    ALWAYS = 2
    """For one that forbids also: it holds or it fails, whatever is still unknown."""


class Odd(Exception):
    """An answer that partial evaluation should not give."""


def verdicts(
    handle: cedarpy.PolicySet,
    forbidding: Mapping[str, bool],
    entities: cedarpy.Entities,
    *,
    principal: Uid,
    resource: Uid,
    action: Uid | None,
) -> Mapping[str, Verdict]:
    """By the policy's id, with the context unknown, and the action where it is None. Raises Odd,
    and ValueError."""
    asked = {"principal": _written(principal), "resource": _written(resource), "context": None}
    if action is not None:
        asked["action"] = _written(action)
    answer = cedarpy.is_authorized_partial(asked, handle, entities)
    residuals = answer.residuals
    held = set(answer.diagnostics.reasons)
    erred = set(failed_policies(answer.diagnostics.errors))
    open_ = set(answer.diagnostics.nontrivial_residuals)
    if set(residuals) != set(forbidding) or not held | erred | open_ <= set(forbidding):
        raise Odd("partial evaluation speaks of other policies than it was given")
    return {
        id: Verdict.ALWAYS
        if id in held
        else (Verdict.ALWAYS if forbids else Verdict.NEVER)
        if id in erred
        else _left(residuals[id])
        if id in open_
        else Verdict.NEVER
        for id, forbids in forbidding.items()
    }


def _left(residual: Mapping[str, Any]) -> Verdict:
    conditions: Sequence[Mapping[str, Any]] = residual["conditions"]
    if any(_fails(each["body"], each["kind"] == "when") for each in conditions):
        return Verdict.NEVER
    if all(_fails(each["body"], each["kind"] != "when") for each in conditions):
        return Verdict.ALWAYS
    return Verdict.MAYBE


def _fails(expression: Any, wanted: bool) -> bool:
    """Whether the expression is certainly not `wanted`: it is the contrary, or it fails."""
    match expression:
        case {"Value": bool(value)}:
            return value is not wanted
        case {"!": {"arg": inner}}:
            return _fails(inner, not wanted)
        case {"&&": {"left": left, "right": right}}:
            either = _fails(left, wanted), _fails(right, wanted)
            return any(either) if wanted else all(either)
        case {"||": {"left": left, "right": right}}:
            either = _fails(left, wanted), _fails(right, wanted)
            return all(either) if wanted else any(either)
        case {"if-then-else": {"if": asked, "then": then, "else": other}}:
            return (_fails(asked, True) or _fails(then, wanted)) and (
                _fails(asked, False) or _fails(other, wanted)
            )
    return False


def _written(uid: Uid) -> str:
    """As in a policy's text; partial evaluation takes no other form."""
    quoted = "".join(
        f"\\{each}" if each in '"\\' else each if each.isprintable() else f"\\u{{{ord(each):x}}}"
        for each in uid.id
    )
    return f'{uid.type}::"{quoted}"'
