"""Policies in our own API: a gateway's schema, proofs, explanations, acknowledgements."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from freehold.kernel.arns import agentcore_arn
from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.ports.enforcement import GovernedGateway, GovernedGateways
from freehold.ports.policies import Rule
from freehold.services.policy.explaining import Explaining, Explanation, Hypothetical
from freehold.services.policy.model import ENGINE, EngineRow
from freehold.services.policy.ports import Engines
from freehold.services.policy.proving import (
    SECONDS_MAX,
    Authorizer,
    GatewayCheck,
    GatewayDiff,
    LeftOutView,
    Proofs,
    ToolGiven,
    left_out,
    schema_of,
)
from freehold.services.policy.schema import schema_text

_GATEWAY = Parameter(name="gatewayId", meaning="The gateway", where="path")
_DECISION = Parameter(name="decisionId", meaning="The decision", where="path")
_GATEWAYS_MAX = 50


class Acknowledges(Protocol):
    async def acknowledge(self, request: Request, engine_id: str, digest: str) -> str:
        """What was refused, in words. NotFound where nothing of that digest was."""


class SchemaView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`cedar` is the schema in Cedar's own words, `schema` in its JSON format; `version` is what
    decisions record. Of what is `left_out` no policy can speak."""

    gateway_arn: str
    version: str
    cedar: str
    schema: dict[str, Any]
    left_out: list[LeftOutView]


