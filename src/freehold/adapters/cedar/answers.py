"""Requests as Cedar takes them, and its answers as decisions that fail closed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cedarpy
import msgspec

from freehold.ports.policies import Decision, Effect, Entity, Uid

INPUT_BYTES_MAX = 1 << 20
SECONDS_MAX = 1.0

_FAILED_POLICY = re.compile(r"policy `([^`]*)`")


def described(entities: Iterable[Entity]) -> bytes:
    return msgspec.json.encode([_entity(entity) for entity in entities])


def uid(name: Uid) -> dict[str, str]:
    return {"type": name.type, "id": name.id}


def failed(reason: str) -> Decision:
    return Decision(Effect.FORBID, (), (reason,))


def failed_policies(errors: Sequence[str]) -> Sequence[str | None]:
    """The id of the policy that each error is of, None where it does not say."""
    found = (_FAILED_POLICY.search(error) for error in errors)
    return [each[1] if each else None for each in found]


def renamed(error: str, ids: Mapping[str, str]) -> str:
    """With the id that its policy has outside, in place of its name in the engine's handle."""
    return _FAILED_POLICY.sub(lambda found: f"policy `{ids.get(found[1], found[1])}`", error, 1)


def judged(answer: cedarpy.AuthzResult, forbidding: Mapping[str, bool]) -> Decision:
    """Cedar skips a policy that fails. Of `forbidding` ones, and of an unknown one, it forbids; and
    nothing but the word Allow allows."""
    reasons = tuple(answer.diagnostics.reasons)
    errors = tuple(answer.diagnostics.errors)
    if any(id is None or forbidding.get(id, True) for id in failed_policies(errors)):
        return Decision(Effect.FORBID, reasons, errors)
    if answer.decision is cedarpy.Decision.Allow:
        return Decision(Effect.ALLOW, reasons, errors)
    if answer.decision is cedarpy.Decision.Deny and not reasons:
        return Decision(Effect.SILENT, (), errors)
    return Decision(Effect.FORBID, reasons, errors or (() if reasons else ("no decision",)))


def _entity(entity: Entity) -> dict[str, Any]:
    return {
        "uid": uid(entity.uid),
        "attrs": entity.attributes,
        "tags": entity.tags,
        "parents": [uid(parent) for parent in entity.parents],
    }
