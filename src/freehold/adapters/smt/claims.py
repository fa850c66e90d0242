"""What the encoding says of one request, for those who hold it against the engine."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from freehold.adapters.smt import sets
from freehold.adapters.smt.closing import closing, scalars
from freehold.adapters.smt.evaluation import Evaluation, named
from freehold.adapters.smt.extensions import CONSTRUCTORS
from freehold.adapters.smt.proving import Proving
from freehold.adapters.smt.schema import Environment
from freehold.adapters.smt.statements import encode
from freehold.adapters.smt.terms import (
    TRUE,
    Term,
    Unsupported,
    boolean,
    both,
    disjunction,
    either,
    negation,
    number,
    same,
    text,
    z3,
)
from freehold.adapters.smt.types import Attribute, Kind, Type
from freehold.adapters.smt.values import (
    RecordOf,
    Scalar,
    Value,
    symbol,
    tag_path,
    unknown,
    within,
)
from freehold.adapters.smt.world import World, above, merged
from freehold.ports.policies import Entity, PolicyRequest, Rule, Uid


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """None where the solver gave up, or leaves both open (which is a fault of the encoding: then
    `loose`). `unsupported` says why there is no claim at all."""

    satisfied: bool | None = None
    errs: bool | None = None
    unsupported: str = ""
    invalid: bool = False
    loose: bool = False


def claim(
    rule: Rule,
    schema: Mapping[str, Any],
    request: PolicyRequest,
    entities: Sequence[Entity],
    *,
    seconds_max: float = 5.0,
) -> Claim:
    """Of a request that fits the schema; raises ValueError for an action or types it does not have.

    An entity that is not among `entities` has no attributes, tags or ancestors, as in the engine.
    """
    proving = Proving(schema, seconds_max=seconds_max)
    (statement,) = proving.read([rule])
    environment = _environment(proving.environments, request)
    try:
        encoded = encode(statement, environment, proving.schema, sure=False)
        if encoded.unsupported:
            return Claim(unsupported=encoded.unsupported)
        world = merged(proving.schema, [encoded.world])
        facts = _Binding(world, environment).facts(request, entities)
        facts += closing(world)
    except Unsupported as why:
        return Claim(unsupported=str(why))
    satisfied, loose = _told(facts, encoded.satisfied, seconds_max)
    errs, loose_too = _told(facts, encoded.fails, seconds_max)
    return Claim(
        satisfied=satisfied,
        errs=errs,
        invalid=bool(statement.problems),
        loose=loose or loose_too,
    )


def _environment(environments: Sequence[Environment], request: PolicyRequest) -> Environment:
    for each in environments:
        types = each.action, each.principal, each.resource
        if types == (request.action, request.principal.type, request.resource.type):
            return each
    raise ValueError("the schema has no such request")


def _told(facts: Sequence[Term], goal: Term, seconds_max: float) -> tuple[bool | None, bool]:
    answers = []
    for side in (goal, negation(goal)):
        solver = z3.SimpleSolver()
        solver.set("timeout", int(seconds_max * 1000))
        solver.add(*facts, side)
        answers.append(str(solver.check()))
    if "unknown" in answers:
        return None, False
    if answers[0] == answers[1]:
        return None, True
    return answers[0] == "sat", False


class _Binding:
    """A request's values, as facts about the unknowns that stand for them."""

    def __init__(self, world: World, environment: Environment) -> None:
        self._world = world
        self._environment = environment
        self._evaluation = Evaluation(environment, world, sure=False)

    def facts(self, request: PolicyRequest, entities: Sequence[Entity]) -> list[Term]:
        stored = {entity.uid: entity for entity in entities}
        facts = [
            same(self._evaluation.principal.term, text(request.principal.id)),
            same(self._evaluation.resource.term, text(request.resource.id)),
            self._equals(self._evaluation.context, self._environment.context, request.context),
        ]
        for entity in stored.values():
            facts += self._attributes(entity)
            facts += self._tags(entity)
        facts += self._existing(stored)
        facts += self._ancestors(stored)
        return facts

    def _equals(self, unknown_value: Value, type: Type, held: Any) -> Term:
        return sets.equal(self._world, unknown_value, literal(self._world, type, held))

    def _attributes(self, entity: Entity) -> Iterable[Term]:
        declared = self._world.schema.entities.get(entity.uid.type)
        id = (text(entity.uid.id),)
        for name, attribute in declared.attributes.attributes.items() if declared else ():
            path = within(entity.uid.type, name)
            if not attribute.required:
                there = unknown(f"{path}?", z3.BoolSort(), id)
                yield same(there, boolean(name in entity.attributes))
            if name in entity.attributes:
                value = symbol(self._world, attribute.type, path, id)
                yield self._equals(value, attribute.type, entity.attributes[name])

    def _tags(self, entity: Entity) -> Iterable[Term]:
        declared = self._world.schema.entities.get(entity.uid.type)
        if declared is None or declared.tags is None:
            return
        owner = named(entity.uid)
        path = tag_path(owner.type)
        for name, held in entity.tags.items():
            args = (owner.term, text(name))
            yield unknown(f"{path}?", z3.BoolSort(), args)
            yield self._equals(symbol(self._world, declared.tags, path, args), declared.tags, held)
        for _, key in list(self._world.keys):
            known = disjunction(same(key, text(name)) for name in entity.tags)
            yield either(known, negation(unknown(f"{path}?", z3.BoolSort(), (owner.term, key))))

    def _existing(self, stored: Mapping[Uid, Entity]) -> Iterable[Term]:
        for entity in list(self._world.entities):
            there = disjunction(
                same(entity.term, text(uid.id)) for uid in stored if uid.type == entity.type.name
            )
            yield same(self._world.exists(entity), there)

    def _ancestors(self, stored: Mapping[Uid, Entity]) -> Iterable[Term]:
        pairs = [(low, high) for low in stored for high in _above(low, stored)]
        lows = scalars(self._world.lows)
        for low in lows:
            for high in (*lows, *scalars(self._world.highs)):
                if high.type.name not in self._world.schema.above(low.type.name):
                    continue
                held = disjunction(
                    both(same(low.term, text(one.id)), same(high.term, text(other.id)))
                    for one, other in pairs
                    if (one.type, other.type) == (low.type.name, high.type.name)
                )
                yield same(above(low, high), held)


