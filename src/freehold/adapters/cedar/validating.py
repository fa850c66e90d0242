"""Each rule against the schema, at a cost that does not grow with rules times actions.

Cedar types a rule once for each action there is. Here each is checked with the actions that it can
speak of, and of actions that look alike to it with one: what its conditions make of an action
follows from the types of the attributes that they name, and, where they speak of the action itself,
from which of the actions and groups that they name it is, or is in.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cedarpy
import msgspec

from freehold.adapters.cedar.actions import Action, only
from freehold.adapters.cedar.parsing import ParsedRule
from freehold.ports.policies import Uid

PROBLEMS_MAX = 10
"""Of one rule."""
ACTIONS_MAX = 50
RULES_MAX = 50
"""Of what is checked in one go, unless one rule alone needs more actions."""

_OF_POLICY = re.compile(r"^for policy `policy(\d+)`, ")
_POSITION = re.compile(r"policy(\d+)")

Problems = Mapping[str, Sequence[str]]


def problems(
    rules: Sequence[ParsedRule], schema: Mapping[str, Any], actions: Mapping[Uid, Action]
) -> Problems:
    looks = _Looks(actions)
    found: dict[str, Sequence[str]] = {}
    for chunk, needed in _chunks([(rule, looks.needed(rule)) for rule in rules]):
        found |= _checked(chunk, only(schema, needed))
    return found


def _chunks(
    needs: Iterable[tuple[ParsedRule, frozenset[Uid]]],
) -> Iterable[tuple[Sequence[ParsedRule], frozenset[Uid]]]:
    rules: list[ParsedRule] = []
    actions: frozenset[Uid] = frozenset()
    for rule, needed in sorted(needs, key=lambda each: (len(each[1]), sorted(each[1]))):
        together = actions | needed
        grows = len(together) > max(ACTIONS_MAX, len(actions), len(needed))
        if rules and (grows or len(rules) == RULES_MAX):
            yield rules, actions
            rules, together = [], needed
        rules.append(rule)
        actions = together
    if rules:
        yield rules, actions


def _checked(rules: Sequence[ParsedRule], schema: Mapping[str, Any]) -> Problems:
    """Cedar names policies by their place in the text. A comment at a statement's end must not
    reach the next one."""
    parsed = cedarpy.Schema.from_json_str(msgspec.json.encode(schema).decode(), release_gil=True)
    text = "\n".join(rule.statement for rule in rules)
    result = cedarpy.validate_policies(text, parsed, release_gil=True)
    found: dict[str, dict[str, None]] = {}
    for error in result.errors:
        place = _POSITION.fullmatch(error.policy_id)
        if place is None or int(place[1]) >= len(rules):
            return _one_by_one(rules, schema, error.error)
        id = rules[int(place[1])].id
        found.setdefault(id, {})[_OF_POLICY.sub("", error.error)] = None
    if not result.validation_passed and not found:
        return _one_by_one(rules, schema, "it does not fit the schema")
    return {id: tuple(words)[:PROBLEMS_MAX] for id, words in found.items()}


def _one_by_one(rules: Sequence[ParsedRule], schema: Mapping[str, Any], words: str) -> Problems:
    """Where an error does not say whose it is."""
    if len(rules) == 1:
        return {rules[0].id: (words,)}
    found: dict[str, Sequence[str]] = {}
    for rule in rules:
        found |= _checked([rule], schema)
    return found


_Mentioned = tuple[frozenset[str], frozenset[str]]


class _Looks:
    """Which actions a rule must be checked with."""

    def __init__(self, actions: Mapping[Uid, Action]) -> None:
        self._actions = actions
        self._all = frozenset(uid for uid, action in actions.items() if action.applies)
        self._members: dict[Uid, set[Uid]] = {}
        for uid in self._all:
            for group in actions[uid].groups:
                self._members.setdefault(group, set()).add(uid)
        self._names = frozenset(
            name for uid in self._all for name in _attribute_names(actions[uid].context)
        )
        self._looks: dict[_Mentioned, Mapping[Uid, bytes]] = {}
        self._first: dict[object, frozenset[Uid]] = {}

    def needed(self, rule: ParsedRule) -> frozenset[Uid]:
        named = rule.literals.union(rule.actions or ()) & self._all
        mentioned = _mentioned(rule.policy["conditions"])
        if mentioned is None:
            return self._spoken(rule) | named
        names, whole = mentioned[0] & self._names, mentioned[1] & self._names
        literals = rule.literals if rule.of_action else frozenset[Uid]()
        key = rule.actions, rule.groups, names, whole, literals
        found = self._first.get(key)
        if found is None:
            spoken = self._spoken(rule)
            found = self._first[key] = self._one_of_each(spoken, (names, whole), literals)
        return found | named

    def _one_of_each(
        self, spoken: frozenset[Uid], mentioned: _Mentioned, literals: frozenset[Uid]
    ) -> frozenset[Uid]:
        if len(spoken) < 2:
            return spoken
        looks = self._looks.get(mentioned)
        if looks is None:
            looks = self._looks[mentioned] = {
                uid: _look(self._actions[uid], *mentioned) for uid in self._all
            }
        first: dict[object, Uid] = {}
        for uid in sorted(spoken):
            own = literals & {uid, *self._actions[uid].groups} if literals else literals
            first.setdefault((looks[uid], own), uid)
        return frozenset(first.values())

    def _spoken(self, rule: ParsedRule) -> frozenset[Uid]:
        if rule.actions is None:
            return self._all
        found: set[Uid] = set()
        for uid in rule.actions:
            found |= self._members.get(uid, set()) if rule.groups else set()
            if uid in self._all:
                found.add(uid)
        return frozenset(found)


def _look(action: Action, names: frozenset[str], whole: frozenset[str]) -> bytes:
    context = _projected(action.context, names, whole)
    return msgspec.json.encode([sorted(action.principals), sorted(action.resources), context])


def _projected(type: Any, names: frozenset[str], whole: frozenset[str]) -> Any:
    """The type with the attributes `names` only; those that are used as `whole` stay so. What is
    no record stays as it is."""
    if not isinstance(type, Mapping) or type.get("type") != "Record":
        return type
    return {
        name: [
            attribute.get("required", True),
            attribute if name in whole else _projected(attribute, names, whole),
        ]
        for name, attribute in sorted(type.get("attributes", {}).items())
        if name in names
    }


def _attribute_names(type: Any) -> Iterable[str]:
    if isinstance(type, Mapping) and type.get("type") == "Record":
        for name, attribute in type.get("attributes", {}).items():
            yield name
            yield from _attribute_names(attribute)


def _mentioned(conditions: Any) -> _Mentioned | None:
    """The attributes that conditions name, and those of them that are used other than to reach
    into them; None where the whole context is. Any word there counts as a name: one too many
    costs, one too few would be wrong."""
    names: set[str] = set()
    whole: set[str] = set()
    contexts = 0

    def visit(part: Any, reached_into: bool) -> None:
        nonlocal contexts
        if isinstance(part, str):
            names.add(part)
        elif isinstance(part, list):
            for each in part:
                visit(each, False)
        elif isinstance(part, dict):
            for operator, operand in part.items():
                contexts += operator == "Var" and operand == "context" and not reached_into
                if operator == "." and not reached_into:
                    whole.add(operand["attr"])
                if operator in (".", "has"):
                    names.add(operand["attr"])
                    visit(operand["left"], True)
                else:
                    visit(operand, False)

    visit(conditions, False)
    return None if contexts else (frozenset(names), frozenset(whole))
