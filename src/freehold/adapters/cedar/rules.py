"""Rules that come and go one by one, compiled against a schema and sliced by action."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import cedarpy
import msgspec

from freehold.adapters.cedar.actions import Action, read_actions, without_actions
from freehold.adapters.cedar.answers import (
    INPUT_BYTES_MAX,
    described,
    failed,
    failed_policies,
    judged,
    renamed,
    uid,
)
from freehold.adapters.cedar.parsing import ParsedRule, parse
from freehold.adapters.cedar.possible import Odd, Verdict, verdicts
from freehold.adapters.cedar.validating import problems
from freehold.ports.policies import (
    Decision,
    Effect,
    Entity,
    PolicyRefused,
    PolicyRequest,
    Rule,
    Uid,
)

SCHEMA_BYTES_MAX = 4 << 20
RULES_BYTES_MAX = 16 << 20
SCHEMAS_KEPT_MAX = 16
SLICED_RULES_MAX = 50_000
"""Of all slices that one set keeps, each rule counted as often as it is in one."""
ENTITIES_KEPT_MAX = 256
EVALUATIONS_MAX = 10_000
"""Of rules that ask for the action, for one list: some 20 us each."""
EVALUATIONS_A_CALL = 5
"""What a call of the engine costs besides, in evaluations."""


def compile_rules(
    rules: Sequence[Rule], schema: Mapping[str, Any], seconds_max: float
) -> "CedarRules":
    if sum(len(rule.statement) for rule in rules) > RULES_BYTES_MAX:
        raise PolicyRefused([f"the policies have at most {RULES_BYTES_MAX} characters"])
    parsed = parse(rules)
    try:
        actions = read_actions(schema)
        whole, typed = _schema(schema), _schema(without_actions(schema))
        unfit = problems(parsed, schema, actions)
    except PolicyRefused:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PolicyRefused([f"schema: {error}"]) from error
    return CedarRules(
        parsed,
        unfit,
        actions,
        schema=whole,
        types=typed,
        seconds_max=seconds_max,
    )


_schemas: OrderedDict[bytes, cedarpy.Schema] = OrderedDict()


def _schema(schema: Mapping[str, Any]) -> cedarpy.Schema:
    """Parsing takes 0.1 ms an action, and one schema serves several sets of rules."""
    written = msgspec.json.encode(schema)
    if len(written) > SCHEMA_BYTES_MAX:
        raise PolicyRefused([f"the schema has at most {SCHEMA_BYTES_MAX} bytes"])
    digest = hashlib.sha256(written).digest()
    found = _schemas.pop(digest, None)
    if found is None:
        found = cedarpy.Schema.from_json_str(written.decode(), release_gil=True)
    _schemas[digest] = found
    if len(_schemas) > SCHEMAS_KEPT_MAX:
        _schemas.popitem(last=False)
    return found


class _Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The rules that can speak of an action, without the scope that says so."""

    handle: cedarpy.PolicySet
    ids: Mapping[str, str]
    """The rules' ids, by the names that they have in `handle`."""
    forbidding: Mapping[str, bool]
    """By those names."""
    of_action: bool

    def renamed(self, decision: Decision) -> Decision:
        return Decision(
            decision.effect,
            tuple(self.ids.get(name, name) for name in decision.policies),
            tuple(renamed(error, self.ids) for error in decision.errors),
        )


class _Asked(msgspec.Struct, frozen=True):
    entities_json: bytes
    principal: Uid
    resource: Uid


class _Told:
    """Places of rules: those that forbid whatever comes, those that may still permit, and all of
    which partial evaluation leaves something open."""

    def __init__(self) -> None:
        self.blocking: set[int] = set()
        self.opening: set[int] = set()
        self.maybe: set[int] = set()


