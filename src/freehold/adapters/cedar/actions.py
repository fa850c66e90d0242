"""What a Cedar schema in JSON says of its actions: their groups, and who may do them to what."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from freehold.ports.policies import PolicyRefused, Uid


class Action(msgspec.Struct, frozen=True):
    """`groups` are all that it is in, however far. `principals` and `resources` are whole types;
    `context` is its schema. An action that applies to nothing is a mere group."""

    uid: Uid
    groups: frozenset[Uid]
    principals: frozenset[str]
    resources: frozenset[str]
    context: Mapping[str, Any]

    @property
    def applies(self) -> bool:
        return bool(self.principals and self.resources)


def read_actions(schema: Mapping[str, Any]) -> Mapping[Uid, Action]:
    """Raises PolicyRefused."""
    declared = {
        Uid(_in(space, "Action"), name): (space, action)
        for space, part in schema.items()
        for name, action in _members(part, "actions").items()
    }
    parents = {
        uid: [_parent(space, each) for each in action.get("memberOf") or ()]
        for uid, (space, action) in declared.items()
    }
    return {
        uid: _action(uid, space, action, _ancestors(uid, parents))
        for uid, (space, action) in declared.items()
    }


def only(schema: Mapping[str, Any], kept: frozenset[Uid]) -> dict[str, Any]:
    """The schema with the actions `kept`, and with all that are mere groups."""
    return {
        space: {
            **part,
            "actions": {
                name: action
                for name, action in _members(part, "actions").items()
                if "appliesTo" not in action or Uid(_in(space, "Action"), name) in kept
            },
        }
        for space, part in schema.items()
    }


def without_actions(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {space: {**part, "actions": {}} for space, part in schema.items()}


def _members(part: Any, name: str) -> Mapping[str, Any]:
    found = part.get(name) if isinstance(part, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(x, Mapping) for x in found.values()):
        raise PolicyRefused([f"the schema has no {name}"])
    return found


def _in(space: str, name: str) -> str:
    return f"{space}::{name}" if space and "::" not in name else name


def _parent(space: str, parent: Mapping[str, Any]) -> Uid:
    return Uid(_in(space, parent.get("type") or "Action"), parent["id"])


def _ancestors(uid: Uid, parents: Mapping[Uid, Sequence[Uid]]) -> frozenset[Uid]:
    found: set[Uid] = set()
    waiting = list(parents[uid])
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting.extend(parents.get(each, ()))
    return frozenset(found)


def _action(uid: Uid, space: str, action: Mapping[str, Any], groups: frozenset[Uid]) -> Action:
    applies = action.get("appliesTo") or {}
    return Action(
        uid,
        groups,
        frozenset(_in(space, name) for name in applies.get("principalTypes") or ()),
        frozenset(_in(space, name) for name in applies.get("resourceTypes") or ()),
        applies.get("context") or {},
    )
