"""Policies' control plane with its real parts in this process: Postgres, jobs, an edge, boto3,
Cedar. Gateways are said, and proofs are scripted where a test is not about them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from edge_ground import REGION, EdgeGround, OwnTenant
from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.kernel.arns import agentcore_arn
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, NotFound
from freehold.kernel.request import Request
from freehold.ports.enforcement import GovernedGateway, GovernedTool, Mode
from freehold.ports.policies import Entity, PolicyRequest, Rule, Uid
from freehold.ports.reasoning import Analysis, Comparison, Difference, Example, Finding
from freehold.services.policy import api
from freehold.services.policy.acknowledgements import Acknowledgements
from freehold.services.policy.analysis import (
    ANALYSIS_ATTEMPTS_MAX,
    ANALYSIS_JOB,
    PolicyAnalysis,
)
from freehold.services.policy.attachments import GatewayAttachments
from freehold.services.policy.engines import LoadedEngines
from freehold.services.policy.loosening import Loosening
from freehold.services.policy.model import CHANNEL, ENGINE, ENGINE_OPTIONS, MODE_OPERATION
from freehold.services.policy.modes import PolicyDecisions
from freehold.services.policy.policies import PolicyService
from freehold.services.policy.service import EngineService
from freehold.services.policy.store import PolicyStore
from freehold.services.policy.validation import StatementChecks
from freehold.services.tags import api as tags_api

BALANCE, TRANSFER = "bank___balance", "bank___transfer"
TOOLS = (
    GovernedTool(
        name=BALANCE,
        target="bank",
        input_schema={
            "type": "object",
            "properties": {"account": {"type": "string"}},
            "required": ["account"],
        },
    ),
    GovernedTool(
        name=TRANSFER,
        target="bank",
        input_schema={
            "type": "object",
            "properties": {"amount": {"type": "integer"}, "to": {"type": "string"}},
            "required": ["amount"],
        },
    ),
)


def engine_arn(tenant: str, engine_id: str) -> str:
    return agentcore_arn(REGION, tenant, f"policy-engine/{engine_id}")


def gateway_arn(tenant: str, name: str = "bank") -> str:
    return agentcore_arn(REGION, tenant, f"gateway/{name}")


def permit(tool: str, gateway: str, when: str = "context.input has amount") -> str:
    return (
        f'permit (principal, action == AgentCore::Action::"{tool}", '
        f'resource == AgentCore::Gateway::"{gateway}") when {{ {when} }};'
    )


def forbid(tool: str, gateway: str, when: str) -> str:
    return permit(tool, gateway, when).replace("permit", "forbid", 1)


def transfers(gateway: str, most: int = 1000) -> str:
    return permit(TRANSFER, gateway, f"context.input.amount <= {most}")


ANYWHERE = "permit (principal, action, resource is AgentCore::Gateway);"


class Gateways:
    """`ports.enforcement.GovernedGateways`, in memory."""

    def __init__(self) -> None:
        self.by_arn: dict[tuple[str, str], GovernedGateway] = {}

    def put(
        self,
        tenant: str,
        name: str = "bank",
        *,
        engine: str = "",
        mode: Mode = "ENFORCE",
        tools: Sequence[GovernedTool] = TOOLS,
    ) -> str:
        arn = gateway_arn(tenant, name)
        self.by_arn[tenant, arn] = GovernedGateway(
            tenant=tenant, id=name, arn=arn, name=name, authorizer="CUSTOM_JWT",
            engine_arn=engine, mode=mode if engine else "LOG_ONLY", tools=tools,
        )  # fmt: skip
        return arn

    async def get(self, tenant: str, gateway_arn: str) -> GovernedGateway | None:
        return self.by_arn.get((tenant, gateway_arn))

    async def using(self, tenant: str, engine_arn: str) -> Sequence[GovernedGateway]:
        return [
            gateway
            for (of, _), gateway in self.by_arn.items()
            if of == tenant and gateway.engine_arn == engine_arn
        ]


class ScriptedProofs:
    """`ports.reasoning.Reasoning`, as a test says: findings by what stands in a statement, and what
    a change newly allows."""

    def __init__(self) -> None:
        self.says: list[tuple[str, Finding]] = []
        self.compares: Callable[[Sequence[Rule], Sequence[Rule]], Comparison] = same
        self.trouble: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.analysed: list[Sequence[Rule]] = []
        self.compared: list[tuple[Sequence[Rule], Sequence[Rule]]] = []

    async def analyse(
        self, rules: Sequence[Rule], schema: Mapping[str, Any], *, seconds_max: float = 30.0
    ) -> Analysis:
        self.analysed.append(rules)
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        found = [
            Finding(
                property=finding.property, policy=rule.id, actions=finding.actions,
                description=finding.description, example=finding.example,
            )
            for words, finding in self.says
            for rule in rules
            if words in rule.statement
        ]  # fmt: skip
        return Analysis(findings=found, policies=len(rules), actions=2, seconds=0.0)

    async def compare(
        self,
        old: Sequence[Rule],
        new: Sequence[Rule],
        schema: Mapping[str, Any],
        *,
        seconds_max: float = 30.0,
    ) -> Comparison:
        self.compared.append((old, new))
        if self.trouble is not None:
            raise self.trouble
        return self.compares(old, new)


def same(old: Sequence[Rule], new: Sequence[Rule]) -> Comparison:
    return Comparison(equivalent=True, differences=())


def loosens(old: Sequence[Rule], new: Sequence[Rule]) -> Comparison:
    difference = Difference(action=TRANSFER, change="newly allowed", example=example(2000))
    return Comparison(equivalent=False, differences=(difference,))


def example(amount: int) -> Example:
    alice = Uid("AgentCore::OAuthUser", "alice")
    return Example(
        request=PolicyRequest(
            principal=alice,
            action=Uid("AgentCore::Action", TRANSFER),
            resource=Uid("AgentCore::Gateway", "g"),
            context={"input": {"amount": amount}},
        ),
        entities=[Entity(uid=alice, attributes={"id": "alice"}, tags={"role": "clerk"})],
    )


class Generated:
    """`services.policy.ports.GeneratedStatements`."""

    def __init__(self) -> None:
        self.statements: dict[tuple[str, str, str, str], str] = {}

    async def statement(
        self, tenant: str, engine_id: str, generation_id: str, asset_id: str
    ) -> str:
        found = self.statements.get((tenant, engine_id, generation_id, asset_id))
        if found is None:
            raise NotFound(f"policy generation {generation_id!r} does not exist")
        return found


class ModesAsked(OwnTenant):
    """Modes of policies only while they may be changed."""

    def __init__(self) -> None:
        self.may_change_modes = True
        self.asked: list[tuple[str, str | None]] = []

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        self.asked.append((operation, resource_arn))
        tenant = await super().authorize(caller, operation, resource_arn)
        if operation == MODE_OPERATION and not self.may_change_modes:
            raise AccessDenied("not you")
        return tenant


class PolicyGround(EdgeGround):
    """One worker. `works` is False for one that only takes requests: its jobs stay behind."""

    def __init__(
        self,
        dsn: str,
        state: Path,
        *,
        works: bool = True,
        executor: str = "one",
        proofs: Any = None,
    ) -> None:
        database = PostgresDatabase(dsn, pool_size_max=4, application_name="policy test")
        self.authorizer = ModesAsked()
        super().__init__(database, state, executor=executor, authorizer=self.authorizer)
        self.dsn, self.works = dsn, works
        self.gateways, self.generated = Gateways(), Generated()
        self.scripted = ScriptedProofs()
        self.store = PolicyStore(self.database, self.resources)
        self.engines = LoadedEngines(self.store)
        self.acknowledgements = Acknowledgements(self.database)
        self.decisions = PolicyDecisions(authorizer=self.authorizer, audit=self.audit)
        self.checks = StatementChecks(
            statements=CedarStatements(), engine=CedarEngine(), gateways=self.gateways
        )
        reasoning = proofs or self.scripted
        self.loosening = Loosening(
            resources=self.resources, gateways=self.gateways, checks=self.checks,
            reasoning=reasoning, acknowledgements=self.acknowledgements, decisions=self.decisions,
        )  # fmt: skip
        self.analysis = PolicyAnalysis(
            resources=self.resources, store=self.store, jobs=self.jobs, checks=self.checks,
            reasoning=reasoning, loosening=self.loosening,
        )  # fmt: skip
        self.service = EngineService(
            resources=self.resources, store=self.store, gateways=self.gateways,
            acknowledgements=self.acknowledgements,
        )  # fmt: skip
        self.policies = PolicyService(
            resources=self.resources, store=self.store, checks=self.checks,
            analysis=self.analysis, loosening=self.loosening, decisions=self.decisions,
            generated=self.generated,
        )  # fmt: skip
        self.attachments = GatewayAttachments(
            database=self.database, store=self.store, gateways=self.gateways,
            loosening=self.loosening, decisions=self.decisions,
        )  # fmt: skip

    @asynccontextmanager
    async def open(self) -> AsyncIterator["PolicyGround"]:
        async with AsyncExitStack() as stack:
            self.database.listen(CHANNEL, self.engines.heard_policies)
            self.database.listen(RESOURCES_CHANNEL, self.engines.heard_change)
            if self.works:
                self.jobs.register(
                    ANALYSIS_JOB, self.analysis.work, concurrency=2,
                    attempts_max=ANALYSIS_ATTEMPTS_MAX,
                )  # fmt: skip
            await self.database.start()
            stack.push_async_callback(self.database.close)
            await self.analysis.take_up()
            await self.jobs.start()
            stack.push_async_callback(self.jobs.close)
            tags = tags_api.handlers(
                self.resources, {ENGINE.name: ENGINE_OPTIONS.check}, changed=lambda _: None,
                guards={ENGINE.name: self.loosening.guard_tags},
            )  # fmt: skip
            handlers = {**api.handlers(self.service, self.policies), **tags}
            await stack.enter_async_context(self.served(handlers))
            yield self

    # -- what tests do again and again

    async def engine(self, tenant: str, name: str = "rules", **parameters: Any) -> str:
        made = await self.control(tenant).create_policy_engine(name=name, **parameters)
        engine_id: str = made["policyEngineId"]
        return engine_id

    async def guarded(self, tenant: str, name: str = "rules") -> tuple[str, str]:
        """An engine that refuses to be loosened, and the gateway that it decides for."""
        id = await self.engine(tenant, name, tags={"freehold:loosening": "refuse"})
        return id, self.gateways.put(tenant, engine=engine_arn(tenant, id))

    async def policy(
        self, tenant: str, engine_id: str, statement: str, name: str = "one", **parameters: Any
    ) -> dict[str, Any]:
        """Made, and settled."""
        made = await self.control(tenant).create_policy(
            policyEngineId=engine_id, name=name,
            **{"definition": {"cedar": {"statement": statement}}, **parameters},
        )  # fmt: skip
        return await self.settled(tenant, engine_id, made["policyId"])

    async def settled(self, tenant: str, engine_id: str, policy_id: str) -> dict[str, Any]:
        """The policy, once nothing is under way. Follows the store, quicker than boto3."""

        async def done() -> bool:
            policy = await self.policies.get(tenant, engine_id, policy_id)
            return policy.status not in ("CREATING", "UPDATING")

        await self.until(done)
        found: dict[str, Any] = await self.control(tenant).get_policy(
            policyEngineId=engine_id, policyId=policy_id
        )
        return found

    async def in_force(self, tenant: str, engine_id: str) -> dict[str, str]:
        """Statements by the names of their policies."""
        row = await self.store.load(tenant, engine_id)
        return {each.name: each.statement for each in row.policies}


def asked(tenant: str, principal: str = "admin") -> Request:
    caller = Caller(tenant=tenant, principal=principal, kind=CallerKind.ACCESS_KEY)
    return Request(caller=caller, request_id=f"request-of-{tenant}")
