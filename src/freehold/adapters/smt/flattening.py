"""Terms without functions: what belongs to an entity or a tag's key becomes an unknown of its own.

The solver is slow where strings are arguments of functions, and most of ours are told apart by
constants (two tags of the principal), so that little is left to say of them: for two uses of one
function whose arguments could be equal, that then their values are.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from freehold.adapters.smt.terms import Term, conjunction, implies, is_false, same, z3

PAIRS_MAX = 20_000

_NONE: frozenset[int] = frozenset()


class Use(NamedTuple):
    """Of a function, and the unknown that stands for it. The arguments are flat."""

    term: Term
    value: Term
    arguments: list[Term]


class Flat(NamedTuple):
    terms: list[Term]
    uses: list[Use]


class Flattening:
    """Remembers what it has seen: the questions about one set of policies share most terms."""

    def __init__(self) -> None:
        self._uses: list[Use] = []
        self._within: dict[int, frozenset[int]] = {}
        self._flat: dict[int, Term] = {}
        self._alike: dict[tuple[int, int], Term | None] = {}
        self._kept: list[Term] = []

    def of(self, terms: Sequence[Term]) -> Flat | None:
        """Satisfiable where the terms are. None where there would be too much to say."""
        flat = [self._flattened(term) for term in terms]
        used = sorted(frozenset().union(*(self._within[term.get_id()] for term in terms)))
        by_function: dict[int, list[int]] = {}
        for use in used:
            function = self._uses[use].term.decl().get_id()
            by_function.setdefault(function, []).append(use)
        if sum(len(uses) ** 2 // 2 for uses in by_function.values()) > PAIRS_MAX:
            return None
        facts = (fact for uses in by_function.values() for fact in self._facts(uses))
        return Flat([*flat, *facts], [self._uses[use] for use in used])

    def _facts(self, uses: Sequence[int]) -> Iterable[Term]:
        for place, later in enumerate(uses):
            for earlier in uses[:place]:
                pair = earlier, later
                if pair not in self._alike:
                    self._alike[pair] = _alike(self._uses[earlier], self._uses[later])
                fact = self._alike[pair]
                if fact is not None:
                    yield fact

    def _flattened(self, term: Term) -> Term:
        """Inner uses are replaced within outer ones, so the outer ones are sought as they were."""
        id = term.get_id()
        if id not in self._flat:
            self._visit(term)
            uses = [self._uses[use] for use in self._within[id]]
            self._flat[id] = (
                z3.substitute(term, *((use.term, use.value) for use in uses)) if uses else term
            )
        return self._flat[id]

    def _visit(self, term: Term) -> None:
        waiting: list[tuple[Term, bool]] = [(term, False)]
        while waiting:
            each, ready = waiting.pop()
            id = each.get_id()
            if id in self._within:
                continue
            children = each.children()
            if not ready and children:
                waiting.append((each, True))
                waiting.extend((child, False) for child in children)
                continue
            # Kept, for an identity is given again when its term is gone.
            self._kept.append(each)
            within = _NONE.union(*(self._within[child.get_id()] for child in children))
            self._within[id] = within | self._used(each, children)

    def _used(self, each: Term, children: Sequence[Term]) -> frozenset[int]:
        if not children or each.decl().kind() != z3.Z3_OP_UNINTERPRETED:
            return _NONE
        number = len(self._uses)
        value = z3.Const(f"{each.decl().name()} #{number}", each.sort())
        arguments = [self._flattened(child) for child in children]
        self._uses.append(Use(each, value, arguments))
        return frozenset({number})


def _alike(one: Use, other: Use) -> Term | None:
    equal = conjunction(same(a, b) for a, b in zip(one.arguments, other.arguments, strict=True))
    return None if is_false(equal) else implies(equal, same(one.value, other.value))
