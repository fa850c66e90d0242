"""Sets in which every policy has a say in every question."""

import pytest
from proofs_ground import SCHEMA, forbid, permit, properties

from freehold.adapters.smt import flattening, proofs
from freehold.ports.policies import Rule
from freehold.ports.reasoning import Property

SECONDS_MAX = 60.0
"""Far more than it takes; that nothing is undecided is what counts."""


def claims(count: int) -> list[Rule]:
    return [
        permit(
            f"p{n}",
            f'principal.hasTag("g{n}") && principal.getTag("g{n}") like "*,admin{n},*"',
        )
        for n in range(count)
    ]


def test_thirty_claims_in_thirty_policies_are_told_apart() -> None:
    assert proofs.analyse(claims(30), SCHEMA, seconds_max=SECONDS_MAX).findings == []


def test_what_one_more_claim_allows_is_shown_with_that_claim_alone() -> None:
    rules = claims(30)
    comparison = proofs.compare(rules[:-1], rules, SCHEMA, seconds_max=SECONDS_MAX)
    (difference,) = comparison.differences
    assert difference.policies == ("p29",)
    (tags,) = [each.tags for each in difference.example.entities if each.tags]
    assert set(tags) == {"g29"}


def test_what_a_forbid_takes_from_all_of_them_is_shown_with_one_claim() -> None:
    rules = claims(30)
    guard = forbid("guard", "context.input.amount > 3")
    (difference,) = proofs.compare(rules, [*rules, guard], SCHEMA).differences
    assert difference.policies == ("guard",)
    (tags,) = [each.tags for each in difference.example.entities if each.tags]
    assert len(tags) == 1


def test_a_long_list_of_groups_is_cheap() -> None:
    groups = ", ".join(f'AgentCore::Team::"g{n}"' for n in range(60))
    assert properties(
        permit("one", 'principal in AgentCore::Team::"g3"'),
        permit("many", f"principal in [{groups}]"),
    ) == {Property.SHADOWED}


@pytest.mark.parametrize("pairs_max", [0, 20_000])
def test_functions_are_taken_out_only_where_that_is_little_to_say(
    monkeypatch: pytest.MonkeyPatch, pairs_max: int
) -> None:
    monkeypatch.setattr(flattening, "PAIRS_MAX", pairs_max)
    one = permit(
        "one",
        'principal.hasTag(context.input.to) && principal.getTag(context.input.to) == "x" && '
        'context.input.to == "a"',
    )
    other = permit("other", 'principal.hasTag("a") && principal.getTag("a") == "x"')
    assert properties(one, other) == {Property.SHADOWED}
    (difference,) = proofs.compare([one], [other], SCHEMA).differences
    assert difference.change == "newly allowed"
    assert difference.example.request.context["input"]["to"] != "a"