class CedarRules:
    """Implements `ports.policies.CompiledRules`. What it keeps grows with use, up to a limit; it
    may be used by one thread at a time."""

    def __init__(
        self,
        rules: Sequence[ParsedRule],
        problems: Mapping[str, Sequence[str]],
        actions: Mapping[Uid, Action],
        *,
        schema: cedarpy.Schema,
        types: cedarpy.Schema,
        seconds_max: float,
    ) -> None:
        self.problems: Mapping[str, Sequence[str]] = problems
        self.reasons: Mapping[str, str] = {rule.id: rule.reason for rule in rules if rule.reason}
        self._rules = [rule for rule in rules if rule.forbids or rule.id not in problems]
        self._actions, self._schema, self._types = actions, schema, types
        self._seconds_max = seconds_max
        self._everywhere = [n for n, rule in enumerate(self._rules) if rule.actions is None]
        self._naming: dict[Uid, list[int]] = {}
        for n, rule in enumerate(self._rules):
            for action in rule.actions or ():
                self._naming.setdefault(action, []).append(n)
        self._named: dict[Uid, tuple[int, ...]] = {}
        self._slices: OrderedDict[tuple[int, ...], _Slice] = OrderedDict()
        self._kept = 0
        self._entities: OrderedDict[tuple[bytes, Uid | None], cedarpy.Entities] = OrderedDict()

    def decide(self, request: PolicyRequest, entities: Sequence[Entity]) -> Decision:
        started = time.thread_time()
        try:
            decision = self._decide(request, entities)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails is forbidden
            return failed(f"{type(error).__name__}: {error}")
        if time.thread_time() - started > self._seconds_max:
            return failed(f"the decision took more than {self._seconds_max} s")
        return decision

    def possible(
        self, principal: Entity, resource: Entity, actions: Sequence[Uid]
    ) -> Sequence[bool]:
        try:
            return self._possible(principal, resource, actions)
        except Exception:  # noqa: BLE001 - the boundary: of what fails nothing can be told
            return [False] * len(actions)

    def _decide(self, request: PolicyRequest, entities: Sequence[Entity]) -> Decision:
        if request.action not in self._actions:
            return failed("the schema has no such action")
        entities_json = described(entities)
        context = msgspec.json.encode(request.context)
        if len(entities_json) + len(context) > INPUT_BYTES_MAX:
            return failed(f"a request has at most {INPUT_BYTES_MAX} bytes")
        slice = self._slice(self._place(request.action))
        answer = cedarpy.is_authorized(
            {
                "principal": uid(request.principal),
                "action": uid(request.action),
                "resource": uid(request.resource),
                "context": context.decode(),
            },
            slice.handle,
            self._known(entities_json, request.action if slice.of_action else None),
            self._schema,
        )
        decision = judged(answer, slice.forbidding)
        if decision.effect is Effect.FORBID:
            policies = _deciding(decision, slice.forbidding)
            decision = Decision(decision.effect, policies, decision.errors)
        return slice.renamed(decision)

    def _place(self, action: Uid) -> tuple[int, ...]:
        """Which rules can speak of it."""
        return tuple(sorted([*self._naming_it(action), *self._everywhere]))

    def _naming_it(self, action: Uid) -> tuple[int, ...]:
        """Those that name it, or a group that it is in."""
        found = self._named.get(action)
        if found is None:
            own = self._naming.get(action, ())
            of_groups = (
                n
                for group in self._actions[action].groups
                for n in self._naming.get(group, ())
                if self._rules[n].groups
            )
            found = self._named[action] = tuple(sorted({*own, *of_groups}))
        return found

    def _slice(self, place: tuple[int, ...]) -> _Slice:
        found = self._slices.get(place)
        if found is not None:
            self._slices.move_to_end(place)
            return found
        found = self._sliced([self._rules[n] for n in place])
        self._slices[place] = found
        self._kept += len(place)
        while self._kept > SLICED_RULES_MAX and len(self._slices) > 1:
            self._kept -= len(self._slices.popitem(last=False)[0])
        return found

    def _sliced(self, rules: Sequence[ParsedRule]) -> _Slice:
        """What Cedar does not read as JSON comes as text. It is named by its place there, and still
        asks for its action."""
        deep = [rule for rule in rules if rule.deep and rule.id not in self.problems]
        others = [rule for rule in rules if not rule.deep or rule.id in self.problems]
        names = {f"rule{n}": rule for n, rule in enumerate(others)}
        policies = {
            name: rule.sliced(scope_only=rule.id in self.problems) for name, rule in names.items()
        }
        described = {"staticPolicies": policies, "templates": {}, "templateLinks": []}
        handle = cedarpy.PolicySet.from_json_str(msgspec.json.encode(described).decode())
        if deep:
            handle = handle.with_added_str("\n".join(rule.statement for rule in deep))
            names |= {f"policy{n}": rule for n, rule in enumerate(deep)}
        return _Slice(
            handle=handle,
            ids={name: rule.id for name, rule in names.items()},
            forbidding={name: rule.forbids for name, rule in names.items()},
            of_action=bool(deep) or any(rule.of_action for rule in rules),
        )

    def _known(self, entities_json: bytes, action: Uid | None) -> cedarpy.Entities:
        """Checked against the schema once. The action's groups come along only where a rule asks
        for them: those of all actions would be copied with each decision."""
        key = (entities_json, action)
        found = self._entities.get(key)
        if found is not None:
            self._entities.move_to_end(key)
            return found
        found = cedarpy.Entities.from_json_str(entities_json.decode(), self._types)
        if action is not None:
            groups = sorted(self._actions[action].groups)
            found = found.with_added_json_str(
                described([Entity(uid=action, parents=groups)]).decode()
            )
        self._entities[key] = found
        if len(self._entities) > ENTITIES_KEPT_MAX:
            self._entities.popitem(last=False)
        return found

    def _possible(
        self, principal: Entity, resource: Entity, actions: Sequence[Uid]
    ) -> Sequence[bool]:
        """All rules are evaluated once with the action unknown. Those that ask for it are evaluated
        for each action besides, as long as that is cheap; after that, what may be stays so."""
        named = {
            action: self._naming_it(action)
            for action in actions
            if self._applies(action, principal, resource)
        }
        asked = _Asked(described([principal, resource]), principal.uid, resource.uid)
        spoken = tuple(sorted(set(self._everywhere).union(*named.values())))
        told = self._told(spoken, asked, None)
        open_ = {n for n in told.maybe if self._rules[n].of_action}
        opening = told.opening - open_
        if not told.blocking.isdisjoint(self._everywhere):
            return [False] * len(actions)
        opens_all = not opening.isdisjoint(self._everywhere)
        found: set[Uid] = set()
        left = EVALUATIONS_MAX
        for action, place in named.items():
            blocked = not told.blocking.isdisjoint(place)
            opened = opens_all or not opening.isdisjoint(place)
            own = open_.intersection([*place, *self._everywhere]) if open_ else ()
            if own and not blocked:
                left -= len(own) + EVALUATIONS_A_CALL
                of_own = self._told(tuple(sorted(own)), asked, action) if left >= 0 else None
                blocked = bool(of_own and of_own.blocking)
                opened = opened or not (of_own or told).opening.isdisjoint(own)
            if opened and not blocked:
                found.add(action)
        return [action in found for action in actions]

    def _told(self, place: tuple[int, ...], asked: "_Asked", action: Uid | None) -> "_Told":
        """Where partial evaluation gives no answer, as for deep rules, anything may be."""
        slice = self._slice(tuple(n for n in place if not self._rules[n].deep))
        known = self._known(asked.entities_json, action)
        found: Mapping[str, Verdict] = {}
        with suppress(Odd, ValueError, TypeError, KeyError, RecursionError):
            named = verdicts(
                slice.handle,
                slice.forbidding,
                known,
                principal=asked.principal,
                resource=asked.resource,
                action=action,
            )
            found = {slice.ids[name]: verdict for name, verdict in named.items()}
        told = _Told()
        for n in place:
            rule = self._rules[n]
            verdict = found.get(rule.id, Verdict.MAYBE)
            if verdict is Verdict.MAYBE:
                told.maybe.add(n)
            if rule.forbids and verdict is Verdict.ALWAYS:
                told.blocking.add(n)
            elif not rule.forbids and verdict is not Verdict.NEVER:
                told.opening.add(n)
        return told

    def _applies(self, action: Uid, principal: Entity, resource: Entity) -> bool:
        known = self._actions.get(action)
        return (
            known is not None
            and principal.uid.type in known.principals
            and resource.uid.type in known.resources
        )


def _deciding(decision: Decision, forbidding: Mapping[str, bool]) -> tuple[str, ...]:
    """Those that forbid, also by failing. Where one fails, Cedar names the permits."""
    named = [*decision.policies, *failed_policies(decision.errors)]
    return tuple(dict.fromkeys(name for name in named if name is not None and forbidding.get(name)))
