"""Single policies as Cedar's parser has them, and what their words speak of."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import cedarpy
import msgspec

from freehold.adapters.cedar.splitting import check_depth
from freehold.ports.policies import PolicyRefused, Rule, Uid

NESTED_MAX = 400
"""Levels of Cedar's JSON: some 200 conditions in a row."""
NESTED_JSON_MAX = 100
"""Cedar writes more than it reads: it gives up on some 120 levels of its own JSON."""


class ParsedRule(msgspec.Struct, frozen=True, kw_only=True):
    """`actions` are those of its scope, None where it names none; where it does not say `==`, what
    is in them is meant too: `groups`. `policy` is Cedar's JSON of it without annotations.
    `literals` are the entities that its conditions name."""

    id: str
    statement: str
    policy: Mapping[str, Any]
    reason: str
    actions: frozenset[Uid] | None
    groups: bool
    of_action: bool
    """Whether its conditions speak of the action itself."""
    literals: frozenset[Uid]
    deep: bool
    """Whether Cedar does not read its own JSON of it; then it is taken as it was written."""

    @property
    def forbids(self) -> bool:
        return bool(self.policy["effect"] != "permit")

    def sliced(self, *, scope_only: bool = False) -> dict[str, Any]:
        """As it reads where its action is known to be one of its scope's."""
        kept = {**self.policy, "action": {"op": "All"}}
        return {**kept, "conditions": []} if scope_only else kept


def parse(rules: Sequence[Rule]) -> list[ParsedRule]:
    """Raises PolicyRefused with a problem for each that is not one static policy."""
    parsed: list[ParsedRule] = []
    problems: list[str] = []
    seen: set[str] = set()
    for rule in rules:
        try:
            if rule.id in seen or "`" in rule.id:
                raise PolicyRefused(["two policies have this id" if rule.id in seen else "bad id"])
            seen.add(rule.id)
            parsed.append(_parsed(rule))
        except PolicyRefused as error:
            problems.extend(f"{rule.id}: {problem}" for problem in error.problems)
    if problems:
        raise PolicyRefused(problems)
    return parsed


def _parsed(rule: Rule) -> ParsedRule:
    check_depth(rule.statement)
    try:
        found = json.loads(cedarpy.policies_to_json_str(rule.statement))
    except ValueError as error:
        raise PolicyRefused([str(error)]) from error
    except RecursionError:
        raise PolicyRefused(["its conditions are nested too deep"]) from None
    if found["templates"] or found["templateLinks"]:
        raise PolicyRefused(["a policy with ?principal or ?resource is a template, and no policy"])
    policies = list(found["staticPolicies"].values())
    if len(policies) != 1:
        raise PolicyRefused([f"it must be one policy, and it is {len(policies)}"])
    (policy,) = policies
    reason = policy.pop("annotations", {}).get("reason") or ""
    nodes, depth = _nodes(policy["conditions"])
    if depth > NESTED_MAX:
        raise PolicyRefused(["its conditions are nested too deep"])
    return ParsedRule(
        id=rule.id,
        statement=rule.statement,
        policy=policy,
        reason=reason,
        actions=_scope(policy["action"]),
        groups=policy["action"]["op"] == "in",
        of_action=any(node.get("Var") == "action" for node in nodes),
        literals=frozenset(
            Uid(node["__entity"]["type"], node["__entity"]["id"])
            for node in nodes
            if isinstance(node.get("__entity"), dict)
        ),
        deep=depth > NESTED_JSON_MAX,
    )


def _scope(action: Mapping[str, Any]) -> frozenset[Uid] | None:
    if action["op"] == "All":
        return None
    named = action.get("entities") or ([action["entity"]] if "entity" in action else [])
    return frozenset(Uid(each["type"], each["id"]) for each in named)


def _nodes(conditions: Any) -> tuple[list[dict[str, Any]], int]:
    """All objects of the conditions, and how deep these are nested."""
    found: list[dict[str, Any]] = []
    level, depth = [conditions], 0
    while level:
        depth += 1
        found.extend(part for part in level if isinstance(part, dict))
        level = [
            each
            for part in level
            if isinstance(part, dict | list)
            for each in (part.values() if isinstance(part, dict) else part)
        ]
    return found, depth
