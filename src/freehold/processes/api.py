"""The API worker: all edges over the same services. Stateless."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold import __version__
from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.adapters.blobs.s3 import S3Blobs
from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.models.environment import providers_from_environment
from freehold.adapters.oauth.client import HttpOauthClient
from freehold.adapters.oidc.verifier import OidcVerifier
from freehold.adapters.placement.local.acceptor import DoorwayAcceptor
from freehold.adapters.postgres.resources import PostgresResources
from freehold.adapters.web.inner import Inside
from freehold.edges.aws.app import AwsEdge
from freehold.edges.doorway.app import DoorwayEdge
from freehold.edges.native.app import NativeEdge
from freehold.edges.pipeline import Pipeline
from freehold.edges.s3.app import S3Edge
from freehold.edges.serving import HttpServer, Root
from freehold.kernel.operation import Operation
from freehold.kernel.request import Handler
from freehold.kernel.session import SESSION_STATE, DoorwaySession, doorway_session
from freehold.ports.authorizer import BearerTokens
from freehold.ports.database import Database
from freehold.ports.resources import Resources
from freehold.processes import access, certificates
from freehold.processes.audit import ProcessAudit
from freehold.processes.child import Surroundings
from freehold.processes.console import console_platform, make_console
from freehold.processes.forks import (
    Forks,
    fork_operations,
    make_forks,
    make_replays,
    open_forks,
)
from freehold.processes.functions import (
    Functions,
    function_operations,
    make_functions,
)
from freehold.processes.gateway import (
    CALLS_POOL,
    LISTENING_POOL,
    Gateway,
    gateway_edges,
    gateway_handlers,
    gateway_operations,
    make_gateway,
    open_gateway,
)
from freehold.processes.identity import (
    Identity,
    identity_handlers,
    identity_operations,
    make_grants,
    make_identity,
)
from freehold.processes.inner import make_inside
from freehold.processes.key_services import platform_keys
from freehold.processes.memory import (
    Memory,
    make_memory,
    memory_handlers,
    memory_operations,
    open_memory,
)
from freehold.processes.oauth import (
    Oauth,
    make_oauth,
    oauth_edge,
    oauth_handlers,
    oauth_operations,
)
from freehold.processes.observability import (
    Observability,
    make_observability,
    observability_edges,
    observability_operations,
    open_observability,
)
from freehold.processes.parts import (
    BUILDS,
)
from freehold.processes.parts import (
    blobs as make_blobs,
)
from freehold.processes.parts import (
    database as make_database,
)
from freehold.processes.people import People, make_people, people_operations
from freehold.processes.policy import (
    Policies,
    make_policies,
    open_policies,
    policy_handlers,
    policy_operations,
)
from freehold.processes.prices import prices
from freehold.processes.runtimes import Runtimes, make_runtimes, open_agents, open_sessions
from freehold.processes.stdio import make_stdio
from freehold.processes.streams import Streams
from freehold.processes.telemetry_out import make_signals
from freehold.processes.vault import (
    Vault,
    make_vault,
    open_vault,
    vault_handlers,
    vault_operations,
)
from freehold.processes.web import opened_web
from freehold.services.access.bearer import ResourceBearerTokens
from freehold.services.access.policies import ResourcePolicyService
from freehold.services.access.service import AccessKeyService
from freehold.services.audit import native as audit_native
from freehold.services.audit.service import AuditTrail
from freehold.services.gateway.model import GATEWAY, GATEWAY_OPTIONS, TARGET, TARGET_OPTIONS
from freehold.services.identity.grants import TokenGrants
from freehold.services.memory.model import MEMORY, MEMORY_OPTIONS
from freehold.services.policy.model import ENGINE, ENGINE_OPTIONS
from freehold.services.runtime import api as runtime_api
from freehold.services.runtime import native as runtime_native
from freehold.services.runtime import streams as runtime_streams
from freehold.services.runtime.invocations import InvocationService
from freehold.services.runtime.model import ENDPOINT, RUNTIME
from freehold.services.runtime.service import RuntimeService
from freehold.services.tags import api as tags_api
from freehold.settings import Settings


async def api_worker(around: Surroundings, listening: socket.socket, number: int) -> None:
    """Stateless: all edges, one worker. Ends at SIGTERM, after what is under way."""
    async with AsyncExitStack() as stack:
        doorway_path = around.run / f"doorway-{number}.sock"
        server, stop_streams = await _put_worker_together(around, doorway_path, number, stack)

        def stop() -> None:
            stop_streams()  # those that wait for news would hold the server up
            server.stop()

        around.on_stop(stop)
        serving = asyncio.create_task(server.serve(listening))
        around.say_ready()
        await serving


async def _put_worker_together(
    around: Surroundings, doorway_path: Path, number: int, stack: AsyncExitStack
) -> tuple[HttpServer, Callable[[], None]]:
    settings = around.settings
    database = make_database(settings, "api")
    own_keys = platform_keys(settings)
    sealer = own_keys.sealer
    who = access.make_access(database, sealer)
    keys = who.keys
    audit = ProcessAudit(settings, database, sealer, name="api")
    resources = PostgresResources(database, region=settings.region)
    web = await opened_web(settings, stack)
    verifier = OidcVerifier(web)
    stack.push_async_callback(verifier.close)
    identity = make_identity(settings, database, sealer, resources, who.authorizer)
    oauth_client = HttpOauthClient(web)
    vault = make_vault(
        settings, database, resources, own_keys,
        workloads=identity.tokens, audit=audit.writer, discovery=oauth_client, web=web,
    )  # fmt: skip
    oauth = make_oauth(
        settings, database, client=oauth_client, sealer=vault.tenants,
        providers=vault.credentials, identity=identity, verifier=verifier, audit=audit.writer,
        resources=resources,
    )  # fmt: skip
    runtimes = make_runtimes(
        settings, database, sealer, resources,
        identities=identity.sessions, run=around.run, doorway=doorway_path,
    )  # fmt: skip
    signals = make_signals(around.run, f"api-{number}")
    observability = make_observability(
        settings, database, resources, content=runtimes.service, signals=signals
    )
    pipeline = Pipeline(
        authorizer=who.authorizer, calls_in_flight_max=settings.calls_in_flight_max,
        audit=audit.writer, recorder=observability.recorder, board=runtimes.board,
        content=runtimes.service, signals=signals,
    )  # fmt: skip
    blobs = make_blobs(settings)
    people = make_people(
        settings, database, sealer, keys=keys, web=web, tokens=verifier, audit=audit.writer
    )
    inside = make_inside(settings)
    functions = make_functions(
        settings, database, resources, blobs=blobs, sealer=sealer, runtimes=runtimes, web=web
    )
    stdio = inside.stdio = make_stdio(settings, database, resources, blobs=blobs, runtimes=runtimes)
    jobs = PostgresJobs(database, executor=f"gateway-{os.getpid()}")
    replays = make_replays(database)
    rules = make_policies(
        settings, database, resources, sealer=sealer, jobs=jobs, authorizer=who.authorizer,
        audit=audit.writer, environment=os.environ, recorder=observability.recorder,
    )  # fmt: skip
    gateway = make_gateway(
        settings, database, resources, jobs=jobs, policies=rules,
        web=await opened_web(settings, stack, **CALLS_POOL),
        listening=await opened_web(settings, stack, **LISTENING_POOL),
        functions=functions, blobs=blobs, identities=identity.identities, tokens=oauth.service,
        api_keys=vault.credentials, inside=inside, stdio=stdio.has, replays=replays,
    )  # fmt: skip
    memory = make_memory(
        settings, database, resources, jobs=jobs, models=rules.models,
        embeddings=gateway.embeddings, blobs=blobs, functions=functions.router, web=web,
        sealer=sealer, audit=audit.writer, recorder=observability.recorder,
    )  # fmt: skip
    forks = make_forks(
        settings, database, resources,
        spans=observability.queries.store, people=people, authorizer=who.authorizer, inside=inside,
    )  # fmt: skip
    services = Services(
        keys=keys,
        audit=audit.trail,
        people=people,
        policies=who.policies,
        resources=resources,
        runtimes=runtimes.service,
        invocations=runtimes.invocations,
        streams=runtimes.streams,
        identity=identity,
        grants=make_grants(
            settings, database, resources, identity, authorizers=runtimes.service, verifier=verifier
        ),
        vault=vault,
        oauth=oauth,
        blobs=blobs,
        functions=functions,
        gateway=gateway,
        rules=rules,
        memory=memory,
        observability=observability,
        forks=forks,
        bearer=ResourceBearerTokens(
            verifier,
            {"runtime": runtimes.service, "gateway": gateway.catalogs},
            tenants=people.tenants,
        ),
    )
    edges, stop_streams = _edges(
        settings, pipeline, services, inside, database=database, run=around.run
    )
    root = inside.app = Root(edges, otherwise=edges[b""])
    doorway = DoorwayEdge(
        platform=root,
        pipeline=pipeline,
        providers=providers_from_environment(os.environ),
        telemetry=observability.sessions,
        replays=replays,
    )
    server = _server(settings, root, doorway, stack)

    async def serve_doorway(session: DoorwaySession, connection: socket.socket) -> None:
        await server.serve_connection(connection, {SESSION_STATE: session})

    acceptor = DoorwayAcceptor(doorway_path, serve_doorway)
    await database.start()
    stack.push_async_callback(database.close)
    await stack.enter_async_context(audit)
    await open_observability(observability, stack)
    await _open(services, runtimes, stack)
    stack.push_async_callback(doorway.close)
    await acceptor.open()
    stack.push_async_callback(acceptor.close)
    await open_sessions(runtimes, stack)
    stack.push_async_callback(inside.close)
    await open_forks(services.forks, stack)
    return server, stop_streams


def _server(
    settings: Settings, root: ASGIApp, doorway: ASGIApp, stack: AsyncExitStack
) -> HttpServer:
    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        app = root if doorway_session(scope) is None else doorway
        await app(scope, receive, send)

    tls = certificates.context_of(settings)
    server = HttpServer(dispatch, drain_seconds_max=settings.drain_seconds_max, tls=tls)
    if tls is not None:
        renewing = asyncio.create_task(certificates.keep_valid(tls, settings))
        stack.callback(renewing.cancel)
    return server


async def _open(services: "Services", runtimes: Runtimes, stack: AsyncExitStack) -> None:
    """All that needs the database, and nothing that serves yet."""
    await open_vault(services.vault, stack)
    stack.push_async_callback(services.oauth.grants.close)
    await services.identity.keys.open()
    stack.push_async_callback(services.identity.keys.close)
    stack.push_async_callback(services.keys.close)
    await services.blobs.start()
    stack.push_async_callback(services.blobs.close)
    stack.push_async_callback(services.functions.router.close)
    await open_policies(services.rules, stack)
    await open_gateway(services.gateway, stack)
    await open_memory(services.memory, stack)
    await open_agents(runtimes, stack)


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What the edges serve, put together once a worker."""

    keys: AccessKeyService
    audit: AuditTrail
    people: People
    policies: ResourcePolicyService
    resources: Resources
    runtimes: RuntimeService
    invocations: InvocationService
    streams: Streams
    identity: Identity
    grants: TokenGrants
    vault: Vault
    oauth: Oauth
    blobs: FilesystemBlobs | S3Blobs
    functions: Functions
    gateway: Gateway
    rules: Policies
    memory: Memory
    observability: Observability
    forks: Forks
    bearer: BearerTokens


