"""Another solver gives the same answers to the prover's questions."""

from collections import Counter

import pytest
from cedar_attacks import world_of
from cedar_changes import changed
from cedar_corpus import corpus, shop
from cedar_fuzz import Author

from freehold.adapters.smt import proofs

pytest.importorskip("cvc5", reason="cvc5, the second opinion, is not installed")

from cvc5_says import NotUnderstood, cvc5_says

UNTOLD_MAX = 0.1
"""The share of questions that cvc5 may leave open, in its time or for what it cannot read."""

Question = tuple[str, str]


def questions_of_the_corpus(size: int) -> list[Question]:
    asked: list[Question] = []
    rules = [entry.rule for entry in corpus() if not entry.rule.id.startswith("iam_")][:size]
    schema = shop("OAuthUser").schema()
    proofs.analyse(rules, schema, record=lambda *question: asked.append(question))
    return asked


def questions_of_random_policies(seeds: range) -> list[Question]:
    asked: list[Question] = []
    for seed in seeds:
        author = Author(world_of(seed), seed)
        rules = author.rules(3)
        schema = author.world.schema()
        proofs.analyse(rules, schema, record=lambda *question: asked.append(question))
        new = changed(author, rules, seed)
        proofs.compare(rules, new, schema, record=lambda *question: asked.append(question))
    return asked


def compared(questions: list[Question], *, milliseconds: int) -> Counter[str]:
    counts = Counter[str]()
    for question, answer in questions:
        try:
            other = cvc5_says(question, milliseconds=milliseconds)
        except NotUnderstood:
            other = "not understood"
        counts[f"z3 {answer}, cvc5 {other}"] += 1
        if answer != "unknown" and other in ("sat", "unsat"):
            assert answer == other, question
    return counts


def untold(counts: Counter[str]) -> int:
    return sum(n for what, n in counts.items() if "cvc5 sat" not in what and "unsat" not in what)


def test_cvc5_agrees_on_policies_as_people_write_them() -> None:
    counts = compared(questions_of_the_corpus(14), milliseconds=500)
    assert counts["z3 sat, cvc5 sat"] > 10 and counts["z3 unsat, cvc5 unsat"] > 3, counts
    assert untold(counts) <= UNTOLD_MAX * counts.total(), counts


def test_cvc5_agrees_on_random_policies() -> None:
    counts = compared(questions_of_random_policies(range(6)), milliseconds=500)
    assert untold(counts) <= UNTOLD_MAX * counts.total(), counts


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cvc5_agrees_on_a_great_many_questions() -> None:
    counts = compared(questions_of_random_policies(range(5_000, 5_030)), milliseconds=1_000)
    counts += compared(questions_of_the_corpus(100), milliseconds=1_000)
    print(dict(counts))
    assert untold(counts) <= UNTOLD_MAX * counts.total(), counts
