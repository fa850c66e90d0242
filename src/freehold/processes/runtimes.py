"""Agent runtimes and their sessions, put together once a worker."""

import os
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from freehold.adapters.agents.http import HttpAgents
from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.placement.local.client import LocalPlacement
from freehold.adapters.placement.local.trace_board import FileTraceBoard
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.ports.database import Database
from freehold.ports.resources import Resources
from freehold.ports.secrets import Sealer
from freehold.processes.parts import session_bounds
from freehold.processes.streams import Streams, make_streams
from freehold.services.runtime.invocations import InvocationService
from freehold.services.runtime.ports import RuntimeIdentities
from freehold.services.runtime.service import RuntimeLimits, RuntimeService
from freehold.services.runtime.store import SessionStore
from freehold.services.runtime.warm import WarmEndpoints
from freehold.settings import Settings, allowed_tiers


class Runtimes(msgspec.Struct, frozen=True, kw_only=True):
    placement: LocalPlacement
    agents: HttpAgents
    service: RuntimeService
    invocations: InvocationService
    streams: Streams
    warm: WarmEndpoints
    board: FileTraceBoard


def make_runtimes(
    settings: Settings,
    database: Database,
    sealer: Sealer,
    resources: Resources,
    *,
    identities: RuntimeIdentities,
    run: Path,
    doorway: Path,
) -> Runtimes:
    placement = LocalPlacement(run, doorway=doorway)
    board = FileTraceBoard(run / "traces.board")
    agents = HttpAgents(
        placement.connect,
        begin_seconds_max=settings.invocation_seconds_max,
        stream_seconds_max=settings.stream_seconds_max,
    )
    service = RuntimeService(
        resources=resources,
        jobs=PostgresJobs(database, executor=f"api-{os.getpid()}"),
        placement=placement,
        sealer=sealer,
        limits=RuntimeLimits(
            idle_seconds=settings.session_idle_seconds,
            lifetime_seconds=settings.session_lifetime_seconds,
            memory_mib_max=settings.session_memory_mib_max,
            tiers=frozenset(allowed_tiers(settings)),
            bounds=session_bounds(settings),
        ),
        identities=identities,
    )
    invocations = InvocationService(
        runtimes=service,
        placement=placement,
        agents=agents,
        store=SessionStore(database),
        identities=identities,
        board=board,
    )
    warm = WarmEndpoints(
        resources=resources, runtimes=service, placement=placement, launch_of=invocations.launch
    )
    database.listen(RESOURCES_CHANNEL, service.heard_change)
    database.listen(RESOURCES_CHANNEL, warm.heard_change)
    return Runtimes(
        placement=placement,
        agents=agents,
        service=service,
        invocations=invocations,
        streams=make_streams(settings, service, invocations, placement),
        warm=warm,
        board=board,
    )


async def open_agents(runtimes: Runtimes, stack: AsyncExitStack) -> None:
    """Before the doorway is served."""
    stack.callback(runtimes.board.close)
    await runtimes.agents.open()
    stack.push_async_callback(runtimes.agents.close)


async def open_sessions(runtimes: Runtimes, stack: AsyncExitStack) -> None:
    """After the doorway is served: sessions that are kept warm use it at once."""
    await runtimes.placement.open()
    stack.push_async_callback(runtimes.placement.close)
    await runtimes.warm.open()
    stack.push_async_callback(runtimes.warm.close)
