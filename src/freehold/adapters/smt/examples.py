"""From a model of the solver to a whole request, and what would make one easy to read."""

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from freehold.adapters.smt import literals
from freehold.adapters.smt.closing import distinct, scalars
from freehold.adapters.smt.evaluation import Evaluation
from freehold.adapters.smt.schema import Environment, Schema
from freehold.adapters.smt.terms import Term, negation, text, text_of, z3
from freehold.adapters.smt.types import Attribute, Kind, Type, entity, shape
from freehold.adapters.smt.values import (
    Network,
    Scalar,
    SetOf,
    Value,
    symbol,
    tag_path,
    unknown,
    within,
)
from freehold.adapters.smt.world import World, above, stored
from freehold.ports.policies import Entity, PolicyRequest, Uid
from freehold.ports.reasoning import Example

_NOON = "2026-06-01T12:00:00.000Z"
_YEAR = (literals.instant("2026-01-01"), literals.instant("2027-01-01"))
_RANGES = {
    Kind.LONG: ((-1_000_000, 1_000_000), (0, 10_000)),
    Kind.DECIMAL: ((-10_000_000_000, 10_000_000_000), (0, 100_000_000)),
    Kind.DATETIME: ((literals.instant("2000-01-01"), literals.instant("2100-01-01")), _YEAR),
    Kind.DURATION: ((0, 86_400_000),),
}
"""Wide, then narrow."""


def wishes(world: World, environment: Environment) -> list[Term]:
    """What a reader would like of the unknowns, the dearest first: short words and small numbers,
    little in sets, little at all, and known names."""
    words = z3.Concat(z3.Range("a", "z"), z3.Loop(_letters(), 0, 11))
    plain: list[Term] = []
    few: list[Term] = []
    names: list[Term] = []
    for name, id in (("principal", "alice"), ("resource", "gateway")):
        term = unknown(name, z3.StringSort())
        plain.append(z3.InRe(term, words))
        names.append(term == text(id))
    for path, (type, all_args) in world.touched.items():
        for args in all_args:
            if type.kind in _RANGES:
                term = unknown(path, z3.IntSort(), args)
                plain += [z3.And(term >= low, term <= high) for low, high in _RANGES[type.kind]]
            elif type.kind in (Kind.STRING, Kind.ENTITY):
                term = unknown(path, z3.StringSort(), args)
                plain.append(z3.InRe(term, words))
                if path.endswith(".id") and args:
                    few.append(term == args[0])
                names.append(term == text(re.sub(r"\W", "", path.rpartition(".")[2])[-12:]))
            elif type.kind is Kind.ADDRESS:
                network = symbol(World(world.schema), type, path, args)
                assert isinstance(network, Network)
                plain.append(z3.And(z3.Not(network.v6), network.prefix == 32))
            elif type.kind is Kind.SET:
                whole = symbol(World(world.schema), type, path, args)
                assert isinstance(whole, SetOf)
                few += [negation(whole.member(each)) for each in _candidates(world, type)]
    plain += [stored(each) for each in world.entities if not world.is_sure(each)]
    absent = [negation(each) for each in world.optional]
    return list({each.get_id(): each for each in (*plain, *few, *absent, *names)}.values())


def _letters() -> Term:
    return z3.Union(z3.Range("a", "z"), z3.Range("0", "9"), z3.Re("-"))


def _candidates(world: World, type: Type) -> list[Value]:
    assert type.element is not None
    return distinct(world.elements.get(shape(type.element), ()))


