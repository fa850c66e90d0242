"""Gateways, put together once a worker: what they are, what they answer, what they call."""

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import msgspec
from starlette.types import ASGIApp

from freehold import __version__
from freehold.adapters.embeddings.absent import NoEmbeddings
from freehold.adapters.embeddings.endpoint import EndpointEmbeddings
from freehold.adapters.embeddings.local import LocalEmbeddings
from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.limits.limiter import PostgresRateLimiter
from freehold.adapters.mcp.client import McpTargets
from freehold.adapters.postgres.dedicated import DedicatedConnection
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.adapters.targets.connectors.client import ConnectorTargets
from freehold.adapters.targets.connectors.library import Library
from freehold.adapters.targets.connectors.offered import OfferedConnectors
from freehold.adapters.targets.functions import FunctionTargets
from freehold.adapters.targets.openapi.client import OpenApiTargets
from freehold.adapters.targets.smithy.client import SmithyTargets
from freehold.adapters.web.inner import CountsHops, InnerWeb, Inside
from freehold.adapters.web.traced import TracedWeb
from freehold.edges.door import GatewayDoors
from freehold.edges.mcp.admission import Names
from freehold.edges.mcp.app import SIGNING_NAME, McpEdge
from freehold.edges.passage.app import PassageEdge
from freehold.edges.pipeline import Pipeline
from freehold.edges.sigv4 import SignatureRules, Verifier
from freehold.edges.spool import SignatureAuthenticator, SpoolSpace
from freehold.kernel.errors import FreeholdError, NotFound, ValidationFailed
from freehold.kernel.operation import Operation
from freehold.kernel.request import Handler
from freehold.kernel.sweep import DAY_SECONDS, Sweep
from freehold.ports.authorizer import AccessKeys, BearerTokens
from freehold.ports.blobs import Blobs
from freehold.ports.connectors import Connector
from freehold.ports.mcp import Client, Door
from freehold.ports.replay import Replays
from freehold.ports.resources import Resource, Resources
from freehold.ports.targets import Definition, Json, Place, TargetClient
from freehold.ports.usage import usage_reader
from freehold.ports.web import Web
from freehold.processes.embeddings import embedder
from freehold.processes.functions import Functions
from freehold.processes.inner import InnerRuntimes
from freehold.processes.policy import Policies
from freehold.services.gateway import api, connectors_native, native
from freehold.services.gateway.approvals import Approvals, FreshPins
from freehold.services.gateway.breaker import Breakers
from freehold.services.gateway.calls import ToolCalls
from freehold.services.gateway.catalog import Catalog
from freehold.services.gateway.catalogs import LoadedCatalogs
from freehold.services.gateway.checks import TargetChecks
from freehold.services.gateway.completions import Completions
from freehold.services.gateway.consent import consent_result
from freehold.services.gateway.finding import ToolFinder, text_of
from freehold.services.gateway.governing import Governance
from freehold.services.gateway.http_interception import InterceptedPassages
from freehold.services.gateway.inference import Provider, connectors
from freehold.services.gateway.interceptors import Interceptors
from freehold.services.gateway.lists import Lists
from freehold.services.gateway.mcp import McpGateways
from freehold.services.gateway.model import TAG_TOOL_NAMES
from freehold.services.gateway.naming import Naming, exposed
from freehold.services.gateway.outbound import OutboundCredentials
from freehold.services.gateway.passage import PassageService, Plan, Ways
from freehold.services.gateway.ports import Connectors, ConsentNeeded
from freehold.services.gateway.refreshing import Refreshing
from freehold.services.gateway.schedule import RefreshSchedule
from freehold.services.gateway.search import ToolSearch
from freehold.services.gateway.service import GatewayService
from freehold.services.gateway.sessions import GatewaySessions
from freehold.services.gateway.store import CHANNEL as GATEWAYS_CHANNEL
from freehold.services.gateway.store import GatewayStore
from freehold.services.gateway.sync import SYNC_ATTEMPTS_MAX, SYNC_JOB, TargetSync
from freehold.services.gateway.targets import TargetService
from freehold.services.identity.model import arn_of_runtime
from freehold.services.identity.service import WorkloadIdentities
from freehold.services.oauth.service import OauthService
from freehold.services.oauth.store import CHANNEL as GRANTS_CHANNEL
from freehold.services.vault.credentials import CredentialService
from freehold.settings import Settings

