"""Why a call is allowed or denied: what each policy that speaks of it says of it."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from freehold.kernel.arns import agentcore_arn
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.clock import now
from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.kernel.request import Request
from freehold.ports.enforcement import GovernedGateway, GovernedGateways
from freehold.ports.policies import (
    Effect,
    Entity,
    PolicyEngine,
    PolicyRefused,
    Uid,
)
from freehold.ports.secrets import SealBroken
from freehold.ports.statements import Statements
from freehold.services.policy.decision_lines import Inputs
from freehold.services.policy.decision_store import Kept
from freehold.services.policy.model import ENGINE, EngineRow, PolicyRow
from freehold.services.policy.ports import Engines
from freehold.services.policy.proving import schema_of
from freehold.services.policy.requests import (
    Asked,
    SchemaMismatch,
    asked,
    context_of,
    gateway_entity,
    principal_entity,
)
from freehold.services.policy.schema import (
    ACTION,
    ANONYMOUS,
    CALL_TOOL,
    IAM_ENTITY,
    MCP,
    OAUTH_USER,
    GatewaySchema,
    restricted,
)

PrincipalType = Literal["OAuthUser", "IamEntity", "Anonymous"]
_TYPES = {"OAuthUser": OAUTH_USER, "IamEntity": IAM_ENTITY, "Anonymous": ANONYMOUS}


class SessionGiven(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    agent: str | None = None
    user: str | None = None


class Hypothetical(msgspec.Struct, frozen=True, kw_only=True, rename="camel",
                   forbid_unknown_fields=True):  # fmt: skip
    """A call that nobody makes. `principal`: a token's `sub`, or the ARN of who signs; of which
    type is by default the first that the gateway lets in. `at` is by default now. `engineId`: of
    another engine than the gateway asks."""

    gateway_id: str
    tool: str
    arguments: dict[str, Any] = {}
    principal: str = "somebody"
    principal_type: PrincipalType | None = None
    claims: dict[str, Any] = {}
    at: datetime | None = None
    source: str = ""
    session: SessionGiven | None = None
    engine_id: str | None = None


class PolicyOutcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of one policy that speaks of the tool, alone. `decided`: it is why the call is allowed or
    denied. `problem`: why it failed, or does not fit the gateway's tools; then a permit permits
    nothing, and a forbid forbids."""

    id: str
    name: str
    effect: Literal["permit", "forbid"]
    mode: str
    outcome: Literal["fulfilled", "not fulfilled", "failed"]
    decided: bool
    reason: str
    problem: str


class RecordedView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was decided at the time. `changed`: the policies or the tools are others now."""

    decision_id: str
    at: datetime
    allowed: bool
    mode: str
    policies: list[str]
    changed: bool


class Explanation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Under the policies as they are now. `allowed` is what the ACTIVE ones say; `mode` is the
    gateway's, and "" where its engine is not the one that was asked. `mismatch`: why no policy can
    speak of the call, which denies it."""

    allowed: bool
    mode: str
    gateway_id: str
    engine_id: str
    engine_version: str
    tool: str
    why: str
    mismatch: str
    policies: list[PolicyOutcome]
    recorded: RecordedView | None


class Recorded(Protocol):
    async def get(self, tenant: str, id: str) -> Kept:
        """NotFound."""

    def open(self, kept: Kept) -> Inputs:
        """Raises SealBroken."""


class _Question(msgspec.Struct, frozen=True, kw_only=True):
    tool: str
    principal: Entity
    arguments: Mapping[str, Any]
    context: Mapping[str, Any]
    words: bool
    """Whether the engine's own words may be shown: they repeat values."""