def _edges(
    settings: Settings,
    pipeline: Pipeline,
    services: Services,
    inside: Inside,
    *,
    database: Database,
    run: Path,
) -> tuple[dict[bytes, ASGIApp], Callable[[], None]]:
    """By first path segment; b"" takes everything else. And what ends the streams that would stand
    for ever."""
    keys, region = services.people.keys, settings.region
    native = NativeEdge(
        own_operations(settings, services),
        pipeline=pipeline,
        keys=keys,
        region=region,
        version=__version__,
    )
    s3 = S3Edge(
        services.blobs,
        pipeline=pipeline,
        keys=keys,
        region=region,
        object_bytes_max=settings.object_bytes_max,
    )
    aws = AwsEdge(
        aws_handlers(settings, services),
        pipeline=pipeline,
        keys=keys,
        region=region,
        spool_directory=str(settings.state / "spool"),
        payload_bytes_max=settings.payload_bytes_max,
        sockets=runtime_streams.socket_handlers(
            services.streams.websockets, services.streams.shells
        ),
        bearer=services.bearer,
    )
    browsers = oauth_edge(settings, services.oauth, otherwise=aws)
    console = make_console(
        pipeline=pipeline,
        sign_in=services.people.sign_in,
        devices=services.people.devices,
        consents=services.oauth.consents,
        platform=console_platform(inside),
        public_url=settings.public_url,
        region=region,
    )
    mcp, gateways = gateway_edges(
        settings, services.gateway,
        pipeline=pipeline, keys=keys, bearer=services.bearer, otherwise=aws,
    )  # fmt: skip
    otlp = observability_edges(
        settings, services.observability, pipeline=pipeline, keys=keys,
        database=database, run=run, otherwise=aws,
    )  # fmt: skip
    edges: dict[bytes, ASGIApp] = {
        b"/freehold": native, b"/_s3": s3, b"/identities": browsers, **gateways, **console,
        **otlp, b"": aws,
    }  # fmt: skip

    def stop_streams() -> None:
        mcp.stop()
        native.stop()

    return edges, stop_streams


