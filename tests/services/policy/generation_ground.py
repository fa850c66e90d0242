"""Policy generations with real parts in this process: Postgres, jobs, Cedar, the AWS edge, boto3,
and the scripted model behind the client that a platform has for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from edge_ground import REGION, EdgeGround
from freehold.adapters.cedar.cleaning import CedarCleaning
from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.models import models_for
from freehold.adapters.models.traced import TracedModels
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.arns import agentcore_arn
from freehold.kernel.tracing import Recorder
from freehold.ports.enforcement import GovernedGateway, GovernedTool
from freehold.ports.models import Models
from freehold.ports.policies import Rule as PolicyRule
from freehold.ports.reasoning import Analysis, Comparison, Finding, Property, Reasoning
from freehold.services.policy import generation_api
from freehold.services.policy.generation import (
    GENERATION_ATTEMPTS_MAX,
    GENERATION_JOB,
    KEPT,
    Generations,
)
from freehold.services.policy.generation_checking import Checking
from freehold.services.policy.model import ENGINE
from freehold.testing.scripted_model import Rule, Script, ScriptedModel
from freehold.testing.scripted_model.script import ScriptedToolCall

ENGINE_ID = "rules-0123456789"
BALANCE, TRANSFER = "Bank___balance", "Bank___transfer"

_TOOLS = (
    GovernedTool(
        name=BALANCE, target="Bank",
        input_schema={
            "type": "object", "required": ["account"],
            "properties": {"account": {"type": "string", "description": "an IBAN"}},
        },
    ),
    GovernedTool(
        name=TRANSFER, target="Bank",
        input_schema={
            "type": "object", "required": ["amount", "to"],
            "properties": {
                "amount": {"type": "integer", "description": "in whole euros"},
                "to": {"type": "string"},
                "memo": {"type": "string"},
            },
        },
    ),
)  # fmt: skip


def gateway_arn(tenant: str, name: str = "bank-0123456789") -> str:
    return agentcore_arn(REGION, tenant, f"gateway/{name}")


def permit(tenant: str, tool: str, condition: str = "", *, effect: str = "permit") -> str:
    when = f" when {{ {condition} }}" if condition else ""
    return (
        f'{effect} (principal is AgentCore::OAuthUser, action == AgentCore::Action::"{tool}", '
        f'resource == AgentCore::Gateway::"{gateway_arn(tenant)}"){when};'
    )


def proposed(*policies: Sequence[str], when: str = "") -> Rule:
    """The model's answer: (fragment, statement) or (fragment, statement, remark)."""
    members = ("fragment", "statement", "remark")
    given = [dict(zip(members, policy, strict=False)) for policy in policies]
    return Rule(when=when, tool_call=ScriptedToolCall("propose", {"policies": given}))


AGAIN = r'"problems":'
"""What a request of the platform has in it that asks for a correction."""
COMPLAINED = r'"complaint":'


class SomeGateways:
    def __init__(self) -> None:
        self.by_arn: dict[tuple[str, str], GovernedGateway] = {}

    def add(self, tenant: str, tools: Sequence[GovernedTool] = _TOOLS) -> None:
        arn = gateway_arn(tenant)
        self.by_arn[tenant, arn] = GovernedGateway(
            tenant=tenant, id=arn.rpartition("/")[2], arn=arn, name="bank",
            authorizer="CUSTOM_JWT", tools=tools,
        )  # fmt: skip

    async def get(self, tenant: str, arn: str) -> GovernedGateway | None:
        return self.by_arn.get((tenant, arn))

    async def using(self, tenant: str, engine_arn: str) -> Sequence[GovernedGateway]:
        return ()


class SaidFindings:
    """Reasoning of a test's own: what it finds of a policy that has certain words."""

    def __init__(self, said: Mapping[str, Property]) -> None:
        self.said = said
        self.trouble: Exception | None = None

    async def analyse(
        self, rules: Sequence[PolicyRule], schema: Mapping[str, Any], *, seconds_max: float = 30.0
    ) -> Analysis:
        if self.trouble is not None:
            raise self.trouble
        # Of the set as a whole there is always something, which is no finding of a policy.
        findings = [Finding(property=Property.ALLOW_NONE, actions=[TRANSFER])]
        for rule in rules:
            findings += [
                Finding(property=found, policy=rule.id, description="as it was said")
                for words, found in self.said.items()
                if words in rule.statement
            ]
        return Analysis(findings=findings, policies=len(rules), actions=2, seconds=0.0)

    async def compare(self, *_: Any, **__: Any) -> Comparison:
        raise NotImplementedError("nobody compares here")


