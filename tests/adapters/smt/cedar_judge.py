"""What the engine itself says of a policy and a request: the truth that proofs are held against."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import cedarpy
import msgspec

from freehold.ports.policies import Entity, PolicyRequest, Rule

_CONCERNED = "concerned: "
_FAILED = re.compile(r"policy `([^`]*)`")


class Verdict(NamedTuple):
    """`concerned`: the rules whose scope has room for the request, but for who it is that asks."""

    satisfied: frozenset[str]
    erred: frozenset[str]
    concerned: frozenset[str]


class Judge:
    """Each rule is asked as if it permitted, so that one answer names all that hold and all that
    fail: of several effects the engine would name only those that decide.

    A rule that does not fit the schema permits nothing, or forbids all that its scope covers.
    """

    def __init__(self, rules: Sequence[Rule], schema: Mapping[str, Any] | cedarpy.Schema) -> None:
        self._schema = (
            schema
            if isinstance(schema, cedarpy.Schema)
            else cedarpy.Schema.from_json_str(json.dumps(schema))
        )
        self._effects: dict[str, str] = {}
        self._void: set[str] = set()
        named = {}
        for rule in rules:
            parsed = json.loads(cedarpy.policies_to_json_str(rule.statement))["staticPolicies"]
            (policy,) = parsed.values()
            self._effects[rule.id] = policy["effect"]
            if not cedarpy.validate_policies(rule.statement, self._schema).validation_passed:
                self._void |= {rule.id} if policy["effect"] == "permit" else set()
                policy = {**policy, "conditions": []}
            named[rule.id] = {**policy, "effect": "permit"}
            named[_CONCERNED + rule.id] = {
                **named[rule.id],
                "principal": _kind_only(policy["principal"]),
                "conditions": [],
            }
        whole = {"staticPolicies": named, "templates": {}, "templateLinks": []}
        self._policies = cedarpy.PolicySet.from_json_str(json.dumps(whole))

    def of(self, request: PolicyRequest, entities: Sequence[Entity]) -> Verdict:
        answer = cedarpy.is_authorized(
            {
                "principal": request.principal._asdict(),
                "action": request.action._asdict(),
                "resource": request.resource._asdict(),
                "context": msgspec.json.encode(request.context).decode(),
            },
            self._policies,
            msgspec.json.encode([_entity(each) for each in entities]).decode(),
            self._schema,
        )
        errors = answer.diagnostics.errors
        assert answer.decision is not cedarpy.Decision.NoDecision, (errors, request)
        erred = [found[1] for found in map(_FAILED.search, errors) if found]
        assert len(erred) == len(errors), errors
        reasons = answer.diagnostics.reasons
        return Verdict(
            frozenset(each for each in reasons if not each.startswith(_CONCERNED)) - self._void,
            frozenset(erred),
            frozenset(
                each.removeprefix(_CONCERNED) for each in reasons if each.startswith(_CONCERNED)
            ),
        )

    def allows(self, verdict: Verdict, ids: Iterable[str] | None = None) -> bool:
        """Whether these rules together allow; a rule that forbids and fails forbids."""
        taken = self._effects if ids is None else {each: self._effects[each] for each in ids}
        forbids = {id for id, effect in taken.items() if effect == "forbid"}
        if forbids & (verdict.satisfied | verdict.erred):
            return False
        return bool((taken.keys() - forbids) & verdict.satisfied)


def _kind_only(clause: Mapping[str, Any]) -> dict[str, Any]:
    kind = clause.get("entity_type") or clause.get("entity", {}).get("type")
    if clause["op"] in ("==", "is"):
        return {"op": "is", "entity_type": kind}
    return {"op": "All"}


def _entity(entity: Entity) -> dict[str, Any]:
    return {
        "uid": entity.uid._asdict(),
        "attrs": entity.attributes,
        "tags": entity.tags,
        "parents": [parent._asdict() for parent in entity.parents],
    }