CALLS_POOL: Mapping[str, Any] = {
    "connections_max": 1000, "per_host_max": 256, "kept_seconds": 60.0,
}  # fmt: skip
"""Of the connections to targets, and of those that stay open to hear of their changes."""
LISTENING_POOL: Mapping[str, Any] = {"connections_max": 2000, "per_host_max": 1000}
_SYNCS_AT_ONCE = 4
_SPOOL_BYTES_MAX = 1 << 30


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """`catalogs` is `services.access.ports.Authorizers` for gateways too."""

    service: GatewayService
    targets: TargetService
    store: GatewayStore
    approvals: Approvals
    catalogs: LoadedCatalogs
    mcp: McpGateways
    passages: InterceptedPassages
    sessions: GatewaySessions
    search: ToolSearch
    embeddings: LocalEmbeddings | EndpointEmbeddings | NoEmbeddings
    limiter: PostgresRateLimiter
    clients: McpTargets
    jobs: PostgresJobs
    sync: TargetSync
    refreshing: Refreshing
    resources: Resources
    connectors: Connectors


def make_gateway(
    settings: Settings,
    database: PostgresDatabase,
    resources: Resources,
    *,
    web: Web,
    listening: Web,
    functions: Functions,
    blobs: Blobs,
    identities: WorkloadIdentities,
    tokens: OauthService,
    api_keys: CredentialService,
    inside: Inside,
    stdio: Callable[[str, str], bool],
    jobs: PostgresJobs,
    policies: Policies,
    replays: Replays | None = None,
) -> Gateway:
    """Before `database.start`: it listens. `web` has the connections of calls, `listening` those
    that stay open to hear of changes; `inside` answers what is the platform's own, `replays` what
    forks of sessions call."""
    web, listening = TracedWeb(InnerWeb(web, inside)), InnerWeb(listening, inside)
    store = GatewayStore(database, resources)
    schedule = RefreshSchedule(database)
    hurried = _Hurried(schedule)
    mcp_targets = McpTargets(web, version=__version__, listening=listening, changed=hurried.changed)
    library, openapi = Library(), OpenApiTargets(web)
    clients: dict[str, TargetClient] = {
        "mcp.openApiSchema": openapi,
        "mcp.connector": ConnectorTargets(library, openapi),
        "mcp.smithyModel": SmithyTargets(web),
        "mcp.lambda": FunctionTargets(functions.router),
        "mcp.mcpServer": mcp_targets,
    }
    outbound = OutboundCredentials(
        tokens=tokens, api_keys=api_keys, roles=functions.roles,
        public_url=settings.public_url, region=settings.region, inner=inside.tickets,
    )  # fmt: skip
    embeddings = embedder(settings)
    search = ToolSearch(database, embeddings)
    sync = TargetSync(
        resources=resources, store=store, schedule=schedule, jobs=jobs, clients=clients,
        outbound=outbound, documents=_Documents(blobs), prepare=_Prepared(search),
    )  # fmt: skip
    jobs.register(SYNC_JOB, sync.work, concurrency=_SYNCS_AT_ONCE, attempts_max=SYNC_ATTEMPTS_MAX)
    refreshing = Refreshing(resources=resources, schedule=schedule, sync=sync)
    catalogs = LoadedCatalogs(store)
    database.listen(RESOURCES_CHANNEL, catalogs.heard_change)
    database.listen(GATEWAYS_CHANNEL, catalogs.heard_gateway)
    database.listen(RESOURCES_CHANNEL, refreshing.heard_resource)
    database.listen(GATEWAYS_CHANNEL, refreshing.heard_gateway)
    database.listen(GRANTS_CHANNEL, refreshing.heard_consent)
    assert settings.database_url is not None, "the supervisor says where the database is"
    limiter = PostgresRateLimiter(
        DedicatedConnection(settings.database_url, application_name="freehold limits")
    )
    policies.gateways.catalogs = catalogs
    governance, breakers = Governance(limiter, policies.enforcement), Breakers()
    interceptors = Interceptors(functions.router)
    calls = ToolCalls(
        clients=clients, outbound=outbound, governing=governance,
        interceptors=interceptors, breakers=breakers, consent=_consent,
    )  # fmt: skip
    lists = Lists(
        clients=clients, calls=calls, governing=governance,
        pins=FreshPins(resources=resources, store=store),
    )  # fmt: skip
    catalogs.forget = lists.forget
    mcp = McpGateways(
        catalogs=catalogs, clients=clients, calls=calls, lists=lists, search=ToolFinder(search),
        replays=replays,
    )  # fmt: skip
    providers = connectors(settings.region)
    prepared = _Connectors(providers, OfferedConnectors(library))
    ways = Ways(
        web=web, outbound=outbound, limiter=limiter, breakers=breakers,
        enforcement=policies.enforcement,
    )  # fmt: skip
    passages = PassageService(
        plans=_Plans(catalogs, providers), ways=ways,
        inference=Completions(ways=ways, reader=usage_reader, replays=replays),
        runtimes=InnerRuntimes(web, inside.own),
    )  # fmt: skip
    return Gateway(
        service=GatewayService(
            resources=resources, store=store, identities=_Identities(identities),
            policies=policies.attachments, public_url=settings.public_url,
        ),
        targets=TargetService(
            resources=resources, store=store, sync=sync,
            checks=TargetChecks(
                resources, prepared, public_url=settings.public_url, stdio=stdio
            ),
        ),
        store=store, approvals=Approvals(resources=resources, store=store), catalogs=catalogs,
        mcp=mcp,
        passages=InterceptedPassages(passages, catalogs=catalogs, interceptors=interceptors),
        sessions=GatewaySessions(database), search=search,
        embeddings=embeddings, limiter=limiter, clients=mcp_targets, jobs=jobs, sync=sync,
        refreshing=refreshing, resources=resources, connectors=prepared,
    )  # fmt: skip


