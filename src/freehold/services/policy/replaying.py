"""One recorded call, decided again."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from freehold.ports.enforcement import GovernedGateway
from freehold.ports.policies import CompiledRules, Entity, PolicyEngine, PolicyRefused, Rule
from freehold.ports.secrets import SealBroken
from freehold.services.policy.decision_lines import Inputs
from freehold.services.policy.decision_store import Kept
from freehold.services.policy.requests import (
    Asked,
    SchemaMismatch,
    asked,
    gateway_entity,
    principal_entity,
)
from freehold.services.policy.schema import (
    NAMESPACE,
    GatewaySchema,
    SchemaTooLarge,
    gateway_schema,
)

TOO_LARGE = "its inputs were too large to be kept"
LOST_KEY = "its inputs cannot be opened: the key is lost, or they were changed"
NO_CONTEXT = "it was denied before anything was known of it"
NO_GATEWAY = "the gateway is gone"
NO_RULES = "the policies cannot be used with the gateway's schema"
TOO_LARGE_SCHEMA = "the gateway's tools make too large a schema"
NO_TOOL = "the gateway has no such tool any more"
NO_FIT = "the schema changed, and the call does not fit it"


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway as it is now, and both sets of policies compiled for it."""

    schema: GatewaySchema
    resource: Entity
    now: CompiledRules
    after: CompiledRules


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """`policies` are those that decided; none where nothing permits."""

    allowed: bool
    policies: list[str] = []


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    inputs: Inputs
    after: Outcome
    now_allowed: bool


async def ground_of(
    engine: PolicyEngine, gateway: GovernedGateway, *, now: Sequence[Rule], after: Sequence[Rule]
) -> Ground | str:
    """Or why nothing can be told of this gateway's calls."""
    try:
        schema = gateway_schema(gateway)
    except SchemaTooLarge:
        return TOO_LARGE_SCHEMA

    def compiled() -> tuple[CompiledRules, CompiledRules]:
        old, new = (engine.compile_rules(rules, schema.document) for rules in (now, after))
        return old, new

    try:
        both = await asyncio.to_thread(compiled)
    except PolicyRefused:
        return NO_RULES
    return Ground(schema=schema, resource=gateway_entity(gateway), now=both[0], after=both[1])


def replay(kept: Kept, ground: Ground | str, open: Callable[[Kept], Inputs]) -> Replayed | str:
    """Or why that cannot be told. What the policies of now say is asked only of a call that would
    have gone the other way."""
    if isinstance(ground, str):
        return ground
    try:
        inputs = open(kept)
    except SealBroken:
        return LOST_KEY
    call = _call(kept, ground, inputs)
    if isinstance(call, str):
        return call
    after = _decided(ground.after, call)
    differs = after.allowed != kept.allowed
    now_allowed = _decided(ground.now, call).allowed if differs else after.allowed
    return Replayed(inputs=inputs, after=after, now_allowed=now_allowed)


def _call(kept: Kept, ground: Ground, inputs: Inputs) -> Asked | str | None:
    """None for one that fitted the schema neither then nor now: it is denied, whatever policies
    say."""
    if inputs.arguments is None or inputs.claims is None or inputs.context is None:
        return TOO_LARGE
    if not inputs.context:
        return NO_CONTEXT
    if kept.tool not in ground.schema.inputs:
        return NO_TOOL
    type = kept.principal_type
    try:
        return asked(
            ground.schema,
            kept.tool,
            principal=principal_entity(
                type if "::" in type else f"{NAMESPACE}::{type}",
                inputs.principal or kept.principal,
                inputs.claims,
            ),
            resource=ground.resource,
            arguments=inputs.arguments,
            context=inputs.context,
        )
    except SchemaMismatch:
        return NO_FIT if kept.schema_version != ground.schema.version else None


def _decided(rules: CompiledRules, call: Asked | None) -> Outcome:
    """Allowed where every reading of its numbers is; else the first that is not says why."""
    policies: dict[str, None] = {}
    if call is None:
        return Outcome(allowed=False)
    for request in call.requests:
        decision = rules.decide(request, call.entities)
        if not decision.allowed:
            return Outcome(allowed=False, policies=list(decision.policies))
        policies |= dict.fromkeys(decision.policies)
    return Outcome(allowed=True, policies=list(policies))
