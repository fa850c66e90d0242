"""The facts that need all policies of a question: of sets and of the hierarchy of entities.

What holds of all members of a set is claimed of each value that the question could tell apart: of
every element named in it, and of one witness for each set that must have a member. That suffices:
take any set of a model down to those values, and all that the question says stays as it is.
"""

from collections.abc import Iterable, Sequence

from freehold.adapters.smt.terms import Term, Unsupported, both, implies, is_true, negation
from freehold.adapters.smt.values import RecordOf, Scalar, SetOf, Value, leaves_as, type_of
from freehold.adapters.smt.world import World, above, stored

HIERARCHY_FACTS_MAX = 20_000
ELEMENT_FACTS_MAX = 20_000


def closing(world: World) -> list[Term]:
    """All facts, those that come late among them. The sets' come first: they name entities."""
    known = {kind: distinct(values) for kind, values in world.elements.items()}
    facts = list(world.facts)
    late: list[Term] = []
    for deferred in world.deferred:
        late.extend(deferred(lambda kind: known.get(kind, ())))
        if len(late) > ELEMENT_FACTS_MAX:
            raise Unsupported("sets with too many values to compare")
    facts += late
    doubted = {each.type.name for each in world.entities if not world.is_sure(each)}
    facts += [stored(each) for each in world.sure if each.type.name in doubted]
    return _unique([*facts, *_hierarchy(world)])


def _hierarchy(world: World) -> list[Term]:
    """An ancestor's ancestors are ancestors, and nobody is their own: of those asked about.

    Whoever is only asked about as an ancestor need not have any. So what is in between is one of
    those whose ancestors are asked for, which keeps a long list of groups cheap.
    """
    lows, highs = scalars(world.lows), scalars(world.highs)
    reaches = {each.type.name: world.schema.above(each.type.name) for each in lows}
    facts: list[Term] = []
    for low in lows:
        reach = reaches[low.type.name]
        if low.type.name in reach:
            facts.append(negation(above(low, low)))
        for middle in lows:
            if middle.type.name not in reach or middle.term.eq(low.term):
                continue
            for high in highs:
                if high.type.name in reaches[middle.type.name]:
                    facts.append(
                        implies(both(above(low, middle), above(middle, high)), above(low, high))
                    )
            if len(facts) > HIERARCHY_FACTS_MAX:
                raise Unsupported("a hierarchy of too many entities")
    return facts


def scalars(values: Iterable[Value]) -> list[Scalar]:
    return [each for each in distinct(values) if isinstance(each, Scalar)]


def _unique(facts: Sequence[Term]) -> list[Term]:
    return list({fact.get_id(): fact for fact in facts if not is_true(fact)}.values())


def distinct(values: Iterable[Value]) -> list[Value]:
    """Without those that are the same term; what is equal in some models only, stays."""
    found: dict[tuple[object, ...], Value] = {}
    for value in values:
        type = type_of(value)
        if isinstance(value, SetOf):
            raise Unsupported("sets of sets")
        _, leaves = leaves_as(value, type)
        names = tuple(sorted(type.attributes)) if isinstance(value, RecordOf) else ()
        key = (type.kind, type.name, names, *(leaf.get_id() for leaf in leaves))
        found.setdefault(key, value)
    return list(found.values())
