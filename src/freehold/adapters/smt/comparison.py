"""What a change of a set newly allows and newly denies."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from freehold.adapters.smt.confirmation import Engine, Word
from freehold.adapters.smt.proving import Proving, Shown, allowed
from freehold.adapters.smt.schema import Environment
from freehold.adapters.smt.searching import by_permits, search
from freehold.adapters.smt.solving import Record
from freehold.adapters.smt.statements import Encoded, Statement
from freehold.adapters.smt.terms import Term, both, negation
from freehold.ports.policies import Rule
from freehold.ports.reasoning import Comparison, Difference

Change = Literal["newly allowed", "newly denied"]


def compare(
    old: Sequence[Rule],
    new: Sequence[Rule],
    schema: Mapping[str, Any],
    *,
    seconds_max: float = 30.0,
    record: Record | None = None,
    own_ids: Sequence[str] = (),
    same: Mapping[str, str] | None = None,
) -> Comparison:
    started = time.monotonic()
    proving = Proving(schema, seconds_max=seconds_max, record=record, own_ids=own_ids, same=same)
    comparing = _Comparing(proving, proving.read(old), proving.read(new))
    for environment in proving.environments:
        comparing.environment(environment)
    differences, untold = comparing.differences, comparing.untold
    return Comparison(
        equivalent=False if differences else None if untold else True,
        differences=tuple(differences.values()),
        untold=tuple(untold),
        seconds=time.monotonic() - started,
    )


class _Comparing:
    def __init__(
        self, proving: Proving, old: Sequence[Statement], new: Sequence[Statement]
    ) -> None:
        self._proving = proving
        self._old, self._new = old, new
        self._before, self._after = proving.engine(old), proving.engine(new)
        self.differences: dict[tuple[str, Change], Difference] = {}
        self.untold: dict[tuple[str, str], None] = {}

    def environment(self, environment: Environment) -> None:
        old = self._proving.speaking(self._old, environment)
        new = self._proving.speaking(self._new, environment)
        if _digests(old) == _digests(new):
            return
        was, will_be = allowed(old), allowed(new)
        either = [*old, *new]
        gain, loss = both(will_be, negation(was)), both(was, negation(will_be))
        self._ask("newly allowed", gain, new, either, environment)
        self._ask("newly denied", loss, old, either, environment)

    def _ask(
        self,
        change: Change,
        goal: Term,
        allowing: Sequence[Encoded],
        either: Sequence[Encoded],
        environment: Environment,
    ) -> None:
        """One example of each change is enough for an action."""
        action = environment.action.id
        if (action, change) in self.differences:
            return
        digests = Counter(each.statement.digest for each in either)
        changed = [each for each in either if digests[each.statement.digest] == 1]
        first = sorted(allowing, key=lambda each: digests[each.statement.digest])
        found = search(self._proving.solving, goal, either, by_permits(first), changed)
        if found.answer.no:
            return
        shown: Shown | str = found.answer.why
        if found.answer.yes:
            engine = _Both(self._before, self._after)
            as_claimed = _as(change == "newly allowed")
            shown = self._proving.example(found, either, environment, engine, as_claimed)
        if isinstance(shown, str):
            self.untold[action, f"whether something is {change}: {shown}"] = None
            return
        policies = shown.word.deciding or self._before.decide(shown.example).deciding
        self.differences[action, change] = Difference(
            action=action, change=change, example=shown.example, policies=policies
        )


class _Both(Engine):
    """The engine after the change, of a request on which it decides otherwise than before."""

    def __init__(self, before: Engine, after: Engine) -> None:
        self._before, self._after = before, after

    def asked(self, request: Any, entities: Any) -> Word:
        before, after = self._before.asked(request, entities), self._after.asked(request, entities)
        if before.problem or before.allowed == after.allowed:
            return after._replace(problem=before.problem or "both decided alike")
        return after


def _as(loosened: bool) -> Any:
    return lambda word: word.allowed is loosened


def _digests(encoded: Sequence[Encoded]) -> list[str]:
    return sorted(each.statement.digest for each in encoded)
