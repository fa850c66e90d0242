"""What is proven of one policy, and of a set."""

import pytest
from proofs_ground import (
    BALANCE,
    GATEWAY,
    SCHEMA,
    TRANSFER,
    analysed,
    forbid,
    found,
    permit,
    properties,
)

from freehold.adapters.smt import proofs
from freehold.ports.policies import PolicyRefused, Rule
from freehold.ports.reasoning import Property

BALANCES = permit("balances", action=BALANCE)
SMALL = permit("small", "context.input.amount <= 1000")
APPROVED = permit(
    "approved",
    'principal.hasTag("approved_by") && principal.getTag("approved_by") like "manager:*"',
)


def test_a_permit_without_a_condition_allows_all_of_its_action() -> None:
    (finding,) = found(BALANCES)
    assert finding.property is Property.ALLOW_ALL
    assert finding.actions == (BALANCE,)


def test_a_permit_with_a_condition_that_always_holds_allows_all() -> None:
    assert properties(permit("a", "context.input.amount < 5 || context.input.amount >= 5")) == {
        Property.ALLOW_ALL
    }


def test_a_permit_that_names_its_principal_does_not_allow_all() -> None:
    one = permit("one", principal='principal == AgentCore::OAuthUser::"ann"')
    assert properties(one) == set()
    kind = permit("kind", principal="principal is AgentCore::OAuthUser")
    assert properties(kind) == {Property.ALLOW_ALL}


def test_a_permit_that_contradicts_itself_allows_none() -> None:
    never = permit("never", "context.input.amount > 5 && context.input.amount < 3")
    assert properties(never) == {Property.ALLOW_NONE}


def test_forbids_that_always_and_never_hold_are_told() -> None:
    assert properties(forbid("all"), SMALL) == {Property.DENY_ALL}
    assert properties(forbid("none", 'context.input.to like "a*" && context.input.to == "b"')) == {
        Property.DENY_NONE
    }


def test_a_policy_that_does_not_fit_the_schema_is_invalid_in_the_validators_words() -> None:
    (finding,) = found(permit("bad", "context.input.amonut > 5"))
    assert finding.property is Property.INVALID
    assert "amonut" in finding.description


def test_an_invalid_forbid_forbids_all_that_its_scope_covers() -> None:
    findings = found(forbid("bad", "context.input.nothing"), SMALL, of="")
    assert [each.property for each in findings] == [Property.ALLOW_NONE]


def test_an_overflow_is_an_error_and_the_example_errs_in_the_engine() -> None:
    rule = forbid("twice", "context.input.amount * 2 > 100000")
    (finding,) = [each for each in found(rule) if each.property is Property.MAY_ERROR]
    assert finding.example is not None
    amount = finding.example.request.context["input"]["amount"]
    assert not -(2**63) <= amount * 2 < 2**63


def test_what_is_guarded_cannot_fail() -> None:
    assert properties(permit("a", 'context.input has note && context.input.note == "x"')) == set()
    assert properties(permit("a", "context.input.amount < 1000 && context.input.amount > -5")) == (
        set()
    )
    bounded = "context.input.amount < 1000 && context.input.amount > 0"
    assert properties(permit("a", f"{bounded} && context.input.amount * 9 > 5")) == set()


def test_a_policy_within_another_is_shadowed_by_it() -> None:
    (finding,) = found(permit("ten", "context.input.amount <= 10"), SMALL)
    assert finding.property is Property.SHADOWED
    assert finding.by == ("small",)


def test_a_permit_that_forbids_take_wholly_is_shadowed_by_just_those() -> None:
    tens = permit("tens", "context.input.amount > 10 && context.input.amount < 20")
    low = forbid("low", "context.input.amount < 15")
    high = forbid("high", "context.input.amount > 14")
    idle = forbid("idle", 'context.input.to == "nobody"')
    (finding,) = found(tens, SMALL, low, idle, high)
    assert finding.property is Property.SHADOWED
    assert set(finding.by) == {"low", "high"} or finding.by == ("small",)
    (finding,) = found(tens, low, idle, high)
    assert set(finding.by) == {"low", "high"}


