"""Rules as the encoding reads them: parsed, checked against the schema, and as terms."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cedarpy
import msgspec

from freehold.adapters.smt import sets
from freehold.adapters.smt.evaluation import Evaluation, named
from freehold.adapters.smt.schema import Environment, Schema
from freehold.adapters.smt.terms import FALSE, TRUE, Term, Unsupported, both, is_false, negation, z3
from freehold.adapters.smt.values import Scalar
from freehold.adapters.smt.world import World
from freehold.ports.policies import PolicyRefused, Rule, Uid


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """`problems` are the validator's words: with them a permit permits nothing, and a forbid
    forbids all that its scope covers. `digest` is the same for statements with the same content."""

    id: str
    forbids: bool = False
    parsed: Mapping[str, Any]
    digest: str
    problems: tuple[str, ...] = ()


class Encoded(NamedTuple):
    """A statement in one environment. `unsupported` says why its condition is left open: then
    `satisfied` and `fails` are unknowns of their own, bound only by the scope."""

    statement: Statement
    satisfied: Term
    fails: Term
    resource: Term
    world: World
    unsupported: str = ""

    @property
    def forbids(self) -> Term:
        """A forbid that fails, forbids."""
        return z3.Or(self.satisfied, self.fails) if not is_false(self.fails) else self.satisfied


def read(rules: Sequence[Rule], schema: str) -> list[Statement]:
    """Raises PolicyRefused for what is not one policy, and for a schema that is none."""
    found: list[tuple[Rule, Mapping[str, Any]]] = []
    for rule in rules:
        found.append((rule, _parsed(rule)))
    problems = _problems([rule for rule, _ in found], schema)
    return [
        Statement(
            id=rule.id,
            forbids=parsed["effect"] != "permit",
            parsed=parsed,
            digest=_digest(parsed, invalid=bool(problems.get(index))),
            problems=tuple(problems.get(index, ())),
        )
        for index, (rule, parsed) in enumerate(found)
    ]


def _parsed(rule: Rule) -> Mapping[str, Any]:
    try:
        whole = json.loads(cedarpy.policies_to_json_str(rule.statement))
    except ValueError as error:
        raise PolicyRefused([f"{rule.id}: {error}"]) from error
    statics = list(whole["staticPolicies"].values())
    if len(statics) != 1 or whole["templates"] or whole["templateLinks"]:
        raise PolicyRefused([f"{rule.id}: it must be exactly one static policy"])
    parsed: Mapping[str, Any] = statics[0]
    return parsed


def _problems(rules: Sequence[Rule], schema: str) -> dict[int, list[str]]:
    """All in one go; the validator numbers the policies in their order."""
    checked = cedarpy.validate_policies("\n".join(rule.statement for rule in rules), schema)
    problems: dict[int, list[str]] = {}
    for error in checked.errors:
        name = error.policy_id
        if not name.startswith("policy"):
            raise PolicyRefused([error.error])
        index = int(name.removeprefix("policy"))
        words = error.error.replace(f"for policy `{name}`, ", "").replace(f"`{name}`", "it")
        problems.setdefault(index, []).append(words)
    return problems


def _digest(parsed: Mapping[str, Any], *, invalid: bool) -> str:
    meant = {name: held for name, held in parsed.items() if name != "annotations"}
    text = json.dumps([meant, invalid], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def applies(statement: Statement, environment: Environment) -> bool:
    """Whether the scope leaves room for the environment's action and types."""
    scope = statement.parsed
    action = scope["action"]
    if action["op"] != "All":
        uids = {
            Uid(each["type"], each["id"]) for each in action.get("entities") or [action["entity"]]
        }
        held = {environment.action} | (environment.above if action["op"] == "in" else frozenset())
        if not uids & held:
            return False
    return _of_type(scope["principal"], environment.principal) and _of_type(
        scope["resource"], environment.resource
    )


def _of_type(clause: Mapping[str, Any], type: str) -> bool:
    if clause["op"] == "is":
        return bool(clause["entity_type"] == type)
    return clause["op"] != "==" or bool(clause["entity"]["type"] == type)


def encode(
    statement: Statement, environment: Environment, schema: Schema, *, sure: bool = True
) -> Encoded:
    """`sure`: the store has the request's principal and resource."""
    evaluation = Evaluation(environment, World(schema, statement.digest), sure=sure)
    if not applies(statement, environment):
        return Encoded(statement, FALSE, FALSE, FALSE, evaluation.world)
    world, scope, resource = _scoped(statement, evaluation)
    if statement.problems:
        return Encoded(statement, scope if statement.forbids else FALSE, FALSE, resource, world)
    try:
        satisfied, fails = scope, FALSE
        for condition in statement.parsed["conditions"]:
            holds, wrong = evaluation.truth(condition["body"])
            holds = holds if condition["kind"] == "when" else negation(holds)
            fails = z3.Or(fails, both(satisfied, wrong)) if not is_false(wrong) else fails
            satisfied = both(satisfied, holds, negation(wrong))
    except Unsupported as why:
        return left_open(statement, environment, schema, str(why))
    return Encoded(statement, satisfied, z3.simplify(fails), resource, world)


def left_open(
    statement: Statement, environment: Environment, schema: Schema, why: str = ""
) -> Encoded:
    """With its scope alone, and unknowns for the rest."""
    world, scope, resource = _scoped(statement, Evaluation(environment, World(schema)))
    holds, fails = z3.Bool(f"holds {statement.digest}"), z3.Bool(f"fails {statement.digest}")
    return Encoded(
        statement,
        both(scope, holds, z3.Not(fails)),
        both(scope, fails),
        resource,
        world,
        why,
    )


def _scoped(statement: Statement, evaluation: Evaluation) -> tuple[World, Term, Term]:
    resource = _clause(evaluation, evaluation.resource, statement.parsed["resource"])
    principal = _clause(evaluation, evaluation.principal, statement.parsed["principal"])
    return evaluation.world, both(principal, resource), resource


def _clause(evaluation: Evaluation, whole: Scalar, clause: Mapping[str, Any]) -> Term:
    if clause["op"] == "All":
        return TRUE
    if clause["op"] == "is":
        if clause["entity_type"] != whole.type.name:
            return FALSE
        return _clause(evaluation, whole, {"op": "in", **clause["in"]}) if "in" in clause else TRUE
    group = named(Uid(clause["entity"]["type"], clause["entity"]["id"]))
    if clause["op"] == "==":
        return sets.equal(evaluation.world, whole, group)
    return evaluation.world.is_in(whole, group)