class Decoding:
    """Of one model. Raises ValueError where the solver chose what no request can hold."""

    def __init__(self, schema: Schema, environment: Environment, world: World, model: Any) -> None:
        self._schema = schema
        self._environment = environment
        self._world = world
        self._model = model
        self._between = 0

    def example(self) -> Example:
        scratch = Evaluation(self._environment, World(self._schema))
        principal, resource = self._uid(scratch.principal), self._uid(scratch.resource)
        request = PolicyRequest(
            principal=principal,
            action=self._environment.action,
            resource=resource,
            context=self._record(self._environment.context, "context", ()),
        )
        return Example(request=request, entities=self._entities([principal, resource]))

    def _entities(self, first: Sequence[Uid]) -> list[Entity]:
        uids = list(dict.fromkeys([*first, *map(self._uid, self._world.entities)]))
        uids = [uid for uid in uids if self._storable(uid) and (uid in first or self._stored(uid))]
        parents: dict[Uid, list[Uid]] = {uid: [] for uid in uids}
        highs = scalars(self._world.highs)
        for low in scalars(self._world.lows):
            for high in highs:
                if high.type.name not in self._schema.above(low.type.name):
                    continue
                if self._true(above(low, high)):
                    self._put_under(parents, self._uid(low), self._uid(high))
        return [
            Entity(
                uid=uid,
                attributes=self._attributes(uid),
                tags=self._tags(uid),
                parents=tuple(parents[uid]),
            )
            for uid in parents
        ]

    def _storable(self, uid: Uid) -> bool:
        known = self._schema.entities.get(uid.type)
        return known is not None and known.choices is None

    def _stored(self, uid: Uid) -> bool:
        return self._true(stored(Scalar(entity(uid.type), text(uid.id))))

    def _put_under(self, parents: dict[Uid, list[Uid]], low: Uid, high: Uid) -> None:
        """With entities made up in between, where the schema has no direct way."""
        way = self._way(low.type, high.type)
        if low not in parents:
            return
        child = low
        for type in way[:-1]:
            self._between += 1
            middle = Uid(type, f"between-{self._between}")
            parents.setdefault(child, []).append(middle)
            child = middle
        held = parents.setdefault(child, [])
        if high not in held:
            held.append(high)

    def _way(self, low: str, high: str) -> list[str]:
        waiting: deque[list[str]] = deque([[low]])
        seen: set[str] = set()
        while waiting:
            way = waiting.popleft()
            for parent in sorted(self._schema.entities[way[-1]].parents):
                if parent == high:
                    return [*way[1:], parent]
                if parent not in seen:
                    seen.add(parent)
                    waiting.append([*way, parent])
        raise ValueError(f"no {low} is in a {high}")

    def _attributes(self, uid: Uid) -> dict[str, Any]:
        declared = self._schema.entities[uid.type].attributes.attributes
        id = text(uid.id)
        found = {}
        for name, attribute in declared.items():
            held = self._field(attribute, within(uid.type, name), (id,))
            if held is not None:
                found[name] = held
            elif attribute.required:
                found[name] = self._plain(attribute.type, uid)
        return found

    def _tags(self, uid: Uid) -> dict[str, Any]:
        type = self._schema.entities[uid.type].tags
        if type is None:
            return {}
        path = tag_path(entity(uid.type))
        found = {}
        for owner, key in self._world.keys:
            if self._uid(owner) != uid:
                continue
            args = (text(uid.id), self._model.eval(key, model_completion=True))
            if self._true(unknown(f"{path}?", z3.BoolSort(), args)):
                found[text_of(args[1])] = self._symbol(type, path, args)
        return found

    def _field(self, attribute: Attribute, path: str, args: tuple[Term, ...]) -> Any:
        """None where it is absent, or where nothing was asked of it."""
        path = self._schema.same.get(path, path)
        if not self._was_asked(path, args):
            return None
        if not attribute.required and not self._true(unknown(f"{path}?", z3.BoolSort(), args)):
            return None
        return self._symbol(attribute.type, path, args)

    def _was_asked(self, path: str, args: tuple[Term, ...]) -> bool:
        _, asked = self._world.touched.get(path, (None, ()))
        return any(
            all(
                self._model.eval(a, model_completion=True).eq(b)
                for a, b in zip(each, args, strict=True)
            )
            for each in asked
        )

    def _record(self, type: Type, path: str, args: tuple[Term, ...]) -> dict[str, Any]:
        found = {}
        for name, attribute in type.attributes.items():
            held = self._field(attribute, within(path, name), args)
            if held is not None:
                found[name] = held
            elif attribute.required:
                found[name] = self._plain(attribute.type)
        return found

    def _symbol(self, type: Type, path: str, args: tuple[Term, ...]) -> Any:
        if type.kind is Kind.RECORD:
            return self._record(type, path, args)
        value = symbol(World(self._schema), type, path, args)
        if isinstance(value, SetOf):
            held = [
                self._value(each)
                for each in _candidates(self._world, type)
                if self._true(value.member(each))
            ]
            return [each for index, each in enumerate(held) if each not in held[:index]]
        return self._value(value)

    def _value(self, value: Value) -> Any:
        if isinstance(value, Network):
            v6 = self._true(value.v6)
            bits, prefix = (self._eval(each).as_long() for each in value[1:])
            return _extension("ip", literals.address_text(literals.Address(v6, bits, prefix)))
        if isinstance(value, Scalar):
            return _plain_scalar(value.type, self._eval(value.term))
        if isinstance(value, SetOf):
            raise ValueError("a set in a set")
        found = {}
        for name in value.type.attributes:
            there, held = value.field(name)
            if self._true(there):
                found[name] = self._value(held)
        return found

    def _plain(self, type: Type, of: Uid | None = None) -> Any:
        """Of what no policy asked about."""
        if type.kind is Kind.RECORD:
            return {
                name: self._plain(attribute.type)
                for name, attribute in type.attributes.items()
                if attribute.required
            }
        if type.kind is Kind.STRING and of is not None:
            return of.id
        if type.kind is Kind.ENTITY:
            known = self._schema.entities.get(type.name)
            id = known.choices[0] if known is not None and known.choices else "a"
            return {"__entity": {"type": type.name, "id": id}}
        return _PLAIN[type.kind]

    def _uid(self, value: Scalar) -> Uid:
        return Uid(value.type.name, text_of(self._eval(value.term)))

    def _eval(self, term: Term) -> Any:
        return self._model.eval(term, model_completion=True)

    def _true(self, term: Term) -> bool:
        return bool(z3.is_true(self._eval(term)))


def _plain_scalar(type: Type, held: Any) -> Any:
    if type.kind is Kind.BOOL:
        return bool(z3.is_true(held))
    if type.kind is Kind.STRING:
        return text_of(held)
    if type.kind is Kind.ENTITY:
        return {"__entity": {"type": type.name, "id": text_of(held)}}
    number = held.as_long()
    written = _WRITTEN.get(type.kind)
    return _extension(type.kind.value, written(number)) if written else number


_WRITTEN: dict[Kind, Callable[[int], str]] = {
    Kind.DECIMAL: literals.decimal_text,
    Kind.DATETIME: literals.instant_text,
    Kind.DURATION: literals.duration_text,
}


def _extension(name: str, text: str) -> Mapping[str, Any]:
    return {"__extn": {"fn": name, "arg": text}}


_PLAIN: dict[Kind, Any] = {
    Kind.BOOL: False,
    Kind.LONG: 0,
    Kind.STRING: "a",
    Kind.SET: [],
    Kind.DECIMAL: _extension("decimal", "0.0"),
    Kind.DATETIME: _extension("datetime", _NOON),
    Kind.DURATION: _extension("duration", "0ms"),
    Kind.ADDRESS: _extension("ip", "192.0.2.1"),
}
