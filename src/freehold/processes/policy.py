"""Policies put together once a worker: kept, proven, enforced at gateways, recorded."""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

import msgspec

from freehold.adapters.cedar.cleaning import CedarCleaning
from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.models import models_for
from freehold.adapters.models.environment import providers_from_environment
from freehold.adapters.models.traced import TracedModels
from freehold.adapters.postgres.dedicated import DedicatedConnection
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.adapters.smt.reasoning import SmtReasoning
from freehold.kernel.arns import Arn
from freehold.kernel.operation import Operation
from freehold.kernel.request import Handler
from freehold.kernel.sweep import DAY_SECONDS, Sweep
from freehold.kernel.tracing import Recorder
from freehold.ports.audit import Audit
from freehold.ports.authorizer import Authorizer
from freehold.ports.enforcement import GovernedGateway
from freehold.ports.models import Models
from freehold.ports.resources import Resources
from freehold.ports.secrets import Sealer
from freehold.services.gateway.catalogs import LoadedCatalogs
from freehold.services.gateway.model import GATEWAY
from freehold.services.policy import api, decisions_native, generation_api, native
from freehold.services.policy.acknowledgements import Acknowledgements
from freehold.services.policy.analysis import ANALYSIS_ATTEMPTS_MAX, ANALYSIS_JOB, PolicyAnalysis
from freehold.services.policy.attachments import GatewayAttachments
from freehold.services.policy.decision_store import DecisionLog, DecisionRetention
from freehold.services.policy.decisions import DecisionWriter
from freehold.services.policy.enforcement import PolicyEnforcement
from freehold.services.policy.engines import LoadedEngines
from freehold.services.policy.explaining import Explaining
from freehold.services.policy.generation import GENERATION_JOB, Generations
from freehold.services.policy.generation_checking import Checking
from freehold.services.policy.loosening import Loosening
from freehold.services.policy.model import CHANNEL
from freehold.services.policy.modes import PolicyDecisions
from freehold.services.policy.policies import PolicyService
from freehold.services.policy.proving import Proofs
from freehold.services.policy.schema import OWN_IDS, SAME
from freehold.services.policy.service import EngineService
from freehold.services.policy.store import PolicyStore
from freehold.services.policy.trying import Trying
from freehold.services.policy.validation import StatementChecks
from freehold.settings import Settings

_ANALYSES_AT_ONCE = 2
_GENERATIONS_AT_ONCE = 4
_PAGE = 100