class GenerationGround(EdgeGround):
    """One worker of a platform. `script` None is a platform without a model."""

    def __init__(
        self,
        dsn: str,
        state: Path,
        script: Sequence[Rule] | None,
        *,
        reasoning: Reasoning | None = None,
        models: Models | None = None,
        executor: str = "one",
        kept: timedelta = KEPT,
        works: bool = True,
        provider: str = "openai",
        recorder: Recorder | None = None,
    ) -> None:
        database = PostgresDatabase(dsn, pool_size_max=4, application_name="policy test")
        super().__init__(database, state, executor=executor)
        self.provider, self.works = provider, works
        self.gateways = SomeGateways()
        self.reasoning = reasoning or SaidFindings({})
        self.model = None if script is None else ScriptedModel(Script(rules=tuple(script)))
        self.models, self.kept, self.recorder = models, kept, recorder

    @asynccontextmanager
    async def open(self) -> AsyncIterator["GenerationGround"]:
        async with AsyncExitStack() as stack:
            models = self.models
            if models is None and self.model is not None:
                await stack.enter_async_context(self.model)
                provider = self.model.providers()[self.provider]
                models = TracedModels(models_for(provider), provider)
                stack.push_async_callback(models.close)
            self.generations = Generations(
                resources=self.resources, jobs=self.jobs, gateways=self.gateways,
                checking=Checking(
                    engine=CedarEngine(), cleaning=CedarCleaning(), reasoning=self.reasoning
                ),
                models=models, pauses_seconds=(0.01, 0.01), kept=self.kept,
                recorder=self.recorder,
            )  # fmt: skip
            if self.works:
                self.jobs.register(
                    GENERATION_JOB, self.generations.work, concurrency=2,
                    attempts_max=GENERATION_ATTEMPTS_MAX,
                )  # fmt: skip
            await self.database.start()
            stack.push_async_callback(self.database.close)
            await self.jobs.start()
            stack.push_async_callback(self.jobs.close)
            await stack.enter_async_context(
                self.served(generation_api.handlers(self.generations), payload_bytes_max=1 << 20)
            )
            yield self

    async def settle_in(self, tenant: str) -> None:
        """An account with an engine, and a gateway of the bank's."""
        self.gateways.add(tenant)
        await self.resources.create(
            tenant, ENGINE, id=ENGINE_ID, name="rules", status="ACTIVE", document={}
        )

    async def started(self, tenant: str, text: str, name: str = "house", **more: Any) -> str:
        made = await self.control(tenant).start_policy_generation(
            **{
                "policyEngineId": ENGINE_ID, "resource": {"arn": gateway_arn(tenant)},
                "content": {"rawText": text}, "name": name, **more,
            }
        )  # fmt: skip
        assert made["status"] == "GENERATING"
        id: str = made["policyGenerationId"]
        return id

    async def ended(
        self, tenant: str, generation_id: str, engine_id: str = ENGINE_ID
    ) -> dict[str, Any]:
        async with asyncio.timeout(15):
            while True:
                found = await self.generations.get(tenant, engine_id, generation_id)
                if found.status != "GENERATING":
                    break
                await asyncio.sleep(0.01)
        answer: dict[str, Any] = await self.control(tenant).get_policy_generation(
            policyEngineId=engine_id, policyGenerationId=generation_id
        )
        return answer

    async def assets(
        self, tenant: str, generation_id: str, engine_id: str = ENGINE_ID
    ) -> list[dict[str, Any]]:
        answer = await self.control(tenant).list_policy_generation_assets(
            policyEngineId=engine_id, policyGenerationId=generation_id
        )
        found: list[dict[str, Any]] = answer["policyGenerationAssets"]
        return found

    async def made(self, tenant: str, text: str) -> list[dict[str, Any]]:
        """The assets of a text, once they are there."""
        generation_id = await self.started(tenant, text)
        ended = await self.ended(tenant, generation_id)
        assert ended["status"] == "GENERATED", ended
        return await self.assets(tenant, generation_id)

    def asked(self) -> list[str]:
        """What the model was sent last in each request."""
        assert self.model is not None
        return [each.document["messages"][-1]["content"] for each in self.model.requests]


def types(asset: Mapping[str, Any]) -> list[str]:
    """ "" for a finding without one."""
    return [finding.get("type", "") for finding in asset["findings"]]


def statement(asset: Mapping[str, Any]) -> str:
    found: str = asset["definition"]["cedar"]["statement"]
    return found


Opened = Callable[..., Awaitable[GenerationGround]]
READ, LARGE = "Everybody may see balances.", "Nobody may move more than 1000."
TEXT = f"{READ} {LARGE}"


@asynccontextmanager
async def platforms(dsn: str, state: Path, tenant: str) -> AsyncIterator[Opened]:
    """Opens a platform whose model says this; it has an account with an engine and a gateway."""
    async with AsyncExitStack() as stack:

        async def open(script: Sequence[Rule] | None = None, **how: Any) -> GenerationGround:
            ground = GenerationGround(dsn, state, script, **how)
            await stack.enter_async_context(ground.open())
            await ground.settle_in(tenant)
            return ground

        yield open


def forbid(tenant: str, tool: str, condition: str = "") -> str:
    return permit(tenant, tool, condition, effect="forbid")
