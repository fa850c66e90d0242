"""Tries to prove the prover wrong: many requests against each of its claims.

What is returned are the contradictions, each with all that is needed to see it again.
"""

from collections import Counter
from collections.abc import Sequence

from cedar_fuzz import Author
from cedar_judge import Judge, Verdict
from cedar_requests import Requests
from cedar_worlds import World, gateway_world, office_world, sets_world

from freehold.ports.policies import PolicyRequest, Rule
from freehold.ports.reasoning import Analysis, Comparison, Finding, Property

UNTOLD = frozenset({Property.UNSUPPORTED, Property.UNDECIDED, Property.INVALID})


def world_of(seed: int) -> World:
    """Half of them gateways."""
    if seed % 2:
        return gateway_world(seed)
    return office_world() if seed % 4 else sets_world(seed)


class Contradictions(list[str]):
    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = "\n".join(f"{rule.id}: {rule.statement}" for rule in rules)

    def say(self, claim: object, seen: object) -> None:
        self.append(f"claimed: {claim}\nseen: {seen}\nof:\n{self._rules}")


def attack_analysis(
    author: Author, rules: Sequence[Rule], analysis: Analysis, *, requests: int, seed: int
) -> tuple[Contradictions, Counter[str]]:
    """The counts say how many claims of each kind were attacked."""
    wrong, counts = Contradictions(rules), Counter[str]()
    judge = Judge(rules, author.schema)
    told = {rule.id for rule in rules}
    told -= {each.policy for each in analysis.findings if each.property in UNTOLD}
    safe = told - {each.policy for each in analysis.findings if each.property == "MAY_ERROR"}
    counts["never errs"] += len(safe)
    for finding in analysis.findings:
        counts[f"{finding.property}{'' if finding.policy else ' of an action'}"] += 1
        if finding.property is Property.MAY_ERROR and finding.example is not None:
            verdict = judge.of(finding.example.request, finding.example.entities)
            if finding.policy not in verdict.erred:
                wrong.say(finding, verdict)
    ask = Requests(author.world, author.pools, seed)
    for _ in range(requests):
        request, entities = ask.any()
        verdict = judge.of(request, entities)
        if verdict.erred & safe:
            wrong.say(f"{sorted(safe)} never err", (verdict, request, entities))
        for finding in analysis.findings:
            if _contradicts(judge, verdict, finding, request, rules):
                wrong.say(finding, (verdict, request, entities))
        if wrong:
            break
    return wrong, counts


def _contradicts(
    judge: Judge, verdict: Verdict, finding: Finding, request: PolicyRequest, rules: Sequence[Rule]
) -> bool:
    if request.action.id not in finding.actions:
        return False
    kind, policy = finding.property, finding.policy
    ids = [rule.id for rule in rules]
    if not policy:
        allowed = judge.allows(verdict, ids)
        if kind in (Property.ALLOW_NONE, Property.DENY_ALL):
            return allowed
        of_all = "every request is" in finding.description
        concerned = of_all or repr(request.resource.id) in finding.description
        return kind is Property.ALLOW_ALL and concerned and not allowed
    if kind in (Property.ALLOW_ALL, Property.DENY_ALL):
        return policy in verdict.concerned - verdict.satisfied
    if kind in (Property.ALLOW_NONE, Property.DENY_NONE):
        return policy in verdict.satisfied
    if kind in (Property.REDUNDANT, Property.SHADOWED):
        others = [id for id in ids if id != policy]
        return judge.allows(verdict, ids) != judge.allows(verdict, others)
    return False


def attack_comparison(
    author: Author,
    old: Sequence[Rule],
    new: Sequence[Rule],
    comparison: Comparison,
    *,
    requests: int,
    seed: int,
) -> tuple[Contradictions, Counter[str]]:
    wrong, counts = Contradictions([*old, *new]), Counter[str]()
    before, after = Judge(old, author.schema), Judge(new, author.schema)
    counts[f"equivalent: {comparison.equivalent}"] += 1
    shown = {(each.action, each.change) for each in comparison.differences}
    untold = {action for action, _ in comparison.untold}
    if comparison.equivalent != (False if shown else None if untold else True):
        wrong.say(comparison, "the verdict and the differences do not fit")
    for each in comparison.differences:
        counts[each.change] += 1
        sides = [
            judge.allows(judge.of(each.example.request, each.example.entities))
            for judge in (before, after)
        ]
        if sides != [each.change == "newly denied", each.change == "newly allowed"]:
            wrong.say(each, sides)
        if each.action != each.example.request.action.id:
            wrong.say(each, "an example of another action")
    ask = Requests(author.world, author.pools, seed)
    for _ in range(requests):
        request, entities = ask.any()
        was, now = (judge.allows(judge.of(request, entities)) for judge in (before, after))
        change = "newly allowed" if now else "newly denied"
        action = request.action.id
        if was != now and (action, change) not in shown and action not in untold:
            wrong.say(comparison, (change, request, entities))
            break
    return wrong, counts