async def open_gateway(gateway: Gateway, stack: AsyncExitStack) -> None:
    """After the database."""
    await gateway.limiter.start()
    stack.push_async_callback(gateway.limiter.close)
    stack.push_async_callback(gateway.embeddings.close)
    stack.push_async_callback(gateway.search.close)
    stack.push_async_callback(gateway.clients.close)
    await gateway.jobs.start()
    stack.push_async_callback(gateway.jobs.close)
    await gateway.service.take_up()
    await gateway.sync.take_up()
    sweep = Sweep("vectors of tools", gateway.search.sweep, every_seconds=DAY_SECONDS)
    await sweep.start()
    stack.push_async_callback(sweep.close)
    await gateway.refreshing.open()
    stack.push_async_callback(gateway.refreshing.close)


def gateway_edges(
    settings: Settings,
    gateway: Gateway,
    *,
    pipeline: Pipeline,
    keys: AccessKeys,
    bearer: BearerTokens,
    otherwise: ASGIApp,
) -> tuple[McpEdge, dict[bytes, ASGIApp]]:
    """The MCP edge, to be stopped before the server drains; and edges by first path segment.
    `otherwise` gets what else is below /.well-known."""
    services = frozenset({SIGNING_NAME})
    signed = SignatureAuthenticator(
        Verifier(keys, SignatureRules(region=settings.region, services=services)),
        SpoolSpace(str(settings.state / "spool"), bytes_max=_SPOOL_BYTES_MAX),
        body_bytes_max=settings.payload_bytes_max,
    )
    doors = GatewayDoors(
        gateway.mcp, bearer=bearer, signed=signed, names=Names(settings.public_url),
        public_url=settings.public_url,
    )  # fmt: skip
    passages = PassageEdge(
        doors, gateway.passages, pipeline=pipeline, otherwise=otherwise,
        public_url=settings.public_url, body_bytes_max=settings.payload_bytes_max,
    )  # fmt: skip
    mcp = McpEdge(
        gateway.mcp, gateway.sessions, pipeline=pipeline, keys=keys, bearer=bearer,
        region=settings.region, public_url=settings.public_url,
        spool_directory=str(settings.state / "spool"), otherwise=passages,
        metadata_otherwise=otherwise, handover=gateway.sessions,
    )  # fmt: skip
    counted = CountsHops(mcp)
    return mcp, {b"/gateway": counted, b"/mcp": counted, b"/.well-known": mcp.metadata}


def gateway_handlers(gateway: Gateway) -> dict[str, Handler]:
    return api.handlers(gateway.service, gateway.targets, gateway.resources, gateway.store)


