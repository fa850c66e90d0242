"""The API worker: all edges over the same services. Stateless."""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold import __version__
from freehold.adapters.agents.http import HttpAgents
from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.models.environment import providers_from_environment
from freehold.adapters.placement.local.acceptor import DoorwayAcceptor
from freehold.adapters.placement.local.client import LocalPlacement
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.adapters.postgres.resources import PostgresResources
from freehold.edges.aws.app import AwsEdge
from freehold.edges.doorway.app import DoorwayEdge
from freehold.edges.native.app import NativeEdge
from freehold.edges.pipeline import Pipeline
from freehold.edges.s3.app import S3Edge
from freehold.edges.serving import HttpServer, Root
from freehold.kernel.operation import Operation
from freehold.kernel.request import Handler
from freehold.kernel.session import SESSION_STATE, DoorwaySession, doorway_session
from freehold.ports.blobs import Blobs
from freehold.ports.models import ModelCall
from freehold.ports.resources import Resources
from freehold.processes.child import Surroundings
from freehold.processes.parts import (
    BUILDS,
    session_limits,
)
from freehold.processes.parts import (
    blobs as make_blobs,
)
from freehold.processes.parts import (
    database as make_database,
)
from freehold.processes.parts import (
    sealer as make_sealer,
)
from freehold.services.identity import native as identity_native
from freehold.services.identity.authorizer import TenantAuthorizer
from freehold.services.identity.service import AccessKeyService
from freehold.services.runtime import api as runtime_api
from freehold.services.runtime import native as runtime_native
from freehold.services.runtime.invocations import InvocationService
from freehold.services.runtime.model import RUNTIME, checked_tier
from freehold.services.runtime.service import RuntimeLimits, RuntimeService
from freehold.services.runtime.store import SessionStore
from freehold.services.tags import api as tags_api
from freehold.settings import Settings

log = logging.getLogger("freehold")


async def api_worker(around: Surroundings, listening: socket.socket, number: int) -> None:
    """Stateless: all edges, one worker. Ends at SIGTERM, after what is under way."""
    async with AsyncExitStack() as stack:
        doorway_path = around.run / f"doorway-{number}.sock"
        server = await _put_worker_together(around, doorway_path, stack)
        around.on_stop(server.stop)
        serving = asyncio.create_task(server.serve(listening))
        around.say_ready()
        await serving


async def _put_worker_together(
    around: Surroundings, doorway_path: Path, stack: AsyncExitStack
) -> HttpServer:
    settings = around.settings
    database = make_database(settings, "api")
    sealer = make_sealer(settings)
    keys = AccessKeyService(database, sealer)
    pipeline = Pipeline(
        authorizer=TenantAuthorizer(), calls_in_flight_max=settings.calls_in_flight_max
    )
    resources = PostgresResources(database, region=settings.region)
    placement = LocalPlacement(around.run, doorway=doorway_path)
    agents = HttpAgents(
        placement.connect,
        begin_seconds_max=settings.invocation_seconds_max,
        stream_seconds_max=settings.stream_seconds_max,
    )
    runtimes = RuntimeService(
        resources=resources,
        jobs=PostgresJobs(database, executor=f"api-{os.getpid()}"),
        placement=placement,
        sealer=sealer,
        limits=RuntimeLimits(
            idle_seconds=settings.session_idle_seconds,
            lifetime_seconds=settings.session_lifetime_seconds,
            memory_mib_max=settings.session_memory_mib_max,
            tiers=_allowed_tiers(settings),
        ),
    )
    database.listen(RESOURCES_CHANNEL, runtimes.heard_change)
    invocations = InvocationService(
        runtimes=runtimes,
        placement=placement,
        agents=agents,
        store=SessionStore(database),
        limits=session_limits(settings),
    )
    blobs = make_blobs(settings)
    services = Services(
        keys=keys, resources=resources, runtimes=runtimes, invocations=invocations, blobs=blobs
    )
    edges = _edges(settings, pipeline, services)
    root = Root(edges, otherwise=edges[b""])
    doorway = DoorwayEdge(
        platform=root,
        pipeline=pipeline,
        recorder=ModelCallsNotKept(),
        providers=providers_from_environment(os.environ),
    )

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        app = root if doorway_session(scope) is None else doorway
        await app(scope, receive, send)

    server = HttpServer(dispatch, drain_seconds_max=settings.drain_seconds_max)

    async def serve_doorway(session: DoorwaySession, connection: socket.socket) -> None:
        await server.serve_connection(connection, {SESSION_STATE: session})

    acceptor = DoorwayAcceptor(doorway_path, serve_doorway)
    await database.start()
    stack.push_async_callback(database.close)
    stack.push_async_callback(keys.close)
    await blobs.start()
    stack.push_async_callback(blobs.close)
    await agents.open()
    stack.push_async_callback(agents.close)
    stack.push_async_callback(doorway.close)
    await acceptor.open()
    stack.push_async_callback(acceptor.close)
    await placement.open()
    stack.push_async_callback(placement.close)
    return server


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What the edges serve, put together once a worker."""

    keys: AccessKeyService
    resources: Resources
    runtimes: RuntimeService
    invocations: InvocationService
    blobs: Blobs


def _edges(settings: Settings, pipeline: Pipeline, services: Services) -> dict[bytes, ASGIApp]:
    """By first path segment; b"" takes everything else."""
    keys, region = services.keys, settings.region
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
    )
    return {b"/freehold": native, b"/_s3": s3, b"": aws}


def own_operations(settings: Settings, services: Services) -> list[Operation]:
    """Everything under /freehold/v1; docs/own-api.md is made from this."""
    prices = runtime_native.Prices(
        vcpu_hour=settings.price_vcpu_hour, gb_hour=settings.price_gb_hour
    )
    return [
        _health(settings),
        *runtime_native.operations(
            services.runtimes,
            services.invocations,
            prices=prices,
            build_logs=_build_logs(settings),
        ),
        *identity_native.operations(services.keys),
    ]


def aws_handlers(settings: Settings, services: Services) -> dict[str, Handler]:
    """Every AWS operation that Freehold serves; docs/operations.md is made from this."""
    tiers = _allowed_tiers(settings)
    rules = {RUNTIME.name: lambda tags: checked_tier(tags, allowed=tiers)}
    return {
        **runtime_api.handlers(services.runtimes, services.invocations),
        **tags_api.handlers(services.resources, rules),
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


def _allowed_tiers(settings: Settings) -> frozenset[str]:
    return frozenset({"container"} | ({"process"} if settings.allow_process_tier else set()))


class ModelCallsNotKept:
    """Until the observability service stands: usage is seen, and let go."""

    async def record(self, calls: Sequence[ModelCall]) -> None:
        log.debug("%d model calls", len(calls))