class Against(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A gateway of this platform's, or tools of one that need not exist: then `gatewayArn` is by
    default the one that the policies name."""

    gateway_id: str | None = None
    tools: list[ToolGiven] | None = None
    gateway_arn: str | None = None
    authorizer_type: Authorizer = "CUSTOM_JWT"


class CheckGiven(Against, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """`policies`: Cedar, several in one text. Without them the engine's own are checked. Without a
    gateway and tools: at all gateways that ask the engine. `logOnly`: its LOG_ONLY policies too."""

    policies: str | None = None
    engine_id: str | None = None
    log_only: bool = False
    seconds_max: float = 30.0


class CheckAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`fails`: some policy has findings for which CreatePolicy would refuse it."""

    fails: bool
    gateways: list[GatewayCheck]


class PolicyChange(msgspec.Struct, frozen=True, kw_only=True, rename="camel",
                   forbid_unknown_fields=True):  # fmt: skip
    """Of one policy of the engine, by its id or name: with both its new statement, without
    `policyId` another policy, without `statement` its removal."""

    policy_id: str | None = None
    statement: str | None = None


class DiffGiven(Against, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """`old` or the engine's policies that decide now, against `new` or these `changes` of them."""

    old: str | None = None
    engine_id: str | None = None
    new: str | None = None
    changes: list[PolicyChange] = []
    seconds_max: float = 30.0


class DiffAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`equivalent` is None where that cannot be told, which counts as one that `loosens`."""

    equivalent: bool | None
    loosens: bool
    gateways: list[GatewayDiff]


class AcknowledgeGiven(msgspec.Struct, frozen=True, kw_only=True, rename="camel",
                       forbid_unknown_fields=True):  # fmt: skip
    """`digest`: as the refusal of the change said it."""

    engine_id: str
    digest: str


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`shown` is what was refused: the call that it newly allows."""

    engine_id: str
    digest: str
    shown: str


def operations(
    proofs: Proofs,
    explaining: Explaining,
    engines: Engines,
    gateways: GovernedGateways,
    loosening: Acknowledges,
    *,
    region: str,
) -> list[Operation]:
    own = _Own(proofs, explaining, engines, gateways, loosening, region=region)
    return [
        Operation(
            name="GetGatewayPolicySchema", method="GET",
            path="/gateways/{gatewayId}/policy-schema", act=own.schema,
            summary="What policies can say of a gateway's tools, as Cedar's schema",
            answer=SchemaView, parameters=(_GATEWAY,),
        ),
        Operation(
            name="CheckPolicies", method="POST", path="/policies/check", act=own.check,
            summary="Prove what policies always or never do, with counterexamples",
            body=CheckGiven, answer=CheckAnswer,
        ),
        Operation(
            name="DiffPolicies", method="POST", path="/policies/diff", act=own.diff,
            summary="Prove what a change of policies newly allows and newly denies",
            body=DiffGiven, answer=DiffAnswer,
        ),
        Operation(
            name="ExplainPolicyCall", method="POST", path="/policies/explain",
            act=own.explain_call, body=Hypothetical, answer=Explanation,
            summary="Why a call would be allowed or denied, policy by policy",
        ),
        Operation(
            name="ExplainPolicyDecision", method="GET",
            path="/policy-decisions/{decisionId}/explanation", act=own.explain_decision,
            summary="Why a call was allowed or denied, policy by policy, as they are now",
            answer=Explanation, parameters=(_DECISION,),
        ),
        Operation(
            name="AcknowledgePolicyChange", method="POST", path="/policies/acknowledgements",
            act=own.acknowledge, body=AcknowledgeGiven, answer=Acknowledged,
            summary="Let one change that allows a call more be made once",
        ),
    ]  # fmt: skip


class _Own:
    def __init__(
        self,
        proofs: Proofs,
        explaining: Explaining,
        engines: Engines,
        gateways: GovernedGateways,
        loosening: Acknowledges,
        *,
        region: str,
    ) -> None:
        self._proofs, self._explaining = proofs, explaining
        self._engines, self._gateways, self._loosening = engines, gateways, loosening
        self._region = region

    async def schema(self, request: Request, params: Params, _: object) -> SchemaView:
        gateway = await self._gateway(request, params["gatewayId"])
        schema = schema_of(gateway)
        return SchemaView(
            gateway_arn=gateway.arn, version=schema.version, cedar=schema_text(schema),
            schema=dict(schema.document), left_out=left_out(schema),
        )  # fmt: skip

    async def check(self, request: Request, _: Params, body: CheckGiven) -> CheckAnswer:
        engine = await self._engine(request, body.engine_id) if body.engine_id else None
        if body.policies is not None:
            rules = self._proofs.rules(body.policies)
        elif engine is not None:
            rules = in_force(engine, log_only=body.log_only)
        else:
            raise ValidationFailed("name `policies` or an `engineId`")
        against = await self._against(request, body, engine, rules)
        seconds_max = _seconds(body.seconds_max, len(against))
        checks = await self._proofs.check_at(against, rules, seconds_max=seconds_max)
        return CheckAnswer(fails=any(each.fails for each in checks), gateways=checks)

    async def diff(self, request: Request, _: Params, body: DiffGiven) -> DiffAnswer:
        engine = await self._engine(request, body.engine_id) if body.engine_id else None
        if (body.old is None) == (engine is None):
            raise ValidationFailed("name `old` or an `engineId`, and not both")
        old = in_force(engine) if engine else self._proofs.rules(body.old or "")
        if (body.new is None) == (not body.changes):
            raise ValidationFailed("name `new` or `changes`, and not both")
        if body.changes and engine is None:
            raise ValidationFailed("`changes` are of an engine: name an `engineId`")
        new = (
            self._proofs.rules(body.new)
            if body.new is not None
            else self._changed(old, engine, body)
        )
        against = await self._against(request, body, engine, [*old, *new])
        seconds_max = _seconds(body.seconds_max, len(against))
        diffs = [
            await self._proofs.diff(gateway, old, new, seconds_max=seconds_max)
            for gateway in against
        ]
        said = {each.equivalent for each in diffs}
        return DiffAnswer(
            equivalent=False if False in said else None if None in said else True,
            loosens=any(each.loosens for each in diffs),
            gateways=diffs,
        )

    async def explain_call(self, request: Request, _: Params, body: Hypothetical) -> Explanation:
        return await self._explaining.call(request, body)

    async def explain_decision(self, request: Request, params: Params, _: object) -> Explanation:
        return await self._explaining.decision(request, params["decisionId"])

    async def acknowledge(
        self, request: Request, _: Params, body: AcknowledgeGiven
    ) -> Acknowledged:
        shown = await self._loosening.acknowledge(request, body.engine_id, body.digest)
        return Acknowledged(engine_id=body.engine_id, digest=body.digest, shown=shown)

    async def _gateway(self, request: Request, gateway_id: str) -> GovernedGateway:
        arn = agentcore_arn(self._region, request.tenant, f"gateway/{gateway_id}")
        gateway = await self._gateways.get(request.tenant, arn)
        if gateway is None:
            raise NotFound(f"gateway {gateway_id!r} does not exist")
        return gateway

    async def _engine(self, request: Request, engine_id: str) -> EngineRow:
        arn = agentcore_arn(self._region, request.tenant, f"{ENGINE.name}/{engine_id}")
        engine = await self._engines.load(request.tenant, arn)
        if engine is None:
            raise NotFound(f"{ENGINE.noun} {engine_id!r} does not exist")
        return engine

    async def _against(
        self, request: Request, given: Against, engine: EngineRow | None, rules: Sequence[Rule]
    ) -> Sequence[GovernedGateway]:
        if given.gateway_id is not None and given.tools is not None:
            raise ValidationFailed("name a `gatewayId` or `tools`, and not both")
        if given.gateway_id is not None:
            return [await self._gateway(request, given.gateway_id)]
        if given.tools is not None:
            return [
                self._proofs.stand_in(
                    given.tools, rules, arn=given.gateway_arn or "",
                    authorizer=given.authorizer_type,
                )
            ]  # fmt: skip
        if engine is None:
            raise ValidationFailed("name a `gatewayId`, `tools` or an `engineId`")
        using = await self._gateways.using(request.tenant, engine.arn)
        if not using:
            raise ValidationFailed(f"no gateway asks {engine.id}: name a `gatewayId` or `tools`")
        if len(using) > _GATEWAYS_MAX:
            raise ValidationFailed(
                f"{len(using)} gateways ask {engine.id}, and {_GATEWAYS_MAX} at most are looked "
                "at together: name a `gatewayId`"
            )
        return using

    def _changed(
        self, old: Sequence[Rule], engine: EngineRow | None, body: DiffGiven
    ) -> Sequence[Rule]:
        """Whatever is named counts as ACTIVE."""
        policies = engine.policies if engine else ()
        ids = {each.name: each.id for each in policies} | {each.id: each.id for each in policies}
        rules = {rule.id: rule for rule in old}
        for at, change in enumerate(body.changes):
            if change.policy_id is None and change.statement is None:
                raise ValidationFailed("a change has a `policyId`, a `statement` or both")
            if change.policy_id is not None and change.policy_id not in ids:
                raise NotFound(f"the engine has no policy {change.policy_id!r}")
            id = ids.get(change.policy_id or "", "")
            if change.statement is None:
                rules.pop(id, None)
                continue
            for number, rule in enumerate(self._one_or_more(change)):
                new = rule.id if rule.id not in (*rules, *ids) else f"new{at}-{number}"
                rules[id or new] = Rule(id=id or new, statement=rule.statement)
        return list(rules.values())

    def _one_or_more(self, change: PolicyChange) -> Sequence[Rule]:
        found = self._proofs.rules(change.statement or "")
        if change.policy_id is not None and len(found) != 1:
            raise ValidationFailed(f"the statement of {change.policy_id} is to be one policy")
        return found


def in_force(engine: EngineRow, *, log_only: bool = False) -> Sequence[Rule]:
    return [each.rule for each in engine.policies if log_only or each.mode == "ACTIVE"]


def _seconds(wanted: float, gateways: int) -> float:
    """For each, so that all together end while the client still waits."""
    if not 0 < wanted <= SECONDS_MAX:
        raise ValidationFailed(f"secondsMax is more than 0 and at most {SECONDS_MAX:g}")
    return min(wanted, SECONDS_MAX / max(gateways, 1))
