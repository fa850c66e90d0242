"""Questions to the solver, each asked once."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from freehold.adapters.smt.closing import closing
from freehold.adapters.smt.flattening import Flat, Flattening
from freehold.adapters.smt.schema import Schema
from freehold.adapters.smt.terms import Term, Unsupported, is_false, z3
from freehold.adapters.smt.world import World, merged

QUERY_SECONDS_MAX = 2.0
WISH_SECONDS_MAX = 0.5
GLANCE_SECONDS_MAX = 0.5
WISH_ROUNDS_MAX = 40
WISHES_SECONDS_MAX = 3.0

Record = Callable[[str, str], None]
"""Given each question as SMT-LIB 2 and its answer: sat, unsat or unknown."""


class Answer(NamedTuple):
    """`why` says why nothing is known; `unsupported` that no time would help."""

    word: str
    why: str = ""
    unsupported: bool = False

    @property
    def yes(self) -> bool:
        return self.word == "sat"

    @property
    def no(self) -> bool:
        return self.word == "unsat"


NO = Answer("unsat")


class Solving:
    def __init__(self, schema: Schema, *, seconds_max: float, record: Record | None = None) -> None:
        self._schema = schema
        self._deadline = time.monotonic() + seconds_max
        self._record = record
        self._known: dict[tuple[int, ...], tuple[Answer, float]] = {}
        self._facts: dict[frozenset[int], list[Term]] = {}
        self._kept: list[Any] = []
        self._flattening = Flattening()
        self.asked = 0

    @property
    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    def ask(self, goal: Term, worlds: Iterable[World]) -> Answer:
        """Whether some request makes the goal true."""
        return self._asked(goal, worlds, QUERY_SECONDS_MAX)

    def glance(self, goal: Term, worlds: Iterable[World]) -> Answer:
        """The same, but soon given up."""
        return self._asked(goal, worlds, GLANCE_SECONDS_MAX)

    def _asked(self, goal: Term, worlds: Iterable[World], seconds_max: float) -> Answer:
        if is_false(goal):
            return NO
        if self.seconds_left <= 0:
            return Answer("unknown", "time was up")
        try:
            terms = [goal, *self._closed(list(worlds))]
        except Unsupported as why:
            return Answer("unknown", str(why), unsupported=True)
        # The same terms are the same objects to the solver, whichever action they come from.
        key = tuple(sorted(term.get_id() for term in terms))
        known = self._known.get(key)
        if known is None or (known[0].word == "unknown" and known[1] < seconds_max):
            self._kept.append(terms)
            known = self._known[key] = self._solved(terms, seconds_max), seconds_max
        return known[0]

    def _closed(self, worlds: list[World]) -> list[Term]:
        """An analysis asks much of the same policies."""
        key = frozenset(map(id, worlds))
        if key not in self._facts:
            self._kept.append(worlds)
            self._facts[key] = closing(merged(self._schema, worlds))
        return self._facts[key]

    def _solved(self, terms: Sequence[Term], seconds_max: float) -> Answer:
        solver = self._solver(seconds_max)
        flattened = self._flattening.of(terms)
        solver.add(*(flattened.terms if flattened else terms))
        self.asked += 1
        word = _checked(solver)
        if self._record:
            self._record(_written(terms), word)
        if word != "unknown":
            return Answer(word)
        return Answer(word, "time was up" if self.seconds_left <= 0 else "it took too long")

    def model(self, goal: Term, worlds: Sequence[World], wishes: Sequence[Term]) -> Any:
        """A model of the goal in which as many wishes as may be come true; None where there is none
        in time. Each refusal names some that cannot be had together; the last of them is given up.
        """
        if self.seconds_left <= 0:
            return None
        solver = self._solver(WISH_SECONDS_MAX)
        terms = [goal, *self._closed(list(worlds))]
        hoped = {f"wish {index}": wish for index, wish in enumerate(wishes)}
        wished = [*terms, *(z3.Implies(z3.Bool(name), wish) for name, wish in hoped.items())]
        flattened = self._flattening.of(wished)
        stated = flattened.terms if flattened else wished
        solver.add(*stated)
        names = list(hoped)
        until = time.monotonic() + WISHES_SECONDS_MAX
        for _ in range(WISH_ROUNDS_MAX):
            if time.monotonic() > until:
                break
            word = _checked(solver, *(z3.Bool(name) for name in names))
            if word == "sat":
                return self._unflattened(terms, flattened, solver.model())
            refused = {str(each) for each in solver.unsat_core()} if word == "unsat" else set()
            if not refused:
                break
            names.remove(next(name for name in reversed(names) if name in refused))
        solver = self._solver(QUERY_SECONDS_MAX)
        solver.add(*stated)
        if _checked(solver) != "sat":
            return None
        return self._unflattened(terms, flattened, solver.model())

    def _unflattened(self, terms: Sequence[Term], flattened: Flat | None, model: Any) -> Any:
        """The model with functions again: everything is known by now, which leaves no search."""
        if flattened is None:
            return model
        solver = self._solver(QUERY_SECONDS_MAX)
        solver.add(*terms)
        own = {use.value.decl().get_id() for use in flattened.uses}
        for known in model.decls():
            if known.arity() == 0 and known.get_id() not in own:
                solver.add(known() == model[known])
        for use in flattened.uses:
            solver.add(use.term == model.eval(use.value, model_completion=True))
        return solver.model() if _checked(solver) == "sat" else None

    def _solver(self, seconds_max: float) -> Any:
        solver = z3.SimpleSolver()
        solver.set("timeout", max(1, int(min(seconds_max, self.seconds_left) * 1000)))
        return solver


def _written(terms: Sequence[Term]) -> str:
    solver = z3.SimpleSolver()
    solver.add(*terms)
    written: str = solver.to_smt2()
    return written


def _checked(solver: Any, *assumptions: Term) -> str:
    """What the solver cannot do, it throws."""
    try:
        return str(solver.check(*assumptions))
    except z3.Z3Exception:
        return "unknown"
