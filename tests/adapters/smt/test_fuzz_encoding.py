"""One policy and one request: the encoding holds and fails exactly where the engine does."""

import random
from collections import Counter

import pytest
from cedar_attacks import world_of
from cedar_fuzz import Author
from cedar_judge import Judge
from cedar_requests import Requests

from freehold.adapters.smt import proofs
from freehold.ports.policies import Entity, PolicyRequest, Rule


def some_missing(pick: random.Random, request: PolicyRequest, all: list[Entity]) -> list[Entity]:
    """The store without some whom nobody would miss, until a policy asks for them."""
    kept = (request.principal, request.resource)
    return [each for each in all if each.uid in kept or pick.random() < 0.7]


Seen = tuple[PolicyRequest, list[Entity]]


def telling(author: Author, rules: list[Rule], seed: int, requests: int) -> dict[str, list[Seen]]:
    """For each rule a request for each verdict of the engine that could be had: few of many."""
    judge, pick = Judge(rules, author.schema), random.Random(seed)
    ask = Requests(author.world, author.pools, seed)
    found: dict[tuple[str, bool, bool], Seen] = {}
    for number in range(requests):
        request, entities = ask.any()
        if number % 2:
            entities = some_missing(pick, request, entities)
        verdict = judge.of(request, entities)
        for rule in rules:
            told = (rule.id, rule.id in verdict.satisfied, rule.id in verdict.erred)
            found.setdefault(told, (request, entities))
    return {rule.id: [seen for told, seen in found.items() if told[0] == rule.id] for rule in rules}


def encodings_agree(seeds: range, *, rules: int, requests: int) -> Counter[str]:
    counts = Counter[str]()
    for seed in seeds:
        author = Author(world_of(seed), seed)
        written = author.rules(rules)
        schema, judge = author.world.schema(), Judge(written, author.schema)
        chosen = telling(author, written, seed, requests)
        for rule in written:
            for request, entities in chosen[rule.id]:
                claim = proofs.claim(rule, schema, request, entities)
                assert not claim.loose and not claim.invalid, (rule, claim)
                if claim.unsupported or claim.satisfied is None or claim.errs is None:
                    counts["not told"] += 1
                    continue
                verdict = judge.of(request, entities)
                truth = (rule.id in verdict.satisfied, rule.id in verdict.erred)
                said = (claim.satisfied, claim.errs)
                assert said == truth, (seed, rule.statement, request, entities)
                counts[f"satisfied {truth[0]}, errs {truth[1]}"] += 1
    return counts


def test_the_encoding_of_a_random_policy_agrees_with_the_engine_on_random_requests() -> None:
    counts = encodings_agree(range(12), rules=4, requests=50)
    assert min(counts[f"satisfied {told}, errs False"] for told in (True, False)) > 10, counts
    assert counts["satisfied False, errs True"], counts
    assert counts["not told"] < 0.02 * counts.total(), counts


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_encoding_agrees_with_the_engine_thousands_of_times() -> None:
    counts = encodings_agree(range(10_000, 10_150), rules=6, requests=100)
    print(dict(counts))
    assert counts["not told"] < 0.02 * counts.total(), counts
