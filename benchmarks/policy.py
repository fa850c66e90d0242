"""What a decision by policies costs, and a list of tools that shows what could be allowed.

    .venv/bin/python benchmarks/policy.py [--seconds 1]

Beside bare cedarpy in the same run: policies and schema parsed once, all policies asked at each
call, as its own documentation has it. `rules` is our compiled set, sliced by action; `whole` is
what the gateway calls: arguments mapped to Cedar's types, decided, a record made (and kept by
nobody).
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import cedarpy
from policy_gateway import through_the_gateway

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.kernel.caller import Caller, CallerKind
from freehold.ports.enforcement import GovernedCall, GovernedGateway, GovernedTool
from freehold.ports.policies import CompiledRules, Entity, PolicyRequest
from freehold.services.policy.enforcement import PolicyEnforcement
from freehold.services.policy.model import Decided, EngineRow, PolicyRow
from freehold.services.policy.requests import Asked, asked_of
from freehold.services.policy.schema import gateway_schema

TENANT = "123456789012"
ARN = f"arn:aws:bedrock-agentcore:us-east-1:{TENANT}:gateway/bank-0123456789"
ENGINE = f"arn:aws:bedrock-agentcore:us-east-1:{TENANT}:policy-engine/bank-0123456789"
TARGETS = 10
ROUNDS = 7


def gateway(tools: int) -> GovernedGateway:
    properties = {
        "amount": {"type": "integer"}, "to": {"type": "string"}, "note": {"type": "string"},
        "rate": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}},
    }  # fmt: skip
    schema = {"type": "object", "properties": properties, "required": ["amount", "to"]}
    return GovernedGateway(
        tenant=TENANT, id="bank-0123456789", arn=ARN, name="bank", authorizer="CUSTOM_JWT",
        engine_arn=ENGINE, mode="ENFORCE",
        tools=[
            GovernedTool(
                name=f"target{n % TARGETS}___tool{n}", target=f"target{n % TARGETS}",
                input_schema=schema,
            )
            for n in range(tools)
        ],
    )  # fmt: skip


def statements(policies: int, tools: Sequence[GovernedTool]) -> list[str]:
    """Of ten, seven permits of one tool each, a permit of a target's, and two forbids, one of them
    for all calls."""
    made = []
    for n in range(policies):
        tool = tools[n % len(tools)]
        one = f'action == AgentCore::Action::"{tool.name}", resource == AgentCore::Gateway::"{ARN}"'
        kind = n % 10
        if kind < 7:
            made.append(
                f'permit (principal, {one}) when {{ principal.hasTag("role") &&'
                f' principal.getTag("role") == "role{n % 20}" &&'
                f" context.input.amount <= {1000 + n} }};"
            )
        elif kind == 7:
            made.append(
                f'permit (principal, action in AgentCore::Action::"{tool.target}", resource) when'
                f' {{ principal.hasTag("team") && principal.getTag("team") == "team{n}" }};'
            )
        elif kind == 8:
            made.append(
                f'@reason("no. {n}") forbid (principal, {one}) when {{ context.input has note &&'
                f' context.input.note like "*forbidden{n}*" }};'
            )
        else:
            made.append(
                f"forbid (principal, action, resource) when {{ context.input.amount > {n}000000 }};"
            )
    return made


CALLER = Caller(
    tenant=TENANT, principal="issuer|ann", kind=CallerKind.OAUTH_USER, user="issuer|ann",
    claims={"sub": "ann", "role": "role0", "iss": "https://issuer.example", "scope": "read write"},
)  # fmt: skip


def call(at: GovernedGateway) -> GovernedCall:
    return GovernedCall(
        gateway=at, tool=at.tools[0], caller=CALLER, request_id="r", source="10.0.0.7",
        session="mcp-session", arguments={"amount": 12, "to": "bob", "note": "rent", "rate": 1.5},
    )  # fmt: skip


class Held:
    """An engine in memory."""

    def __init__(self, made: Sequence[str]) -> None:
        self._row = EngineRow(
            tenant=TENANT, id="bank-0123456789", arn=ENGINE, name="bank", version="1",
            policies=[
                PolicyRow(id=f"policy-{n}", name=f"p{n}", version=1, mode="ACTIVE", statement=each)
                for n, each in enumerate(made)
            ],
        )  # fmt: skip

    @property
    def row(self) -> EngineRow:
        return self._row

    async def load(self, tenant: str, engine_arn: str) -> EngineRow | None:
        return self._row


class Nobody:
    async def record(self, decided: Decided) -> None:
        pass


def timed(do: Callable[[int], Any], seconds: float) -> float:
    """CPU microseconds of one, the median of rounds."""
    do(1)
    began = time.perf_counter()
    do(20)
    count = max(3, int(seconds / ROUNDS / max((time.perf_counter() - began) / 20, 1e-6)))
    rounds = []
    for _ in range(ROUNDS):
        cpu = time.process_time()
        do(count)
        rounds.append((time.process_time() - cpu) / count * 1e6)
    return statistics.median(rounds)


class Bare:
    """cedarpy as it comes, everything that can be parsed once parsed once."""

    def __init__(self, made: Sequence[str], schema: Any, asked: Asked) -> None:
        self._policies = cedarpy.PolicySet.from_str("\n".join(made))
        self._schema = cedarpy.Schema.from_json_str(json.dumps(schema))
        self._request = written(asked.requests[0])
        self._entities = json.dumps([described(entity) for entity in asked.entities])

    def decide(self) -> bool:
        return cedarpy.is_authorized(
            self._request, self._policies, self._entities, self._schema
        ).allowed

    def possible(self, tool: str) -> bool:
        asked = {
            "principal": 'AgentCore::OAuthUser::"ann"', "resource": f'AgentCore::Gateway::"{ARN}"',
            "action": f'AgentCore::Action::"{tool}"', "context": None,
        }  # fmt: skip
        found = cedarpy.is_authorized_partial(asked, self._policies, self._entities, self._schema)
        return found.decision is not cedarpy.Decision.Deny


def written(request: PolicyRequest) -> dict[str, Any]:
    return {
        "principal": request.principal._asdict(), "action": request.action._asdict(),
        "resource": request.resource._asdict(), "context": json.dumps(request.context),
    }  # fmt: skip


def described(entity: Entity) -> dict[str, Any]:
    return {
        "uid": entity.uid._asdict(), "attrs": entity.attributes, "tags": entity.tags, "parents": [],
    }  # fmt: skip


def compiled(made: Sequence[str], at: GovernedGateway) -> CompiledRules:
    rules = [policy.rule for policy in Held(made).row.policies]
    found = CedarEngine().compile_rules(rules, gateway_schema(at).document)
    assert not found.problems, found.problems
    return found


def decisions(seconds: float) -> None:
    print(
        "| policies | tools | bare cedarpy us | rules us | whole us | bare / rules | bare / whole |"
    )
    print("|---|---|---|---|---|---|---|")
    for policies, tools in ((10, 20), (100, 20), (100, 100), (1000, 100), (1000, 1000)):
        at = gateway(tools)
        made = statements(policies, at.tools)
        asked = asked_of(call(at), gateway_schema(at), datetime.now(UTC))
        bare, rules = Bare(made, gateway_schema(at).document, asked), compiled(made, at)
        enforcement = PolicyEnforcement(Held(made), CedarEngine(), CedarStatements(), Nobody())
        runner = asyncio.Runner()

        async def whole(
            times: int, enforcement: PolicyEnforcement = enforcement, at: GovernedGateway = at
        ) -> None:
            for _ in range(times):
                assert await enforcement.decide(call(at)) is None

        def alone(times: int, bare: Bare = bare) -> None:
            for _ in range(times):
                assert bare.decide()

        def ruled(times: int, rules: CompiledRules = rules, asked: Asked = asked) -> None:
            for _ in range(times):
                assert rules.decide(asked.requests[0], asked.entities).allowed

        by_bare, by_rules = timed(alone, seconds), timed(ruled, seconds)
        by_whole = timed(lambda times: runner.run(whole(times)), seconds)  # noqa: B023
        runner.close()
        print(
            f"| {policies:,} | {tools:,} | {by_bare:,.0f} | {by_rules:,.0f} | {by_whole:,.0f}"
            f" | {by_bare / by_rules:.1f} | {by_bare / by_whole:.1f} |"
        )


def lists(seconds: float, tools: int = 1000, policies: int = 500) -> None:
    at = gateway(tools)
    made = statements(policies, at.tools)
    schema = gateway_schema(at)
    asked = asked_of(call(at), schema, datetime.now(UTC))
    bare = Bare(made, schema.document, asked)
    began = time.process_time()
    rules = compiled(made, at)
    compiling = (time.process_time() - began) * 1e3
    principal, resource = asked.entities
    could = rules.possible(principal, resource, schema.actions())
    names = [uid.id for uid in schema.actions()]
    assert {n for n, may in zip(names, could, strict=True) if may} <= {
        name for name in names if bare.possible(name)
    }
    enforcement = PolicyEnforcement(Held(made), CedarEngine(), CedarStatements(), Nobody())

    async def shown() -> int:
        may = await enforcement.shown(at, CALLER)
        return sum(map(may, names))

    with asyncio.Runner() as runner:
        assert runner.run(shown()) == sum(could)
        again = timed(lambda times: [runner.run(shown()) for _ in range(times)], seconds) / 1e3

    def every(times: int) -> None:
        for _ in range(times):
            [bare.possible(name) for name in names]

    began = time.process_time()
    every(1)
    by_bare = (time.process_time() - began) * 1e3
    first = (
        timed(
            lambda times: [
                rules.possible(principal, resource, schema.actions()) for _ in range(times)
            ],
            seconds,
        )
        / 1e3
    )
    print(f"\n{tools:,} tools under {policies} policies, {sum(could)} could be allowed; CPU ms")
    print("| bare cedarpy, a tool at a time | ours, a new caller | the same caller | bare / ours |")
    print("|---|---|---|---|")
    print(f"| {by_bare:,.0f} | {first:.1f} | {again:.2f} | {by_bare / first:.0f} |")
    print(f"\ncompiling these policies, once for each change: {compiling:,.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number")
    parser.add_argument("--calls", type=int, default=2000, help="through the gateway, each round")
    parser.add_argument("--rounds", type=int, default=3, help="through the gateway")
    parser.add_argument("--gateway-only", action="store_true")
    arguments = parser.parse_args()
    if not arguments.gateway_only:
        decisions(arguments.seconds)
        lists(arguments.seconds)
    through_the_gateway(6 * arguments.seconds, arguments.calls, arguments.rounds)
