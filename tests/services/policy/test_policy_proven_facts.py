"""What the platform always says twice of a call is known to proofs."""

from freehold.adapters.smt.reasoning import SmtReasoning
from freehold.ports.enforcement import GovernedGateway, GovernedTool
from freehold.ports.policies import Rule
from freehold.ports.reasoning import Property
from freehold.services.policy.schema import OWN_IDS, SAME, gateway_schema

ARN = "arn:aws:bedrock-agentcore:us-east-1:123456789012:gateway/bank-0123456789"
GATEWAY = GovernedGateway(
    tenant="123456789012", id="bank-0123456789", arn=ARN, name="bank", authorizer="CUSTOM_JWT",
    tools=[GovernedTool(name="t___a", target="t", input_schema={"type": "object"})],
)  # fmt: skip


async def never_holds(condition: str, **known: object) -> bool:
    schema = gateway_schema(GATEWAY).document
    rule = Rule(id="p", statement=f"permit (principal, action, resource) when {{ {condition} }};")
    reasoning = SmtReasoning(**known)  # type: ignore[arg-type]
    try:
        found = await reasoning.analyse([rule], schema)
    finally:
        await reasoning.close()
    kinds = [each.property for each in found.findings if each.policy == "p"]
    assert Property.UNDECIDED not in kinds and Property.UNSUPPORTED not in kinds
    return Property.ALLOW_NONE in kinds


async def test_the_time_is_the_same_by_both_its_names() -> None:
    apart = "context.time < context.system.now"
    assert await never_holds(apart, own_ids=OWN_IDS, same=SAME)
    assert not await never_holds(apart), "the schema alone does not say so"
    later = 'context.system.now > datetime("2026-01-01")'
    assert not await never_holds(later, own_ids=OWN_IDS, same=SAME)


async def test_a_callers_id_is_its_name() -> None:
    apart = 'principal == AgentCore::OAuthUser::"ann" && principal.id != "ann"'
    assert await never_holds(apart, own_ids=OWN_IDS, same=SAME)
    assert not await never_holds(apart)