def gateway_operations(gateway: Gateway, settings: Settings) -> list[Operation]:
    return [
        *native.operations(gateway.store, gateway.approvals, public_url=settings.public_url),
        *connectors_native.operations(gateway.connectors),
    ]


def _consent(client: Client, needed: ConsentNeeded, target: str) -> Json:
    return consent_result(client.era, client.capabilities, target, needed)


class _Hurried:
    """A target that says its lists are others is asked again, soon and by whichever worker."""

    def __init__(self, schedule: RefreshSchedule) -> None:
        self._schedule = schedule
        self._tasks: set[asyncio.Task[None]] = set()

    def changed(self, place: Place, method: str) -> None:
        task = asyncio.create_task(self._soon(place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _soon(self, place: Place) -> None:
        with contextlib.suppress(FreeholdError):  # the schedule has it in time
            await self._schedule.soon(place.tenant, place.gateway_id, place.target_id)


class _Prepared:
    """New tools are embedded before their target is READY: then its search finds them."""

    def __init__(self, search: ToolSearch) -> None:
        self._search = search

    async def __call__(
        self, gateway: Resource, target: Resource, definitions: Sequence[Definition]
    ) -> None:
        naming = gateway.tags.get(TAG_TOOL_NAMES, "prefixed")
        texts = [
            text_of(exposed(target.name, each.name, cast(Naming, naming)), each)
            for each in definitions
            if each.kind == "tool"
        ]
        await self._search.prepare(gateway.tenant, texts)


class _Documents:
    """`services.gateway.ports.Documents`: the tenant's own objects."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def read(self, tenant: str, uri: str, *, bytes_max: int) -> bytes:
        parts = urlsplit(uri)
        bucket, key = parts.netloc, parts.path.removeprefix("/")
        if parts.scheme != "s3" or not bucket or not key:
            raise ValidationFailed(f"{uri} is not s3://bucket/key")
        try:
            blob, chunks = await self._blobs.get(tenant, bucket, key)
        except NotFound:
            raise ValidationFailed(f"{uri} is not there") from None
        if blob.size_bytes > bytes_max:
            raise ValidationFailed(f"{uri} is larger than {bytes_max} bytes")
        return b"".join([chunk async for chunk in chunks])


class _Identities:
    """`services.gateway.ports.GatewayIdentities`."""

    def __init__(self, identities: WorkloadIdentities) -> None:
        self._identities = identities

    def arn(self, gateway_arn: str) -> str:
        return arn_of_runtime(gateway_arn)

    async def ensure(self, tenant: str, gateway_id: str) -> None:
        await self._identities.ensure_of_gateway(tenant, gateway_id)

    async def forget(self, tenant: str, gateway_id: str) -> None:
        await self._identities.forget(tenant, gateway_id)


class _Connectors:
    """`services.gateway.ports.Connectors`."""

    def __init__(self, inference: Mapping[str, Provider], offered: OfferedConnectors) -> None:
        self._inference, self._offered = inference, offered

    def ids(self, family: Literal["mcp", "http", "inference"]) -> Sequence[str]:
        if family == "mcp":
            return self._offered.ids()
        return tuple(self._inference) if family == "inference" else ()

    async def settled(self, configuration: Json, credentials: list[Json]) -> list[Json]:
        return await self._offered.settled(configuration, credentials)

    async def all(self) -> Sequence[Connector]:
        return await self._offered.all()


class _Plans:
    """`services.gateway.passage.Plans`, of the catalogs that MCP is answered from."""

    def __init__(self, catalogs: LoadedCatalogs, connectors: Mapping[str, Provider]) -> None:
        self._catalogs, self._connectors = catalogs, connectors
        self._plans: weakref.WeakKeyDictionary[Catalog, Plan] = weakref.WeakKeyDictionary()

    async def plan(self, door: Door) -> Plan:
        catalog = await self._catalogs.get(door.gateway_id)
        if catalog is None:
            raise NotFound("There is no such gateway.")
        plan = self._plans.get(catalog)
        if plan is None:
            targets = list(catalog.targets.values())
            plan = Plan(
                targets,
                rules=catalog.rules,
                limits=catalog.limits,
                connectors=self._connectors,
                governed=catalog.governed,
            )
            self._plans[catalog] = plan
        return plan