def test_a_policy_that_two_others_make_up_is_redundant() -> None:
    halves = permit("a", "context.input.amount < 5"), permit("b", "context.input.amount > 3")
    (finding,) = found(
        permit("mid", "context.input.amount == 4 || context.input.amount < 9"), *halves
    )
    assert finding.property is Property.REDUNDANT


def test_a_forbid_of_what_nobody_permits_is_redundant() -> None:
    (finding,) = found(forbid("big", "context.input.amount > 5000"), SMALL)
    assert finding.property is Property.REDUNDANT


def test_a_forbid_that_errs_forbids_and_so_is_not_redundant() -> None:
    errs = forbid("errs", "context.input.amount + 1 > 100000")
    assert Property.REDUNDANT in properties(errs, SMALL)
    anything = permit("any", "context.input.urgent")
    overflow = forbid("overflow", f"context.input.amount + {2**62} < -{2**62}")
    assert Property.REDUNDANT not in properties(overflow, anything)


def test_the_set_is_told_of_for_each_action_that_it_speaks_of() -> None:
    findings = found(BALANCES, SMALL, forbid("no"), of="")
    assert {(each.property, tuple(each.actions)) for each in findings} == {
        (Property.ALLOW_ALL, (BALANCE,)),
        (Property.ALLOW_NONE, (TRANSFER,)),
    }
    assert found(BALANCES, of="")[0].actions == (BALANCE,)


def test_the_seeds_rule_has_nothing_against_it_but_that_balances_are_open() -> None:
    """Balances may be read; transfers over 1000 need a manager's approval claim."""
    analysis = analysed(BALANCES, SMALL, APPROVED)
    assert {(each.property, each.policy) for each in analysis.findings} == {
        (Property.ALLOW_ALL, "balances"),
        (Property.ALLOW_ALL, ""),
    }
    assert analysis.policies == 3
    assert analysis.actions == 2


def test_an_empty_set_has_no_findings() -> None:
    assert analysed().findings == []


def test_sets_of_sets_are_said_to_be_unsupported() -> None:
    (finding,) = found(
        permit("m", "context.input has matrix && context.input.matrix.contains([1])")
    )
    assert finding.property is Property.UNSUPPORTED
    assert "sets of sets" in finding.description
    assert properties(permit("m", "context.input has matrix")) == set()


def test_what_is_unsupported_leaves_the_others_told() -> None:
    open = permit("m", "context.input has matrix && context.input.matrix.contains([1])")
    assert properties(permit("ten", "context.input.amount <= 10"), SMALL, open) == {
        Property.SHADOWED
    }
    assert properties(BALANCES, open, of="") == {Property.ALLOW_ALL}


def test_without_time_everything_is_undecided() -> None:
    hard = "context.input.amount * context.input.amount * context.input.amount - \
        context.input.other * context.input.other * context.input.other == 33"
    findings = proofs.analyse([permit("hard", hard)], SCHEMA, seconds_max=0.0).findings
    assert {each.property for each in findings} == {Property.UNDECIDED}
    assert "time was up" in findings[0].description


def test_a_rule_that_is_not_one_policy_is_refused() -> None:
    for statement in (
        "permit (principal, action);",
        "permit (principal == ?principal, action, resource);",
        f"{SMALL.statement} {SMALL.statement}",
        "",
    ):
        with pytest.raises(PolicyRefused, match=r"^odd: "):
            analysed(Rule(id="odd", statement=statement))


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(PolicyRefused):
        proofs.analyse([BALANCES], {"AgentCore": {"entityTypes": {}}})


def test_each_question_can_be_had_as_smt_lib() -> None:
    asked: list[tuple[str, str]] = []
    proofs.analyse([SMALL], SCHEMA, record=lambda text, answer: asked.append((text, answer)))
    assert {answer for _, answer in asked} <= {"sat", "unsat"}
    assert all("(check-sat)" in text for text, _ in asked)


def test_the_same_question_of_many_tools_is_asked_once() -> None:
    asked: list[str] = []
    everywhere = Rule(
        id="all",
        statement=f"forbid (principal, action, resource == {GATEWAY}) "
        'when { principal.id == "x" };',
    )
    proofs.analyse([everywhere], SCHEMA, record=lambda text, _: asked.append(text))
    assert len(asked) == len(set(asked))
