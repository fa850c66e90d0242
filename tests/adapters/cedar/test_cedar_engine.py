"""The policy engine: what Cedar leaves open is closed here."""

import pytest

from freehold.adapters.cedar.engine import POLICY_BYTES_MAX, CedarEngine
from freehold.ports.policies import (
    CompiledPolicies,
    Decision,
    Effect,
    Entity,
    PolicyEngine,
    PolicyRefused,
    PolicyRequest,
    Uid,
)

SCHEMA = """
namespace Zoo {
    entity Keeper { age: Long, name?: String };
    entity Cage;
    action feed, enter appliesTo {
        principal: [Keeper], resource: [Cage], context: { hour: Long, meal?: String }
    };
}
"""
KEEPER = Uid("Zoo::Keeper", "ann")
CAGE = Uid("Zoo::Cage", "lions")
ENTITIES = [Entity(uid=KEEPER, attributes={"age": 40}), Entity(uid=CAGE)]
PERMIT = '@id("everybody") permit (principal, action, resource);'
OVERFLOWS = "context.hour + 9223372036854775807 > 0"


@pytest.fixture
def engine() -> PolicyEngine:
    return CedarEngine()


def asked(action: str = "feed", **context: object) -> PolicyRequest:
    return PolicyRequest(
        principal=KEEPER,
        action=Uid("Zoo::Action", action),
        resource=CAGE,
        context={"hour": 12, **context},
    )


def decided(policies: str, request: PolicyRequest | None = None) -> Decision:
    return CedarEngine().compile(policies, SCHEMA).decide(request or asked(), ENTITIES)


def test_what_a_policy_permits_is_allowed_and_the_policy_is_named() -> None:
    decision = decided(PERMIT)
    assert decision == Decision(Effect.ALLOW, ("everybody",), ())
    assert decision.allowed


def test_what_no_policy_speaks_of_is_not_allowed() -> None:
    decision = decided('permit (principal, action == Zoo::Action::"enter", resource);')
    assert decision == Decision(Effect.SILENT)
    assert not decision.allowed
    assert decided("").effect is Effect.SILENT


def test_what_one_policy_forbids_no_other_allows() -> None:
    night = '@id("night") forbid (principal, action, resource) when { context.hour > 20 };'
    assert decided(PERMIT + night, asked(hour=12)).effect is Effect.ALLOW
    assert decided(PERMIT + night, asked(hour=23)) == Decision(Effect.FORBID, ("night",))


def test_a_forbidding_policy_that_fails_forbids() -> None:
    """Cedar itself skips it, and so would allow."""
    failing = f'@id("broken") forbid (principal, action, resource) when {{ {OVERFLOWS} }};'
    decision = decided(PERMIT + failing, asked(hour=1))
    assert decision.effect is Effect.FORBID
    assert "broken" in decision.errors[0]


def test_a_permitting_policy_that_fails_permits_nothing_and_hinders_nothing() -> None:
    failing = f'@id("broken") permit (principal, action, resource) when {{ {OVERFLOWS} }};'
    assert decided(failing, asked(hour=1)).effect is Effect.SILENT
    decision = decided(PERMIT + failing, asked(hour=1))
    assert decision.effect is Effect.ALLOW
    assert "broken" in decision.errors[0]


@pytest.mark.parametrize(
    "request_",
    [
        asked("poke"),
        asked(hour="noon"),
        asked(hour=1.5),
        asked(hour=2**63),
        asked(hour=None),
        asked(meal={"__entity": {"type": "Zoo::Keeper", "id": "bob"}}),
        asked(unknown="x"),
        PolicyRequest(principal=CAGE, action=Uid("Zoo::Action", "feed"), resource=CAGE),
    ],
)
def test_a_request_that_does_not_fit_the_schema_is_forbidden(request_: PolicyRequest) -> None:
    decision = decided(PERMIT, request_)
    assert decision.effect is Effect.FORBID
    assert decision.errors


@pytest.mark.parametrize(
    "entities",
    [
        [Entity(uid=KEEPER, attributes={"age": "forty"}), Entity(uid=CAGE)],
        [Entity(uid=KEEPER, attributes={"age": 1, "fame": 1}), Entity(uid=CAGE)],
        [Entity(uid=Uid("Zoo::Owner", "x"))],
        [Entity(uid=Uid("no type at all", "x"))],
        [Entity(uid=KEEPER, attributes={"age": object()})],
    ],
)
def test_entities_that_do_not_fit_the_schema_forbid(entities: list[Entity]) -> None:
    policies = CedarEngine().compile(PERMIT, SCHEMA)
    assert policies.decide(asked(), entities).effect is Effect.FORBID


def test_a_decision_that_took_too_long_is_forbidden() -> None:
    policies = CedarEngine(seconds_max=0).compile(PERMIT, SCHEMA)
    decision = policies.decide(asked(), ENTITIES)
    assert decision.effect is Effect.FORBID
    assert "took more than" in decision.errors[0]


def test_an_input_beyond_all_bounds_is_forbidden() -> None:
    assert decided(PERMIT, asked(meal="x" * (2 << 20))).effect is Effect.FORBID


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        ("permit (principal, action, resource)", "unexpected end"),
        ('permit (principal, action == Zoo::Action::"poke", resource);', "poke"),
        ("permit (principal, action, resource) when { context.hour };", "expected Bool"),
        ("permit (principal, action, resource) when { principal.name == context.meal };", "name"),
        ("permit (principal == ?principal, action, resource);", "template"),
        (PERMIT + PERMIT, "two policies have the id 'everybody'"),
        ("/" * (POLICY_BYTES_MAX + 1), "at most"),
    ],
)
def test_policies_that_cannot_be_used_are_refused_in_words(
    engine: PolicyEngine, policies: str, says: str
) -> None:
    with pytest.raises(PolicyRefused) as refused:
        engine.compile(policies, SCHEMA)
    assert refused.value.problems
    assert says in str(refused.value)


def test_a_schema_that_cannot_be_used_is_refused(engine: PolicyEngine) -> None:
    with pytest.raises(PolicyRefused, match="schema"):
        engine.compile(PERMIT, "namespace Zoo { entity Keeper in [Nobody]; }")


def test_ids_that_hold_odd_characters_still_forbid(engine: PolicyEngine) -> None:
    failing = f'@id("a \\" b") forbid (principal, action, resource) when {{ {OVERFLOWS} }};'
    policies: CompiledPolicies = engine.compile(PERMIT + failing, SCHEMA)
    assert policies.decide(asked(hour=1), ENTITIES).effect is Effect.FORBID
    with pytest.raises(PolicyRefused, match="backtick"):
        engine.compile('@id("a`b") permit (principal, action, resource);', SCHEMA)