def _above(uid: Uid, stored: Mapping[Uid, Entity]) -> set[Uid]:
    found: set[Uid] = set()
    waiting = [uid]
    while waiting:
        known = stored.get(waiting.pop())
        fresh = {Uid(*parent) for parent in (known.parents if known else ())} - found
        found |= fresh
        waiting.extend(fresh)
    return found


def literal(world: World, type: Type, held: Any) -> Value:
    """The value that a request holds, in the port's notation, as the schema's type reads it."""
    if type.kind in _TERM:
        return Scalar(type, _TERM[type.kind](held))
    if type.kind is Kind.ENTITY:
        uid = held.get("__entity", held)
        return named(Uid(uid["type"], uid["id"]))
    if type.kind is Kind.SET:
        assert type.element is not None
        values = tuple(literal(world, type.element, each) for each in held)
        return sets.listed(world, values)
    if type.kind is Kind.RECORD:
        return _record(world, type, held)
    text_held = held["__extn"]["arg"] if isinstance(held, Mapping) else held
    return CONSTRUCTORS[_CONSTRUCTOR[type.kind]](text_held)


_TERM: dict[Kind, Callable[[Any], Term]] = {
    Kind.BOOL: boolean,
    Kind.LONG: number,
    Kind.STRING: text,
}
_CONSTRUCTOR = {
    Kind.DECIMAL: "decimal",
    Kind.DATETIME: "datetime",
    Kind.DURATION: "duration",
    Kind.ADDRESS: "ip",
}


def _record(world: World, type: Type, held: Mapping[str, Any]) -> Value:
    values = {name: literal(world, type.attributes[name].type, each) for name, each in held.items()}
    attributes = {name: Attribute(type.attributes[name].type, True) for name in values}
    return RecordOf(Type(Kind.RECORD, attributes=attributes), lambda name: (TRUE, values[name]))
