"""What is true of each policy of a set, and of the set for each action."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from freehold.adapters.smt.proving import Proving, allowed, forbidden, permitted
from freehold.adapters.smt.schema import Environment
from freehold.adapters.smt.searching import ANYHOW, Found, by_permits, search
from freehold.adapters.smt.solving import Answer, Record
from freehold.adapters.smt.statements import Encoded, Statement
from freehold.adapters.smt.terms import Term, both, negation, same, text, z3
from freehold.adapters.smt.values import unknown
from freehold.ports.policies import Rule
from freehold.ports.reasoning import Analysis, Finding, Property

RESOURCES_MAX = 16
"""Named resources for which a set is asked whether it allows everything."""


def analyse(
    rules: Sequence[Rule],
    schema: Mapping[str, Any],
    *,
    seconds_max: float = 30.0,
    record: Record | None = None,
    own_ids: Sequence[str] = (),
    same: Mapping[str, str] | None = None,
) -> Analysis:
    started = time.monotonic()
    proving = Proving(schema, seconds_max=seconds_max, record=record, own_ids=own_ids, same=same)
    statements = proving.read(rules)
    analysing = _Analysing(proving, statements)
    findings = [*analysing.of_policies(), *analysing.of_actions()]
    return Analysis(
        findings=findings,
        policies=len(statements),
        actions=len({environment.action for environment in proving.environments}),
        seconds=time.monotonic() - started,
    )


class _Analysing:
    def __init__(self, proving: Proving, statements: Sequence[Statement]) -> None:
        self._proving = proving
        self._statements = statements
        self._speaking: dict[Environment, list[Encoded]] = {
            environment: proving.speaking(statements, environment)
            for environment in proving.environments
        }

    def of_policies(self) -> Iterable[Finding]:
        engaged: dict[int, list[tuple[Environment, Encoded]]] = {
            index: [] for index in range(len(self._statements))
        }
        for environment, speaking in self._speaking.items():
            for each in speaking:
                engaged[self._index(each.statement)].append((environment, each))
        effective: list[int] = []
        for index, statement in enumerate(self._statements):
            if statement.problems:
                yield self._finding(statement, Property.INVALID, "; ".join(statement.problems))
                continue
            findings, holds = self._of_one(statement, engaged[index])
            yield from findings
            if holds:
                effective.append(index)
        for index in effective:
            yield from self._needless(self._statements[index], engaged[index])

    def _index(self, statement: Statement) -> int:
        return next(i for i, each in enumerate(self._statements) if each is statement)

    def _of_one(
        self, statement: Statement, engaged: Sequence[tuple[Environment, Encoded]]
    ) -> tuple[list[Finding], bool]:
        """The findings, and whether the policy could hold, so that it could be needless."""
        why = next((each.unsupported for _, each in engaged if each.unsupported), "")
        if why:
            return [self._finding(statement, Property.UNSUPPORTED, why, engaged)], True
        findings: list[Finding] = []
        untold: list[Answer] = []
        goals = (
            (True, [(e, each.satisfied) for e, each in engaged]),
            (False, [(e, both(each.resource, negation(each.satisfied))) for e, each in engaged]),
        )
        holds = True
        for never, asked in goals:
            answer = self._any(asked, engaged)
            if answer.no:
                findings.append(self._extreme(statement, never, engaged))
                holds = not never
                if never:
                    break
            elif not answer.yes:
                untold.append(answer)
        findings += self._may_fail(statement, engaged, untold)
        if untold:
            findings.append(self._untold(statement, untold, engaged))
        return findings, holds

    def _any(
        self,
        goals: Iterable[tuple[Environment, Term]],
        engaged: Sequence[tuple[Environment, Encoded]],
    ) -> Answer:
        """Yes where it is so in one environment; no only where it is so in none."""
        worlds = {environment: each.world for environment, each in engaged}
        doubt: Answer | None = None
        for environment, goal in goals:
            answer = self._proving.solving.ask(goal, [worlds[environment]])
            if answer.yes:
                return answer
            if not answer.no:
                doubt = doubt or answer
        return doubt or Answer("unsat")

    def _extreme(
        self, statement: Statement, never: bool, engaged: Sequence[tuple[Environment, Encoded]]
    ) -> Finding:
        """The resource that a policy names is taken as given: a gateway's policies name it."""
        if statement.forbids:
            kind, verb = (Property.DENY_NONE if never else Property.DENY_ALL), "forbids"
        else:
            kind, verb = (Property.ALLOW_NONE if never else Property.ALLOW_ALL), "permits"
        if never:
            return self._finding(statement, kind, f"it never {verb}", engaged)
        any_resource = statement.parsed["resource"]["op"] in ("All", "is")
        where = "" if any_resource else " to the resource that it names"
        words = f"it {verb} every request of its actions{where}"
        return self._finding(statement, kind, words, engaged)

    def _may_fail(
        self,
        statement: Statement,
        engaged: Sequence[tuple[Environment, Encoded]],
        untold: list[Answer],
    ) -> list[Finding]:
        for environment, each in engaged:
            answer = self._proving.solving.ask(each.fails, [each.world])
            if answer.no:
                continue
            if not answer.yes:
                untold.append(answer)
                continue
            shown = self._proving.example(
                Found(answer, each.fails, [each]),
                [each],
                environment,
                self._proving.engine([statement]),
                lambda word: statement.id in word.failed,
            )
            if isinstance(shown, str):
                untold.append(Answer("unknown", f"whether it can fail: {shown}"))
                continue
            words = "a request makes its condition fail"
            finding = self._finding(statement, Property.MAY_ERROR, words)
            return [
                Finding(
                    property=finding.property,
                    policy=finding.policy,
                    actions=(environment.action.id,),
                    description=words,
                    example=shown.example,
                )
            ]
        return []

    def _untold(
        self,
        statement: Statement,
        untold: Sequence[Answer],
        engaged: Sequence[tuple[Environment, Encoded]],
    ) -> Finding:
        hopeless = next((each for each in untold if each.unsupported), None)
        kind = Property.UNSUPPORTED if hopeless else Property.UNDECIDED
        return self._finding(statement, kind, (hopeless or untold[0]).why, engaged)

    def _needless(
        self, statement: Statement, engaged: Sequence[tuple[Environment, Encoded]]
    ) -> Iterable[Finding]:
        """Redundant or shadowed. What could not be told is not worth a finding of its own, but for
        the time."""
        if not engaged:
            return
        for environment, each in engaged:
            others = self._others(environment, each)
            goal = both(_taken(each), negation(forbidden(others)))
            goal = both(
                goal,
                permitted(others) if statement.forbids else negation(permitted(others)),
            )
            ways = by_permits(others) if statement.forbids else ANYHOW
            answer = search(self._proving.solving, goal, (each, *others), ways, [each]).answer
            if not answer.no:
                if not answer.yes:
                    words = f"whether it is redundant: {answer.why}"
                    yield self._finding(statement, Property.UNDECIDED, words, engaged)
                return
        by = self._shadow(statement, engaged)
        if by:
            words = (
                "forbids take all that it permits"
                if not statement.forbids and any(self._named(id).forbids for id in by)
                else "another policy says all that it does"
            )
            yield self._finding(statement, Property.SHADOWED, words, engaged, by)
        else:
            words = "the set decides the same without it"
            yield self._finding(statement, Property.REDUNDANT, words, engaged)

    def _others(self, environment: Environment, one: Encoded) -> list[Encoded]:
        return [each for each in self._speaking[environment] if each.statement is not one.statement]

    def _named(self, id: str) -> Statement:
        return next(each for each in self._statements if each.id == id)

    def _shadow(
        self, statement: Statement, engaged: Sequence[tuple[Environment, Encoded]]
    ) -> tuple[str, ...]:
        """The one policy that covers all that this one takes; else the forbids that do together."""
        candidates = {
            id(each.statement): each.statement
            for environment, one in engaged
            for each in self._others(environment, one)
        }
        for other in sorted(candidates.values(), key=lambda each: not each.forbids):
            if statement.forbids and not other.forbids:
                continue
            if self._covered(engaged, [other]):
                return (other.id,)
        forbids = [each for each in candidates.values() if each.forbids]
        if not statement.forbids and len(forbids) > 1 and self._covered(engaged, forbids):
            return tuple(each.id for each in self._fewest(engaged, forbids))
        return ()

    def _fewest(
        self, engaged: Sequence[tuple[Environment, Encoded]], forbids: list[Statement]
    ) -> list[Statement]:
        kept = list(forbids)
        for each in forbids:
            rest = [other for other in kept if other is not each]
            if self._covered(engaged, rest):
                kept = rest
        return kept

    def _covered(
        self, engaged: Sequence[tuple[Environment, Encoded]], covers: Sequence[Statement]
    ) -> bool:
        for environment, one in engaged:
            over = self._proving.speaking(covers, environment)
            taken = [negation(_taken(each)) for each in over]
            goal = both(_taken(one), *taken)
            if not self._proving.solving.ask(goal, [e.world for e in (one, *over)]).no:
                return False
        return True

    def of_actions(self) -> Iterable[Finding]:
        """Where some policy of the set speaks of the action."""
        found: dict[tuple[Property, str], list[str]] = {}
        by_action: dict[str, list[Environment]] = {}
        for environment in self._speaking:
            by_action.setdefault(environment.action.id, []).append(environment)
        for action, environments in by_action.items():
            if not any(self._speaking[environment] for environment in environments):
                continue
            for kind, words in self._of_action(environments):
                found.setdefault((kind, words), []).append(action)
        for (kind, words), actions in found.items():
            yield Finding(property=kind, actions=tuple(actions), description=words)

    def _of_action(self, environments: Sequence[Environment]) -> Iterable[tuple[Property, str]]:
        never = self._all(environments, allowed)
        if never.no:
            yield Property.ALLOW_NONE, "no request is allowed"
            return
        if not never.yes:
            yield Property.UNDECIDED, f"whether any request is allowed: {never.why}"
        always = self._all(environments, lambda speaking: negation(allowed(speaking)))
        if always.no:
            yield Property.ALLOW_ALL, "every request is allowed"
            return
        for resource in self._resources(environments):
            here = self._all(environments, lambda speaking: negation(allowed(speaking)), resource)
            if here.no:
                yield Property.ALLOW_ALL, f"every request to {resource!r} is allowed"

    def _all(self, environments: Sequence[Environment], goal: Any, resource: str = "") -> Answer:
        doubt: Answer | None = None
        for environment in environments:
            speaking = self._speaking[environment]
            asked = goal(speaking)
            if resource:
                asked = both(asked, same(unknown("resource", z3.StringSort()), text(resource)))
            ways = by_permits(speaking) if goal is allowed else ANYHOW
            answer = search(self._proving.solving, asked, speaking, ways).answer
            if answer.yes:
                return answer
            if not answer.no:
                doubt = doubt or answer
        return doubt or Answer("unsat")

    def _resources(self, environments: Sequence[Environment]) -> list[str]:
        found: dict[str, None] = {}
        for environment in environments:
            for each in self._speaking[environment]:
                clause = each.statement.parsed["resource"]
                if clause["op"] == "==" and not each.statement.forbids:
                    found[clause["entity"]["id"]] = None
        return list(found)[:RESOURCES_MAX]

    def _finding(
        self,
        statement: Statement,
        kind: Property,
        words: str,
        engaged: Sequence[tuple[Environment, Encoded]] = (),
        by: tuple[str, ...] = (),
    ) -> Finding:
        actions = tuple(dict.fromkeys(environment.action.id for environment, _ in engaged))
        return Finding(
            property=kind, policy=statement.id, actions=actions, by=by, description=words
        )


def _taken(encoded: Encoded) -> Term:
    """What the policy decides: a forbid that fails, forbids; a permit that fails does nothing."""
    return encoded.forbids if encoded.statement.forbids else encoded.satisfied
