"""Large questions, taken apart: a request is found sooner where most policies do not matter.

A set allows since one of its permits holds. With that permit chosen, and with nothing optional
there but what it asks for, all other policies are mostly decided at once. Where no such way leads
to a request, the whole is asked; where that takes too long, each way is asked alone.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from freehold.adapters.smt.solving import Answer, Solving
from freehold.adapters.smt.statements import Encoded
from freehold.adapters.smt.terms import TRUE, Term, both, negation

WAYS_MAX = 6
"""Tried before the whole."""


class Way(NamedTuple):
    """What is true on it besides the goal, and the policies that matter."""

    goal: Term
    focus: tuple[Encoded, ...] = ()


class Found(NamedTuple):
    """`goal` is true only of requests that answer the question; `focus`: where to look for one."""

    answer: Answer
    goal: Term
    focus: Sequence[Encoded]


def by_permits(encoded: Sequence[Encoded]) -> list[Way]:
    """For goals that need some permit to hold: these ways are all that there are."""
    return [Way(each.satisfied, (each,)) for each in encoded if not each.statement.forbids]


ANYHOW = [Way(TRUE)]


def search(
    solving: Solving,
    goal: Term,
    encoded: Sequence[Encoded],
    ways: Sequence[Way],
    changed: Sequence[Encoded] = (),
) -> Found:
    """The goal must need one of the ways. `changed`: policies that may matter on each of them."""
    worlds = [each.world for each in encoded]
    if solving.seconds_left <= 0:
        return Found(solving.ask(goal, worlds), goal, encoded)
    tried = list(ways[:WAYS_MAX])
    if changed:
        tried += [Way(way.goal, (*way.focus, *changed)) for way in tried]
    for way in tried:
        hints = absent(encoded, but=way.focus)
        narrowed = both(goal, way.goal, *hints)
        answer = solving.glance(narrowed, worlds)
        if answer.yes:
            return Found(answer, narrowed, way.focus)
    whole = solving.ask(goal, worlds)
    if whole.yes or whole.no or whole.unsupported or len(ways) == 1:
        return Found(whole, goal, encoded)
    for way in ways:
        narrowed = both(goal, way.goal)
        answer = solving.ask(narrowed, worlds)
        if not answer.no:
            return Found(answer, narrowed, (*way.focus, *changed))
    return Found(Answer("unsat"), goal, encoded)


def absent(encoded: Iterable[Encoded], *, but: Iterable[Encoded] = ()) -> list[Term]:
    """That nothing optional is there, but what some of them ask for."""
    kept = {term.get_id() for each in but for term in each.world.optional}
    found = {term.get_id(): term for each in encoded for term in each.world.optional}
    return [negation(term) for id, term in found.items() if id not in kept]
