"""What an evaluation supposes: the facts about its unknowns that every request obeys.

Some facts come late, when all policies of a question are known: see `closing`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from freehold.adapters.smt.schema import Schema
from freehold.adapters.smt.terms import (
    FALSE,
    TRUE,
    Term,
    both,
    is_false,
    is_true,
    same,
    z3,
)
from freehold.adapters.smt.types import Type

if TYPE_CHECKING:
    from freehold.adapters.smt.values import Scalar, Value

Lookup: TypeAlias = "Callable[[tuple[str, str]], Sequence[Value]]"
Deferred: TypeAlias = Callable[[Lookup], Iterable[Term]]


class World:
    """`label` sets its fresh names apart from those of other policies. `sure` are those who are in
    the store whatever else is: a request's principal and resource. Any other entity that a policy
    or a request names may be missing from it, and then it has nothing and is in nothing."""

    def __init__(self, schema: Schema, label: str = "") -> None:
        self.schema = schema
        self.sure: tuple[Scalar, ...] = ()
        self.facts: list[Term] = []
        self.deferred: list[Deferred] = []
        self.elements: dict[tuple[str, str], list[Value]] = {}
        self.lows: list[Scalar] = []
        self.highs: list[Scalar] = []
        self.touched: dict[str, tuple[Type, list[tuple[Term, ...]]]] = {}
        self.optional: list[Term] = []
        self.entities: list[Scalar] = []
        self.keys: list[tuple[Scalar, Term]] = []
        self._label = label
        self._fresh = 0

    def fresh(self, what: str) -> str:
        self._fresh += 1
        return f"{what} {self._label}.{self._fresh}"

    def require(self, fact: Term) -> None:
        if not is_true(fact):
            self.facts.append(fact)

    def note(self, path: str, type: Type, args: tuple[Term, ...]) -> None:
        self.touched.setdefault(path, (type, []))[1].append(args)

    def element(self, kind: tuple[str, str], value: "Value") -> None:
        """It could be a member of some set."""
        self.elements.setdefault(kind, []).append(value)

    def exists(self, entity: "Scalar") -> Term:
        self.entities.append(entity)
        return TRUE if self.is_sure(entity) else stored(entity)

    def is_sure(self, entity: "Scalar") -> bool:
        return any(entity.type == each.type and entity.term.eq(each.term) for each in self.sure)

    def is_in(self, entity: "Scalar", group: "Scalar") -> Term:
        itself = same(entity.term, group.term) if entity.type == group.type else FALSE
        if group.type.name not in self.schema.above(entity.type.name):
            return itself
        self.lows.append(entity)
        self.highs.append(group)
        self.entities.append(group)
        below = both(self.exists(entity), above(entity, group))
        return below if is_false(itself) else z3.Or(itself, below)


def merged(schema: Schema, worlds: Iterable[World]) -> World:
    whole = World(schema)
    for world in worlds:
        whole.sure = whole.sure or world.sure
        whole.facts += world.facts
        whole.deferred += world.deferred
        whole.lows += world.lows
        whole.highs += world.highs
        whole.entities += world.entities
        whole.keys += world.keys
        for kind, values in world.elements.items():
            whole.elements.setdefault(kind, []).extend(values)
        whole.optional += world.optional
        for path, (type, args) in world.touched.items():
            whole.touched.setdefault(path, (type, []))[1].extend(args)
    return whole


def stored(entity: "Scalar") -> Term:
    """Whether the store has it."""
    name = f"{entity.type.name} exists"
    return z3.Function(name, z3.StringSort(), z3.BoolSort())(entity.term)


def above(entity: "Scalar", group: "Scalar") -> Term:
    """Whether the group is an ancestor, and not the entity itself."""
    name = f"{entity.type.name} in {group.type.name}"
    return z3.Function(name, z3.StringSort(), z3.StringSort(), z3.BoolSort())(
        entity.term, group.term
    )
