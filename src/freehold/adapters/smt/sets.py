"""Claims about sets, and equality, which for sets is one.

A claim about all members is a fresh truth with a witness against it; what it says of the values
known to the question is added when all of them are (`closing`).
"""

from collections.abc import Callable, Iterable

from freehold.adapters.smt.terms import (
    FALSE,
    TRUE,
    Term,
    Unsupported,
    both,
    conjunction,
    disjunction,
    either,
    implies,
    negation,
    same,
    z3,
)
from freehold.adapters.smt.types import Kind, Type, shape
from freehold.adapters.smt.values import (
    Network,
    RecordOf,
    Scalar,
    SetOf,
    Value,
    symbol,
    type_of,
)
from freehold.adapters.smt.world import Lookup, World


def equal(world: World, left: Value, right: Value) -> Term:
    if shape(type_of(left)) != shape(type_of(right)):
        return FALSE
    if isinstance(left, Scalar) and isinstance(right, Scalar):
        return same(left.term, right.term)
    if isinstance(left, Network) and isinstance(right, Network):
        return conjunction(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, SetOf) and isinstance(right, SetOf):
        return both(included(world, left, right), included(world, right, left))
    assert isinstance(left, RecordOf) and isinstance(right, RecordOf)
    return conjunction(
        _equal_attribute(world, left, right, name)
        for name in sorted(left.type.attributes.keys() | right.type.attributes.keys())
    )


def _equal_attribute(world: World, left: RecordOf, right: RecordOf, name: str) -> Term:
    if name not in left.type.attributes:
        return negation(right.field(name)[0])
    if name not in right.type.attributes:
        return negation(left.field(name)[0])
    (left_there, a), (right_there, b) = left.field(name), right.field(name)
    missing = both(negation(left_there), negation(right_there))
    return either(missing, both(left_there, right_there, equal(world, a, b)))


def listed(world: World, values: tuple[Value, ...]) -> SetOf:
    """The set that a policy writes out."""
    for value in values:
        if isinstance(value, SetOf):
            raise Unsupported("sets of sets")
        known(world, value)
    element = type_of(values[0]) if values else None

    def member(value: Value) -> Term:
        return disjunction(equal(world, each, value) for each in values)

    return SetOf(Type(Kind.SET, element=element), member, values)


def known(world: World, value: Value) -> None:
    """Sets are compared at this value too."""
    world.element(shape(type_of(value)), value)


def contains(world: World, whole: SetOf, value: Value) -> Term:
    if isinstance(value, SetOf):
        raise Unsupported("sets of sets")
    known(world, value)
    return whole.member(value)


def included(world: World, small: SetOf, large: SetOf) -> Term:
    """Whether each member of the small one is one of the large one."""
    if small.literal is not None:
        return conjunction(large.member(value) for value in small.literal)
    witness = _witness(world, small)
    holds = _claim(world)
    world.require(z3.Or(holds, both(small.member(witness), negation(large.member(witness)))))

    def of_all(lookup: Lookup) -> Iterable[Term]:
        for value in lookup(shape(type_of(witness))):
            yield implies(both(holds, small.member(value)), large.member(value))

    world.deferred.append(of_all)
    return holds


def overlaps(world: World, left: SetOf, right: SetOf) -> Term:
    for one, other in ((left, right), (right, left)):
        if one.literal is not None:
            return disjunction(other.member(value) for value in one.literal)
    return some(world, left, right.member)


def is_empty(world: World, whole: SetOf) -> Term:
    if whole.literal is not None:
        return TRUE if not whole.literal else FALSE
    return negation(some(world, whole, lambda value: TRUE))


def some(world: World, whole: SetOf, holds_of: Callable[[Value], Term]) -> Term:
    """Whether it holds of some member."""
    if whole.literal is not None:
        return disjunction(holds_of(value) for value in whole.literal)
    witness = _witness(world, whole)
    holds = _claim(world)
    world.require(implies(holds, both(whole.member(witness), holds_of(witness))))

    def of_none(lookup: Lookup) -> Iterable[Term]:
        for value in lookup(shape(type_of(witness))):
            yield z3.Or(holds, negation(both(whole.member(value), holds_of(value))))

    world.deferred.append(of_none)
    return holds


def _claim(world: World) -> Term:
    return z3.Bool(world.fresh("claim"))


def _witness(world: World, whole: SetOf) -> Value:
    if whole.type.element is None:
        raise Unsupported("an if whose branches are both empty sets")
    witness = symbol(world, whole.type.element, world.fresh("witness"))
    known(world, witness)
    return witness