class CatalogGateways:
    """`ports.enforcement.GovernedGateways`, of the catalogs that calls are answered from.
    `catalogs` is set once the gateways stand: they in turn ask policies."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.catalogs: LoadedCatalogs | None = None

    async def get(self, tenant: str, gateway_arn: str) -> GovernedGateway | None:
        arn = Arn.parse(gateway_arn)
        kind, _, id = arn.resource.partition("/") if arn is not None else ("", "", "")
        if kind != "gateway" or not id or "/" in id or self.catalogs is None:
            return None
        catalog = await self.catalogs.get(id)
        if catalog is None or catalog.door.tenant != tenant or catalog.door.arn != gateway_arn:
            return None
        return catalog.governed

    async def using(self, tenant: str, engine_arn: str) -> Sequence[GovernedGateway]:
        found, token = [], None
        while True:
            page = await self._resources.page(tenant, GATEWAY, limit=_PAGE, token=token)
            for gateway in page.items:
                given = gateway.document.get("policyEngineConfiguration") or {}
                if given.get("arn") != engine_arn:
                    continue
                if (governed := await self.get(tenant, gateway.arn)) is not None:
                    found.append(governed)
            token = page.next_token
            if token is None:
                return found


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """`enforcement` and `attachments` are what gateways ask."""

    enforcement: PolicyEnforcement
    attachments: GatewayAttachments
    gateways: CatalogGateways
    service: EngineService
    policies: PolicyService
    analysis: PolicyAnalysis
    generations: Generations
    loosening: Loosening
    engines: LoadedEngines
    proofs: Proofs
    explaining: Explaining
    decisions: DecisionLog
    trying: Trying
    writer: DecisionWriter
    retention: Sweep
    reasoning: tuple[SmtReasoning, ...]
    models: Models | None
    region: str


def make_policies(
    settings: Settings,
    database: PostgresDatabase,
    resources: Resources,
    *,
    sealer: Sealer,
    jobs: PostgresJobs,
    authorizer: Authorizer,
    audit: Audit,
    environment: Mapping[str, str],
    recorder: Recorder | None = None,
) -> Policies:
    """Before `database.start`: it listens. Before `jobs.start`: it registers work. `recorder` takes
    the traces of that."""
    assert settings.database_url is not None, "the supervisor says where the database is"
    engine, statements = CedarEngine(), CedarStatements()
    # One for changes, one for who only asks: each answers one question at a time.
    reasoning, asked = (SmtReasoning(own_ids=OWN_IDS, same=SAME) for _ in range(2))
    gateways, store = CatalogGateways(resources), PolicyStore(database, resources)
    engines = LoadedEngines(store)
    database.listen(RESOURCES_CHANNEL, engines.heard_change)
    database.listen(CHANNEL, engines.heard_policies)
    checks = StatementChecks(statements=statements, engine=engine, gateways=gateways)
    acknowledgements, modes = (
        Acknowledgements(database),
        PolicyDecisions(authorizer=authorizer, audit=audit),
    )
    loosening = Loosening(
        resources=resources, gateways=gateways, checks=checks, reasoning=reasoning,
        acknowledgements=acknowledgements, decisions=modes,
    )  # fmt: skip
    analysis = PolicyAnalysis(
        resources=resources, store=store, jobs=jobs, checks=checks, reasoning=reasoning,
        loosening=loosening,
    )  # fmt: skip
    models = _models(environment)
    checking = Checking(engine=engine, cleaning=CedarCleaning(), reasoning=reasoning)
    generations = Generations(
        resources=resources, jobs=jobs, gateways=gateways, checking=checking, models=models,
        recorder=recorder,
    )  # fmt: skip
    jobs.register(
        ANALYSIS_JOB, analysis.work, concurrency=_ANALYSES_AT_ONCE,
        attempts_max=ANALYSIS_ATTEMPTS_MAX,
    )  # fmt: skip
    jobs.register(GENERATION_JOB, generations.work, concurrency=_GENERATIONS_AT_ONCE)
    decisions = DecisionLog(database, sealer)
    lane = DedicatedConnection(settings.database_url, application_name="freehold decisions")
    writer = DecisionWriter(lane, sealer)
    return Policies(
        enforcement=PolicyEnforcement(engines, engine, statements, writer),
        attachments=GatewayAttachments(
            database=database, store=store, gateways=gateways, loosening=loosening,
            decisions=modes,
        ),
        gateways=gateways,
        service=EngineService(
            resources=resources, store=store, gateways=gateways, acknowledgements=acknowledgements
        ),
        policies=PolicyService(
            resources=resources, store=store, checks=checks, analysis=analysis,
            loosening=loosening, decisions=modes, generated=generations,
        ),
        analysis=analysis, generations=generations, loosening=loosening, engines=engines,
        proofs=Proofs(engine, statements, asked),
        explaining=Explaining(
            engine=engine, statements=statements, engines=engines, gateways=gateways,
            decisions=decisions, region=settings.region,
        ),
        decisions=decisions, trying=Trying(decisions, gateways, engine, statements),
        writer=writer,
        retention=Sweep(
            "old policy decisions",
            DecisionRetention(database, audit, days=settings.decision_days).expire,
            every_seconds=DAY_SECONDS,
        ),
        reasoning=(reasoning, asked), models=models, region=settings.region,
    )  # fmt: skip


async def open_policies(policies: Policies, stack: AsyncExitStack) -> None:
    """After the database, before the gateways' jobs start."""
    await policies.writer.start()
    stack.push_async_callback(policies.writer.close)
    for reasoning in policies.reasoning:
        stack.push_async_callback(reasoning.close)
    if policies.models is not None:
        stack.push_async_callback(policies.models.close)
    await policies.retention.start()
    stack.push_async_callback(policies.retention.close)
    await policies.analysis.take_up()
    await policies.generations.take_up()


def policy_handlers(policies: Policies) -> dict[str, Handler]:
    return {
        **api.handlers(policies.service, policies.policies),
        **generation_api.handlers(policies.generations),
    }


def policy_operations(policies: Policies) -> list[Operation]:
    return [
        *native.operations(
            policies.proofs, policies.explaining, policies.engines, policies.gateways,
            policies.loosening, region=policies.region,
        ),
        *decisions_native.operations(
            policies.decisions, policies.trying, policies.engines, region=policies.region
        ),
    ]  # fmt: skip


def _models(environment: Mapping[str, str]) -> Models | None:
    """The platform's own: the preferred provider, where it says which model."""
    with contextlib.suppress(StopIteration):
        provider = next(iter(providers_from_environment(environment).values()))
        if provider.default_model:
            return TracedModels(models_for(provider), provider)
    return None