class Explaining:
    def __init__(
        self,
        *,
        engine: PolicyEngine,
        statements: Statements,
        engines: Engines,
        gateways: GovernedGateways,
        decisions: Recorded,
        region: str,
    ) -> None:
        self._engine, self._statements = engine, statements
        self._engines, self._gateways, self._decisions = engines, gateways, decisions
        self._region = region

    async def call(self, request: Request, given: Hypothetical) -> Explanation:
        gateway = await self._gateway(request, given.gateway_id)
        row = await self._row(request, gateway, given.engine_id)
        type = _TYPES.get(given.principal_type or "") or _usual_type(gateway)
        try:
            context = _context(given)
        except SchemaMismatch as error:
            raise ValidationFailed(f"source: {error}") from None
        claims = {"sub": given.principal, **given.claims}
        question = _Question(
            tool=given.tool, principal=principal_entity(type, given.principal, claims),
            arguments=given.arguments, context=context, words=True,
        )  # fmt: skip
        return await self._explained(gateway, row, question)

    async def decision(self, request: Request, decision_id: str) -> Explanation:
        kept = await self._decisions.get(request.tenant, decision_id)
        gateway = await self._gateway(request, kept.gateway_id)
        row = await self._row(request, gateway, kept.engine_id)
        try:
            inputs = self._decisions.open(kept)
        except SealBroken:
            raise ValidationFailed(
                "what was decided on is sealed under a key that is not here"
            ) from None
        if inputs.arguments is None or inputs.context is None:
            raise ValidationFailed("what was decided on was too large to be kept")
        if not inputs.context:
            raise ValidationFailed("it was denied before anything was known of it")
        type = _TYPES.get(kept.principal_type.rpartition("::")[2], kept.principal_type)
        question = _Question(
            tool=kept.tool,
            principal=principal_entity(type, inputs.principal or kept.principal, inputs.claims),
            arguments=inputs.arguments, context=inputs.context, words=False,
        )  # fmt: skip
        explanation = await self._explained(gateway, row, question)
        then = RecordedView(
            decision_id=str(kept.id), at=kept.at, allowed=kept.allowed, mode=kept.mode,
            policies=list(kept.policies),
            changed=(kept.engine_version, kept.schema_version)
            != (row.version, schema_of(gateway).version),
        )  # fmt: skip
        return msgspec.structs.replace(explanation, recorded=then)

    async def _explained(
        self, gateway: GovernedGateway, row: EngineRow, question: _Question
    ) -> Explanation:
        schema = schema_of(gateway)
        found = Explanation(
            allowed=False, mode=gateway.mode if gateway.engine_arn == row.arn else "",
            gateway_id=gateway.id, engine_id=row.id, engine_version=row.version,
            tool=question.tool, why="", mismatch="", policies=[], recorded=None,
        )  # fmt: skip
        try:
            calls = asked(
                schema, question.tool, principal=question.principal,
                resource=gateway_entity(gateway), arguments=question.arguments,
                context=question.context,
            )  # fmt: skip
        except SchemaMismatch as error:
            why = "It is denied: no policy can speak of the call."
            return msgspec.structs.replace(found, why=why, mismatch=str(error))
        speaking = [
            each
            for each in row.policies
            if each.speaks_of(gateway.arn) and self._speaks_of(each, question.tool, schema)
        ]
        # Cedar cannot be interrupted, and there may be a thousand policies.
        try:
            allowed, policies = await asyncio.to_thread(
                self._decided, speaking, schema, calls, question.words
            )
        except PolicyRefused as refused:
            why = "It is denied: the engine's policies cannot be used at this gateway."
            return msgspec.structs.replace(found, why=why, mismatch="; ".join(refused.problems))
        return msgspec.structs.replace(
            found, allowed=allowed, policies=policies, why=_why(allowed, policies)
        )

    def _speaks_of(self, policy: PolicyRow, tool: str, schema: GatewaySchema) -> bool:
        named = self._statements.read(policy.statement).actions
        groups = (tool, schema.tools[tool].target, CALL_TOOL, MCP)
        return not named or any(Uid(ACTION, name) in named for name in groups)

    def _decided(
        self, policies: Sequence[PolicyRow], schema: GatewaySchema, calls: Asked, words: bool
    ) -> tuple[bool, list[PolicyOutcome]]:
        active = [each.rule for each in policies if each.mode == "ACTIVE"]
        compiled = self._engine.compile_rules(active, schema.document)
        decisions = [compiled.decide(each, calls.entities) for each in calls.requests]
        allowed = all(decision.allowed for decision in decisions)
        deciding = {id for each in decisions if allowed or not each.allowed for id in each.policies}
        # What does not fit some tool is not usable for any: that takes all of the schema.
        whole = self._engine.compile_rules([each.rule for each in policies], schema.document)
        alone = [
            self._failed(each, whole.reasons, "; ".join(whole.problems[each.id]))
            if each.id in whole.problems
            else self._alone(each, schema, calls, words)
            for each in policies
        ]
        return allowed, [
            msgspec.structs.replace(each, decided=each.id in deciding) for each in alone
        ]

    def _alone(
        self, policy: PolicyRow, schema: GatewaySchema, calls: Asked, words: bool
    ) -> PolicyOutcome:
        named = {action.id for action in self._statements.read(policy.statement).actions}
        tools = named | {each.action.id for each in calls.requests}
        compiled = self._engine.compile_rules([policy.rule], restricted(schema, tools))
        found = self._failed(policy, compiled.reasons, "")
        decisions = [compiled.decide(each, calls.entities) for each in calls.requests]
        if errors := [error for each in decisions for error in each.errors]:
            problem = errors[0] if words else "its condition fails for what was asked"
            return msgspec.structs.replace(found, problem=problem)
        # Of numbers with more places than Cedar's: allowed both ways, or forbidden either way.
        if found.effect == "permit":
            fulfilled = all(each.effect is Effect.ALLOW for each in decisions)
        else:
            fulfilled = any(each.effect is Effect.FORBID for each in decisions)
        return msgspec.structs.replace(found, outcome="fulfilled" if fulfilled else "not fulfilled")

    def _failed(self, policy: PolicyRow, reasons: Mapping[str, str], problem: str) -> PolicyOutcome:
        return PolicyOutcome(
            id=policy.id, name=policy.name, mode=policy.mode, outcome="failed", decided=False,
            effect=self._statements.read(policy.statement).effect,
            reason=reasons.get(policy.id, ""), problem=problem,
        )  # fmt: skip

    async def _gateway(self, request: Request, gateway_id: str) -> GovernedGateway:
        arn = agentcore_arn(self._region, request.tenant, f"gateway/{gateway_id}")
        gateway = await self._gateways.get(request.tenant, arn)
        if gateway is None:
            raise NotFound(f"gateway {gateway_id!r} does not exist")
        return gateway

    async def _row(
        self, request: Request, gateway: GovernedGateway, engine_id: str | None
    ) -> EngineRow:
        arn = gateway.engine_arn
        if engine_id is not None:
            arn = agentcore_arn(self._region, request.tenant, f"{ENGINE.name}/{engine_id}")
        if not arn:
            raise ValidationFailed(
                f"gateway {gateway.id} asks no policy engine, and all calls are let through; name "
                "an `engineId`"
            )
        row = await self._engines.load(request.tenant, arn)
        if row is None:
            raise NotFound(f"{ENGINE.noun} {engine_id or arn!r} does not exist")
        return row


def _usual_type(gateway: GovernedGateway) -> str:
    types = schema_of(gateway).principal_types
    return types[0] if types else IAM_ENTITY


def _context(given: Hypothetical) -> dict[str, Any]:
    nobody = Caller(tenant="", principal="", kind=CallerKind.ACCESS_KEY)
    context = context_of(nobody, given.at or now(), source=given.source, session="")
    if given.session is not None:
        session = {"id": given.session.id, "agent": given.session.agent, "user": given.session.user}
        context["session"] = {name: value for name, value in session.items() if value is not None}
    return context


def _why(allowed: bool, policies: Sequence[PolicyOutcome]) -> str:
    if allowed:
        return "It is allowed: a policy permits it, and none forbids it."
    if any(each.effect == "forbid" and each.decided for each in policies):
        return "It is denied: a policy forbids it."
    return "It is denied: no policy permits it."
