"""Proofs about policies at a gateway, with counterexamples as requests that a person can read."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.ports.enforcement import GovernedGateway, GovernedTool
from freehold.ports.policies import Entity, PolicyEngine, PolicyRefused, Rule, Uid
from freehold.ports.reasoning import Comparison, Example, Finding, Property, Reasoning
from freehold.ports.statements import Statements
from freehold.services.policy.schema import GATEWAY, GatewaySchema, SchemaTooLarge, gateway_schema

TOOLS_MAX = 2000
SECONDS_MAX = 45.0
ANY_GATEWAY = "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/any"

Authorizer = Literal["CUSTOM_JWT", "AWS_IAM", "AUTHENTICATE_ONLY", "NONE"]

_ALWAYS_COUNT = frozenset(
    {
        Property.ALLOW_ALL,
        Property.ALLOW_NONE,
        Property.DENY_ALL,
        Property.DENY_NONE,
        Property.INVALID,
    }
)
_NEVER = frozenset({Property.ALLOW_NONE, Property.DENY_NONE})
_LOOKED_AT = re.compile(r"""\bcontext\s*(?:\.|\[\s*"|has\s+"?)\s*(time|system|source|session)\b""")


class ToolGiven(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """As MCP's tools/list has it. `target`: its action group; by default what stands before ___."""

    name: str
    target: str = ""
    input_schema: dict[str, Any] = {}


class ExampleView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A request: who calls what with which arguments when. `looks_at`: which of time, source and
    session the policies look at; the others do not matter."""

    principal_type: str
    principal: str
    claims: dict[str, Any]
    tool: str
    arguments: dict[str, Any]
    gateway_arn: str
    time: str | None
    source: str | None
    session: dict[str, Any] | None
    looks_at: list[str]


class FindingView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`policy` is "" for what is true of the set as a whole. `counts`: a policy with it is not
    taken, unless its findings are ignored."""

    property: Property
    policy: str
    counts: bool
    actions: list[str]
    by: list[str]
    description: str
    example: ExampleView | None


class LeftOutView(msgspec.Struct, frozen=True):
    """What no policy can speak of, and why. `path` is "" for the whole tool."""

    tool: str
    path: str
    why: str


class GatewayCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`policies` are those that can speak of this gateway."""

    gateway_arn: str
    name: str
    policies: int
    actions: int
    findings: list[FindingView]
    left_out: list[LeftOutView]
    seconds: float

    @property
    def fails(self) -> bool:
        return any(finding.counts for finding in self.findings)


class DifferenceView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    action: str
    change: Literal["newly allowed", "newly denied"]
    policies: list[str]
    example: ExampleView


class UntoldView(msgspec.Struct, frozen=True):
    action: str
    why: str


class GatewayDiff(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`equivalent` is None where that cannot be told. `loosens`: it allows a call more, or whether
    it does cannot be told."""

    gateway_arn: str
    name: str
    equivalent: bool | None
    loosens: bool
    differences: list[DifferenceView]
    untold: list[UntoldView]
    seconds: float


class Proofs:
    def __init__(self, engine: PolicyEngine, statements: Statements, reasoning: Reasoning) -> None:
        self._engine, self._statements, self._reasoning = engine, statements, reasoning

    def rules(self, text: str) -> Sequence[Rule]:
        """Raises ValidationFailed, with the lines."""
        try:
            return self._engine.split(text)
        except PolicyRefused as refused:
            raise ValidationFailed("; ".join(refused.problems)) from None

    def stand_in(
        self,
        tools: Sequence[ToolGiven],
        rules: Sequence[Rule],
        *,
        arn: str = "",
        authorizer: Authorizer = "CUSTOM_JWT",
    ) -> GovernedGateway:
        """A gateway with these tools that need not exist. Without an ARN it is the one that the
        policies name. Raises ValidationFailed where they name several."""
        if len(tools) > TOOLS_MAX:
            raise ValidationFailed(f"there are {len(tools)} tools, and may be {TOOLS_MAX}")
        if not arn:
            named = sorted({each for rule in rules if (each := self._gateway_named(rule))})
            if len(named) > 1:
                raise ValidationFailed(
                    f"the policies name several gateways, say which is meant: {', '.join(named)}"
                )
            arn = named[0] if named else ANY_GATEWAY
        return GovernedGateway(
            tenant="", id=arn.rpartition("/")[2], arn=arn, name="", authorizer=authorizer,
            tools=[
                GovernedTool(
                    name=tool.name, target=tool.target or tool.name.partition("___")[0],
                    input_schema=tool.input_schema,
                )
                for tool in tools
            ],
        )  # fmt: skip

    def concerning(self, rules: Sequence[Rule], gateway: GovernedGateway) -> list[Rule]:
        """Those that can speak of this gateway."""
        return [rule for rule in rules if self._gateway_named(rule) in ("", gateway.arn)]

    def forbids(self, rule: Rule) -> bool:
        return self._statements.read(rule.statement).effect == "forbid"

    async def check_at(
        self, gateways: Sequence[GovernedGateway], rules: Sequence[Rule], *, seconds_max: float
    ) -> list[GatewayCheck]:
        """`seconds_max` for each. A policy for many gateways may have nothing to say to some of
        them: that it never allows or denies counts where that is so at all that it speaks of."""
        checks = [await self.check(each, rules, seconds_max=seconds_max) for each in gateways]
        spoken = Counter(
            rule.id for gateway in gateways for rule in self.concerning(rules, gateway)
        )
        never = Counter(
            (each.policy, each.property)
            for check in checks
            for each in check.findings
            if each.property in _NEVER
        )
        return [
            msgspec.structs.replace(
                check,
                findings=[
                    msgspec.structs.replace(
                        each,
                        counts=each.counts
                        and (
                            each.property not in _NEVER
                            or never[each.policy, each.property] == spoken[each.policy]
                        ),
                    )
                    for each in check.findings
                ],
            )
            for check in checks
        ]

    async def check(
        self, gateway: GovernedGateway, rules: Sequence[Rule], *, seconds_max: float
    ) -> GatewayCheck:
        concerned = self.concerning(rules, gateway)
        schema = schema_of(gateway)
        analysis = await self._reasoning.analyse(
            concerned, schema.document, seconds_max=seconds_max
        )
        forbidding = {rule.id for rule in concerned if self.forbids(rule)}
        return GatewayCheck(
            gateway_arn=gateway.arn,
            name=gateway.name,
            policies=analysis.policies,
            actions=analysis.actions,
            findings=[
                self._finding(each, concerned, counts=counts(each, each.policy in forbidding))
                for each in analysis.findings
            ],
            left_out=left_out(schema),
            seconds=analysis.seconds,
        )

    async def diff(
        self,
        gateway: GovernedGateway,
        old: Sequence[Rule],
        new: Sequence[Rule],
        *,
        seconds_max: float,
    ) -> GatewayDiff:
        before, after = self.concerning(old, gateway), self.concerning(new, gateway)
        elsewhere = _elsewhere(gateway.arn)
        compared = await self._reasoning.compare(
            [*before, elsewhere], [*after, elsewhere], schema_of(gateway).document,
            seconds_max=seconds_max,
        )  # fmt: skip
        return GatewayDiff(
            gateway_arn=gateway.arn,
            name=gateway.name,
            equivalent=compared.equivalent,
            loosens=loosens(compared),
            differences=[
                DifferenceView(
                    action=each.action, change=each.change, policies=list(each.policies),
                    example=self._example(each.example, [*before, *after]),
                )
                for each in compared.differences
            ],
            untold=[UntoldView(action, why) for action, why in compared.untold],
            seconds=compared.seconds,
        )  # fmt: skip

    def _finding(self, finding: Finding, rules: Sequence[Rule], *, counts: bool) -> FindingView:
        looked_at = [rule for rule in rules if finding.policy in ("", rule.id)]
        example = self._example(finding.example, looked_at) if finding.example else None
        return FindingView(
            property=finding.property, policy=finding.policy, counts=counts,
            actions=list(finding.actions), by=list(finding.by),
            description=finding.description, example=example,
        )  # fmt: skip

    def _example(self, example: Example, rules: Sequence[Rule]) -> ExampleView:
        """What the policies that name its tool, or no tool, look at."""
        action = example.request.action
        speaking = [
            rule
            for rule in rules
            if not (named := self._statements.read(rule.statement).actions)
            or action in named
            or any("___" not in each.id for each in named)  # a group of tools
        ]
        return example_view(example, _looks_at(speaking))

    def _gateway_named(self, rule: Rule) -> str:
        resource = self._statements.read(rule.statement).resource
        return resource.id if resource else ""


def _elsewhere(gateway_arn: str) -> Rule:
    """Both sides deny what is no call of this gateway: no difference is shown of another."""
    quoted = gateway_arn.replace("\\", "\\\\").replace('"', '\\"')
    return Rule(
        id="freehold-elsewhere",
        statement="forbid (principal, action, resource) "
        f'unless {{ resource == {GATEWAY}::"{quoted}" }};',
    )


def counts(finding: Finding, forbids: bool) -> bool:
    """Whether CreatePolicy refuses a policy with it. A forbid that may fail forbids more than it
    says; a permit that may fail only permits less."""
    if not finding.policy:
        return False
    if finding.property is Property.MAY_ERROR:
        return forbids
    return finding.property in _ALWAYS_COUNT


def loosens(compared: Comparison) -> bool:
    return compared.loosens or bool(compared.untold)


def example_view(example: Example, looks_at: Sequence[str]) -> ExampleView:
    request = example.request
    context = {name: plain(value) for name, value in request.context.items()}
    principal = _entity(example.entities, request.principal)
    claims = {name: plain(value) for name, value in (principal.tags if principal else {}).items()}
    return ExampleView(
        principal_type=request.principal.type.rpartition("::")[2],
        principal=request.principal.id,
        claims=claims,
        tool=request.action.id,
        arguments=context.get("input") or {},
        gateway_arn=request.resource.id,
        time=context.get("time"),
        source=context.get("source"),
        session=context.get("session"),
        looks_at=list(looks_at),
    )


def plain(value: Any) -> Any:
    """A value of Cedar's as JSON has it: decimals are numbers, times and addresses texts."""
    if isinstance(value, Mapping):
        extension = value.get("__extn") if len(value) == 1 else None
        if isinstance(extension, Mapping) and isinstance(extension.get("arg"), str):
            text: str = extension["arg"]
            return _number(text) if extension.get("fn") == "decimal" else text
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def _number(text: str) -> float | str:
    """As a text where a float is not the very number."""
    number = float(text)
    return number if Decimal(str(number)) == Decimal(text) else text


def _entity(entities: Sequence[Entity], uid: Uid) -> Entity | None:
    return next((entity for entity in entities if entity.uid == uid), None)


def left_out(schema: GatewaySchema) -> list[LeftOutView]:
    return [
        LeftOutView(tool, each.path, each.why)
        for tool, parts in schema.left_out.items()
        for each in parts
    ]


def schema_of(gateway: GovernedGateway) -> GatewaySchema:
    """Raises ValidationFailed for tools that no schema can hold."""
    try:
        return gateway_schema(gateway)
    except SchemaTooLarge as error:
        raise ValidationFailed(f"gateway {gateway.id}: {error}") from None


def _looks_at(rules: Sequence[Rule]) -> list[str]:
    found = {name for rule in rules for name in _LOOKED_AT.findall(rule.statement)}
    return sorted({"time" if name == "system" else name for name in found})
