"""What a change of a set newly allows and denies, and that the engine agrees."""

import json

import cedarpy
from proofs_ground import (
    BALANCE,
    SCHEMA,
    TRANSFER,
    forbid,
    permit,
)

from freehold.adapters.smt import proofs
from freehold.ports.policies import Rule
from freehold.ports.reasoning import Comparison, Example

SMALL = permit("small", "context.input.amount <= 1000")
APPROVED = permit(
    "approved",
    'principal.hasTag("approved_by") && principal.getTag("approved_by") like "manager:*"',
)


def compared(old: list[Rule], new: list[Rule]) -> Comparison:
    return proofs.compare(old, new, SCHEMA)


def engine_allows(rules: list[Rule], example: Example) -> bool:
    """Asked anew, from the text."""
    request = example.request
    answer = cedarpy.is_authorized(
        {
            "principal": request.principal._asdict(),
            "action": request.action._asdict(),
            "resource": request.resource._asdict(),
            "context": dict(request.context),
        },
        "\n".join(rule.statement for rule in rules),
        [
            {
                "uid": entity.uid._asdict(),
                "attrs": dict(entity.attributes),
                "tags": dict(entity.tags),
                "parents": [parent._asdict() for parent in entity.parents],
            }
            for entity in example.entities
        ],
        json.dumps(SCHEMA),
    )
    assert answer.decision is not cedarpy.Decision.NoDecision, answer.diagnostics.errors
    return answer.decision is cedarpy.Decision.Allow


def only(old: list[Rule], new: list[Rule], change: str) -> Example:
    comparison = compared(old, new)
    (difference,) = comparison.differences
    assert comparison.equivalent is False
    assert difference.change == change
    assert difference.action == TRANSFER
    assert engine_allows(new, difference.example) is (change == "newly allowed")
    assert engine_allows(old, difference.example) is not (change == "newly allowed")
    return difference.example


def test_the_same_meaning_in_other_words_is_equivalent() -> None:
    other = [
        permit("a", "!(context.input.amount > 1000) && context.input.amount > 500"),
        permit("b", "500 >= context.input.amount"),
    ]
    comparison = compared([SMALL], other)
    assert comparison.equivalent is True
    assert not comparison.loosens


def test_a_wider_bound_newly_allows_and_the_example_lies_between() -> None:
    example = only([SMALL], [permit("small", "context.input.amount <= 2000")], "newly allowed")
    assert 1000 < example.request.context["input"]["amount"] <= 2000


def test_a_narrower_bound_newly_denies() -> None:
    example = only([SMALL], [permit("small", "context.input.amount <= 500")], "newly denied")
    assert 500 < example.request.context["input"]["amount"] <= 1000


def test_dropping_the_approval_shows_a_transfer_over_the_limit_without_one() -> None:
    example = only([SMALL, APPROVED], [permit("all")], "newly allowed")
    assert example.request.context["input"]["amount"] > 1000
    principal = next(each for each in example.entities if each.uid == example.request.principal)
    assert not str(principal.tags.get("approved_by", "")).startswith("manager:")


def test_approval_by_another_role_shows_the_claim_that_now_passes() -> None:
    clerk = permit(
        "approved", APPROVED.statement.partition("when { ")[2][:-3].replace("manager:*", "*")
    )
    example = only([SMALL, APPROVED], [SMALL, clerk], "newly allowed")
    principal = next(each for each in example.entities if each.uid == example.request.principal)
    assert not principal.tags["approved_by"].startswith("manager:")


def test_a_forbid_that_is_taken_away_loosens_and_names_who_now_decides() -> None:
    guard = forbid("guard", 'context.input has labels && context.input.labels.contains("x")')
    comparison = compared([SMALL, guard], [SMALL])
    assert comparison.loosens
    (difference,) = comparison.differences
    assert difference.policies == ("small",)
    assert "x" in difference.example.request.context["input"]["labels"]
    (difference,) = compared([SMALL], [SMALL, guard]).differences
    assert difference.change == "newly denied"
    assert difference.policies == ("guard",)


def test_where_nothing_permits_any_more_those_before_are_named() -> None:
    (difference,) = compared([SMALL], []).differences
    assert difference.policies == ("small",)


def test_a_forbid_that_may_err_denies_what_it_errs_on() -> None:
    every = permit("all")
    overflow = forbid("overflow", "context.input.amount + 1 < context.input.amount")
    (difference,) = compared([every], [every, overflow]).differences
    assert difference.change == "newly denied"
    assert difference.example.request.context["input"]["amount"] == 2**63 - 1


def test_an_invalid_permit_permits_nothing_and_an_invalid_forbid_forbids_its_scope() -> None:
    broken = permit("broken", "context.input.nothing == 1")
    assert compared([SMALL], [SMALL, broken]).equivalent is True
    (difference,) = compared([SMALL], [SMALL, forbid("f", "context.input.nothing")]).differences
    assert difference.change == "newly denied"


def test_each_action_is_told_of() -> None:
    comparison = compared([], [permit("all", action=None)])
    assert {each.action for each in comparison.differences} == {BALANCE, TRANSFER}


def test_the_examples_are_small() -> None:
    example = only([], [permit("a", "context.input.amount > 1000")], "newly allowed")
    assert example.request.principal.id == "alice"
    context = example.request.context
    assert 1000 < context["input"]["amount"] <= 10_000
    assert set(context) == {"input", "time"}
    assert "labels" not in context["input"]
    assert context["time"]["__extn"]["arg"].startswith("2026-")


def test_what_cannot_be_told_is_untold_and_not_equivalent() -> None:
    matrix = "context.input has matrix && context.input.matrix.contains([1])"
    comparison = compared([SMALL], [SMALL, permit("m", matrix)])
    assert comparison.equivalent is None
    ((action, why),) = comparison.untold
    assert action == TRANSFER
    assert "sets of sets" in why


def test_an_unsupported_policy_on_both_sides_does_not_stand_in_the_way() -> None:
    matrix = permit("m", "context.input has matrix && context.input.matrix.contains([1])")
    assert compared([SMALL, matrix], [matrix, SMALL]).equivalent is True
    again = permit("again", "context.input.amount < 1000 || context.input.amount == 1000")
    assert compared([SMALL, matrix], [matrix, again]).equivalent is True
    denied = compared([SMALL, matrix], [matrix, permit("less", "context.input.amount < 1000")])
    assert [each.change for each in denied.differences] == ["newly denied"]


def test_without_time_nothing_is_told() -> None:
    comparison = proofs.compare([], [SMALL], SCHEMA, seconds_max=0.0)
    assert comparison.equivalent is None
    assert {why for _, why in comparison.untold} == {
        "whether something is newly allowed: time was up",
    }
