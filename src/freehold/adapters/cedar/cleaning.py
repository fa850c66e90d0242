"""A Cedar policy without the words around it that decide nothing."""

import json
import re
from typing import Any

import cedarpy

from freehold.adapters.cedar.statements import CedarStatements
from freehold.ports.policies import Uid
from freehold.ports.statements import Cleaned

_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*', re.DOTALL)
_ANNOTATION = re.compile(r'\s*@\s*\w+\s*(?:\(\s*"(?:[^"\\]|\\.)*"\s*\))?', re.DOTALL)


class CedarCleaning:
    """Implements `ports.statements.Cleaning`."""

    def clean(self, text: str) -> Cleaned:
        statement = CedarStatements().read(text)
        policy = _parsed(text)
        annotations = policy.pop("annotations", {})
        return Cleaned(
            text=_laid_out(text, policy),
            statement=statement,
            annotations={name: value or "" for name, value in annotations.items()},
            named=_named(policy),
        )


def _parsed(text: str) -> dict[str, Any]:
    """The one policy, in Cedar's JSON."""
    (policy,) = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values()
    found: dict[str, Any] = policy
    return found


def _laid_out(text: str, policy: dict[str, Any]) -> str:
    """As its author wrote it, where what is left says the same; else as Cedar prints its JSON."""
    bare = _COMMENT.sub(lambda token: token[1] or "", text)
    while (annotation := _ANNOTATION.match(bare)) is not None:
        bare = bare[annotation.end() :]
    try:
        same = _parsed(bare) == policy
    except ValueError:
        same = False
    if not same:
        whole = {"staticPolicies": {"policy0": policy}, "templates": {}, "templateLinks": []}
        bare = cedarpy.policies_from_json_str(json.dumps(whole))
    return str(cedarpy.format_policies(bare)).strip()


def _named(policy: dict[str, Any]) -> frozenset[Uid]:
    """A record may have members `type` and `id`, but those are expressions and never strings."""
    found: set[Uid] = set()
    waiting: list[Any] = [policy[part] for part in ("principal", "action", "resource")]
    waiting.extend(condition["body"] for condition in policy["conditions"])
    while waiting:
        match waiting.pop():
            case {"type": str(type), "id": str(id)}:
                found.add(Uid(type, id))
            case dict(members):
                waiting.extend(members.values())
            case list(items):
                waiting.extend(items)
    return frozenset(found)
