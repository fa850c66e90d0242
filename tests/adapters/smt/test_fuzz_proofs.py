"""What the prover says of random policies is attacked with random requests, and holds."""

from collections import Counter

import pytest
from cedar_attacks import attack_analysis, attack_comparison, world_of
from cedar_changes import changed
from cedar_fuzz import Author

from freehold.adapters.smt import proofs
from freehold.ports.reasoning import Property

UNTOLD_MAX = 0.05
"""Of random policies, which use everything there is; of the corpus' see test_fuzz_corpus.py."""


def analyses_stand(seeds: range, *, rules: int, requests: int) -> Counter[str]:
    counts = Counter[str]()
    for seed in seeds:
        author = Author(world_of(seed), seed)
        written = author.rules(rules)
        if seed % 5 == 0:
            written[0] = author.unfit(written[0])
        analysis = proofs.analyse(written, author.world.schema(), seconds_max=20)
        assert analysis.policies == rules
        wrong, more = attack_analysis(author, written, analysis, requests=requests, seed=seed)
        assert not wrong, f"seed {seed}: {wrong[0]}"
        counts += more
        counts["policies"] += rules
    return counts


def comparisons_stand(seeds: range, *, rules: int, requests: int) -> Counter[str]:
    counts = Counter[str]()
    for seed in seeds:
        author = Author(world_of(seed), seed)
        old = author.rules(rules)
        if seed % 5 == 0:
            old[-1] = author.unfit(old[-1])
        new = changed(author, old, seed)
        made = proofs.compare(old, new, author.world.schema(), seconds_max=20)
        wrong, more = attack_comparison(author, old, new, made, requests=requests, seed=seed)
        assert not wrong, f"seed {seed}: {wrong[0]}"
        counts += more
    return counts


def check_untold(counts: Counter[str]) -> None:
    untold = counts[Property.UNSUPPORTED] + counts[Property.UNDECIDED]
    assert untold <= UNTOLD_MAX * counts["policies"], counts


def test_no_request_contradicts_an_analysis_of_random_policies() -> None:
    counts = analyses_stand(range(20), rules=3, requests=100)
    assert counts["never errs"] and counts[Property.ALLOW_NONE] and counts[Property.REDUNDANT]
    check_untold(counts)


def test_no_request_contradicts_a_comparison_of_random_sets() -> None:
    counts = comparisons_stand(range(100, 116), rules=3, requests=100)
    assert counts["equivalent: True"] and counts["newly allowed"] and counts["newly denied"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_request_contradicts_any_of_a_great_many_claims() -> None:
    counts = analyses_stand(range(1_000, 1_100), rules=4, requests=250)
    counts += comparisons_stand(range(2_000, 2_100), rules=4, requests=250)
    print(dict(counts))
    check_untold(counts)
