"""Each of Cedar's types, in claims that always or never hold, and in ones that sometimes do."""

import pytest
from proofs_ground import SCHEMA, found, permit, properties

from freehold.adapters.smt import proofs
from freehold.ports.reasoning import Property


def guarded(optional: str, claim: str, otherwise: str = "true") -> str:
    """As the validator understands it."""
    whole, _, attribute = optional.rpartition(".")
    return f"if {whole} has {attribute} then ({claim}) else {otherwise}"


GROUP = 'AgentCore::Team::"g"'

ALWAYS = [
    # Strings: a star in a pattern is not the wildcard, characters count once however long.
    'context.input.to like "*"',
    r'!(context.input.to like "a\*") || context.input.to == "a*"',
    '!(context.input.to == "x😀y") || context.input.to like "x*y"',
    '!(context.input.to == "\\u{41}") || context.input.to == "A"',
    r'context.input.to != "\\u{41}" || context.input.to != "A"',
    '!(context.input.to like "a*b*c") || context.input.to like "a*c"',
    # Longs.
    "context.input.amount < 9223372036854775807 || context.input.amount == 9223372036854775807",
    'if context.input.urgent then 1 > 0 else context.input.to != "" || true',
    # Decimals, times, durations.
    guarded(
        "context.input.rate",
        'context.input.rate.lessThan(decimal("2.5")) || '
        'context.input.rate.greaterThanOrEqual(decimal("2.50"))',
    ),
    'datetime("2026-01-01T01:00:00+0100") == datetime("2026-01-01")',
    "context.time.toDate() <= context.time",
    'context.time.toTime() < duration("1d")',
    'context.time.toDate().durationSince(context.time) <= duration("0ms")',
    guarded(
        "context.left",
        'context.left.toSeconds() >= context.left.toMinutes() || context.left < duration("0s")',
    ),
    'duration("-1h").toDays() == 0',
    # Addresses.
    guarded("context.source", "context.source.isIpv4() || context.source.isIpv6()"),
    guarded(
        "context.source",
        '!context.source.isInRange(ip("10.1.0.0/16")) || '
        'context.source.isInRange(ip("10.0.0.0/8"))',
    ),
    guarded("context.source", "!(context.source.isLoopback() && context.source.isMulticast())"),
    guarded(
        "context.source",
        '!context.source.isInRange(ip("::/0")) || context.source.isIpv6()',
    ),
    'ip("10.0.0.1") == ip("10.0.0.1/32") && ip("10.0.0.1/8") != ip("10.0.0.0/8")',
    # Sets.
    "context.input.more.containsAll(context.input.more)",
    "context.input.more.isEmpty() || context.input.more.containsAny(context.input.more)",
    '!(context.input.more == ["a", "b"]) || context.input.more.contains("a")',
    '!(context.input.more == ["a", "b", "a"]) || context.input.more == ["b", "a"]',
    guarded(
        "context.input.labels",
        "!context.input.labels.isEmpty() || context.input.more.containsAll(context.input.labels)",
    ),
    '!(["a", "b"].contains(context.input.to)) || ["b", "a", "c"].contains(context.input.to)',
    guarded(
        "context.input.payee",
        "!(context.input.payees.contains(context.input.payee) && context.input.payees.isEmpty())",
    ),
    '!(context.input.lines == [{n: 1, s: "a"}]) || context.input.lines.contains({s: "a", n: 1})',
    # Records.
    "!(context.input has payee.bank) || context.input has payee",
    guarded(
        "context.input.line",
        '!(context.input.line == {s: "x", n: 5}) || context.input.line.n == 5',
    ),
    # Entities.
    "principal in principal && principal is AgentCore::OAuthUser",
    f'!({GROUP} in AgentCore::Company::"c" && principal in {GROUP}) || '
    'principal in AgentCore::Company::"c"',
    f"!(principal in [{GROUP}]) || principal is AgentCore::OAuthUser in {GROUP}",
    f'!({GROUP} in AgentCore::Team::"h" && AgentCore::Team::"h" in {GROUP})',
    'action in AgentCore::Action::"Mcp" && action in [AgentCore::Action::"Bank"]',
    f"!(context.input.teams == [{GROUP}] && principal in context.input.teams) || "
    f"principal in {GROUP}",
    "context.input.owner != principal || context.input.owner.id == principal.id",
    # Tags, also with keys that are not constant.
    '!(principal.hasTag(context.input.to) && context.input.to == "a") || principal.hasTag("a")',
    'if principal.hasTag("a") && principal.hasTag(context.input.to) && context.input.to == "a" '
    'then principal.getTag(context.input.to) == principal.getTag("a") else true',
]