def own_operations(settings: Settings, services: Services) -> list[Operation]:
    """Everything under /freehold/v1; docs/own-api.md is made from this."""
    return [
        _health(settings),
        *runtime_native.operations(
            services.runtimes,
            services.invocations,
            prices=prices(settings),
            build_logs=_build_logs(settings),
        ),
        *access.operations(services.keys),
        *audit_native.operations(services.audit, operator=settings.account),
        *people_operations(services.people, services.keys, settings.region),
        *identity_operations(services.identity),
        *vault_operations(services.vault),
        *oauth_operations(services.oauth),
        *function_operations(services.functions),
        *gateway_operations(services.gateway, settings),
        *policy_operations(services.rules),
        *memory_operations(services.memory),
        *observability_operations(services.observability),
        *fork_operations(services.forks),
    ]


def aws_handlers(settings: Settings, services: Services) -> dict[str, Handler]:
    """Every AWS operation that Freehold serves; docs/operations.md is made from this."""
    # Looked up when used: the page of operations is made without services.
    rules = {
        RUNTIME.name: lambda tags: services.runtimes.options.check(tags),  # noqa: PLW0108
        ENDPOINT.name: lambda tags: services.runtimes.endpoint_options.check(tags),  # noqa: PLW0108
        GATEWAY.name: GATEWAY_OPTIONS.check,
        TARGET.name: TARGET_OPTIONS.check,
        ENGINE.name: ENGINE_OPTIONS.check,
        MEMORY.name: MEMORY_OPTIONS.check,
    }

    def tagged(tenant: str) -> None:
        services.runtimes.heard_change(f"{tenant}/{RUNTIME.name}")
        services.memory.memories.drop_tenant(tenant)

    return {
        **runtime_api.handlers(services.runtimes, services.invocations),
        **runtime_streams.handlers(services.streams.commands),
        **identity_handlers(services.identity, services.grants),
        **vault_handlers(services.vault, settings),
        **oauth_handlers(services.oauth),
        **gateway_handlers(services.gateway),
        **policy_handlers(services.rules),
        **memory_handlers(services.memory),
        **access.handlers(services.policies),
        **tags_api.handlers(
            services.resources,
            rules,
            changed=tagged,
            guards={
                ENGINE.name: lambda *given: services.rules.loosening.guard_tags(*given)  # noqa: PLW0108
            },
        ),
    }


class Health(msgspec.Struct, frozen=True):
    """Says that the platform answers, and what it is."""

    status: str
    version: str
    region: str
    account: str
    tier: str


def _health(settings: Settings) -> Operation:
    health = Health("ok", __version__, settings.region, settings.account, settings.sandbox_tier)

    async def act(*_: object) -> Health:
        return health

    return Operation(
        name="GetHealth", method="GET", path="/health", act=act, open=True,
        summary="Whether the platform answers, and what it is", answer=Health,
    )  # fmt: skip


def _build_logs(settings: Settings) -> Callable[[str], Awaitable[list[str]]]:
    async def read(build_id: str) -> list[str]:
        path = settings.state / BUILDS / "builds" / f"{build_id}.log"
        try:
            return (await asyncio.to_thread(path.read_text, errors="replace")).splitlines()
        except FileNotFoundError:
            return []

    return read
