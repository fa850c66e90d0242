"""Cedar's operators on two values, both of which are always evaluated."""

from collections.abc import Callable

from freehold.adapters.smt import sets
from freehold.adapters.smt.outcomes import FAILURE, Outcome, truth
from freehold.adapters.smt.terms import Term, folded, negation, out_of_range
from freehold.adapters.smt.types import LONG, Kind
from freehold.adapters.smt.values import Scalar, SetOf, Value
from freehold.adapters.smt.world import World

_Operator = Callable[[World, Value, Value], Outcome]


def _equals(world: World, left: Value, right: Value) -> Outcome:
    return truth(sets.equal(world, left, right))


def _differs(world: World, left: Value, right: Value) -> Outcome:
    return truth(negation(sets.equal(world, left, right)))


_ORDERED = frozenset({Kind.LONG, Kind.DATETIME, Kind.DURATION})


def _ordered(compare: Callable[[Term, Term], Term]) -> _Operator:
    def evaluate(world: World, left: Value, right: Value) -> Outcome:
        if not (isinstance(left, Scalar) and isinstance(right, Scalar)):
            return FAILURE
        if left.type != right.type or left.type.kind not in _ORDERED:
            return FAILURE
        return truth(folded(compare(left.term, right.term)))

    return evaluate


def _arithmetic(compute: Callable[[Term, Term], Term]) -> _Operator:
    def evaluate(world: World, left: Value, right: Value) -> Outcome:
        if not (isinstance(left, Scalar) and isinstance(right, Scalar)):
            return FAILURE
        if left.type != LONG or right.type != LONG:
            return FAILURE
        value = folded(compute(left.term, right.term))
        return Outcome(Scalar(LONG, value), out_of_range(value))

    return evaluate


def _contains(world: World, left: Value, right: Value) -> Outcome:
    if not isinstance(left, SetOf):
        return FAILURE
    return truth(sets.contains(world, left, right))


def _contains_all(world: World, left: Value, right: Value) -> Outcome:
    if not (isinstance(left, SetOf) and isinstance(right, SetOf)):
        return FAILURE
    return truth(sets.included(world, right, left))


def _contains_any(world: World, left: Value, right: Value) -> Outcome:
    if not (isinstance(left, SetOf) and isinstance(right, SetOf)):
        return FAILURE
    return truth(sets.overlaps(world, left, right))


BINARY: dict[str, _Operator] = {
    "==": _equals,
    "!=": _differs,
    "<": _ordered(lambda a, b: a < b),
    "<=": _ordered(lambda a, b: a <= b),
    ">": _ordered(lambda a, b: a > b),
    ">=": _ordered(lambda a, b: a >= b),
    "+": _arithmetic(lambda a, b: a + b),
    "-": _arithmetic(lambda a, b: a - b),
    "*": _arithmetic(lambda a, b: a * b),
    "contains": _contains,
    "containsAll": _contains_all,
    "containsAny": _contains_any,
}