SOMETIMES = [
    r'context.input.to like "a\**"',
    'context.input.to == "x😀y"',
    r'context.input.to == "\\u{41}"',
    guarded("context.input.rate", 'context.input.rate == decimal("-1.5")'),
    'context.time > datetime("2026-01-01") && context.time.toTime() < duration("1h")',
    'context has left && context.left.toDays() == -1 && context.left != duration("-1d")',
    'context has source && context.source.isInRange(ip("2001:db8::/32"))',
    'context has source && context.source.isInRange(ip("10.0.0.0/8")) && context.source != '
    'ip("10.0.0.1")',
    "context has source && context.source.isLoopback() && context.source.isIpv6()",
    '!context.input.more.isEmpty() && !context.input.more.contains("a")',
    "context.input has labels && context.input.more.containsAll(context.input.labels) && "
    "context.input.labels != context.input.more && !context.input.labels.isEmpty()",
    'context.input.lines.contains({n: 7, s: "b"}) && !context.input.lines.contains({n: 7, s: "c"})',
    "context.input has payee && context.input.payees.contains(context.input.payee)",
    "context has session.agent && context.session.agent == context.session.id",
    f'principal in {GROUP} && principal in AgentCore::Company::"c"',
    f'{GROUP} in AgentCore::Team::"h" && !(principal in {GROUP}) && '
    'principal in AgentCore::Team::"h"',
    "principal in context.input.teams && !context.input.teams.contains(principal.home)",
    "principal has level && principal.level > 3 && context.input.owner has level && "
    "context.input.owner.level < principal.level",
    'principal.hasTag(context.input.to) && principal.getTag(context.input.to) like "m*" && '
    '!principal.hasTag("a")',
]


@pytest.mark.parametrize("condition", ALWAYS)
def test_what_always_holds_allows_all(condition: str) -> None:
    assert properties(permit("p", condition)) == {Property.ALLOW_ALL}


@pytest.mark.parametrize("condition", ALWAYS)
def test_its_contrary_allows_none(condition: str) -> None:
    assert properties(permit("p", f"!({condition})")) == {Property.ALLOW_NONE}


@pytest.mark.parametrize("condition", SOMETIMES)
def test_what_holds_sometimes_has_an_example_of_both_that_the_engine_confirms(
    condition: str,
) -> None:
    assert properties(permit("p", condition)) == set()
    gained = proofs.compare([], [permit("p", condition)], SCHEMA)
    assert [each.change for each in gained.differences] == ["newly allowed"]
    lost = proofs.compare([permit("p")], [permit("p", condition)], SCHEMA)
    assert [each.change for each in lost.differences] == ["newly denied"]


def test_an_entity_that_is_missing_makes_a_condition_fail() -> None:
    rule = permit(
        "p",
        "context.input.owner.home == principal.home && context.input.owner != principal",
    )
    (finding,) = found(rule)
    assert finding.property is Property.MAY_ERROR
    assert finding.example is not None
    owner = finding.example.request.context["input"]["owner"]["__entity"]
    assert owner not in [each.uid._asdict() for each in finding.example.entities]
    (gained,) = proofs.compare([], [rule], SCHEMA).differences
    owner = gained.example.request.context["input"]["owner"]["__entity"]
    assert owner in [each.uid._asdict() for each in gained.example.entities]


def test_the_principal_and_whoever_is_the_same_is_never_missing() -> None:
    assert properties(
        permit("p", "principal == context.input.owner || context.input.owner.id == principal.id")
    ) == {Property.MAY_ERROR}
    assert (
        properties(
            permit(
                "p", "principal == context.input.owner && context.input.owner.id == principal.id"
            )
        )
        == set()
    )


def test_an_own_id_is_the_entitys_id_where_the_prover_is_told_so() -> None:
    by_uid = permit("p", principal='principal == AgentCore::OAuthUser::"ann"')
    by_attribute = permit("p", 'principal.id == "ann"')
    own = ["AgentCore::OAuthUser"]
    assert proofs.compare([by_uid], [by_attribute], SCHEMA).equivalent is False
    assert proofs.compare([by_uid], [by_attribute], SCHEMA, own_ids=own).equivalent is True
    (difference,) = proofs.compare([], [by_attribute], SCHEMA).differences
    assert difference.example.request.principal.id == "ann"
