"""The node: this machine's sandboxes and builds."""

import asyncio
import functools
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from freehold.adapters.egress.addresses import denied, forbidden, of_this_machine
from freehold.adapters.egress.proxy import ForwardProxy
from freehold.adapters.images import ImageLimits, ImageStore
from freehold.adapters.images.reach import Reach
from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.models.environment import providers_from_environment
from freehold.adapters.placement.local.egress import EgressGate
from freehold.adapters.placement.local.fleet import Fleet, FleetLimits
from freehold.adapters.placement.local.server import NodeServer
from freehold.adapters.placement.local.starter import SpecOf
from freehold.adapters.postgres.resources import PostgresResources
from freehold.adapters.sandbox.interpreters import InstalledInterpreters
from freehold.edges.doorway.environment import session_environment
from freehold.ports.blobs import Blobs
from freehold.ports.interpreters import Interpreter
from freehold.ports.placement import Launch
from freehold.ports.sandbox import Limits, SandboxDriver, SandboxSpec
from freehold.processes.child import Surroundings
from freehold.processes.parts import (
    BUILDS,
    sandbox_drivers,
)
from freehold.processes.parts import (
    blobs as make_blobs,
)
from freehold.processes.parts import (
    database as make_database,
)
from freehold.services.runtime.build import Builder, BuildLimits, ImageBuilder, operator_index
from freehold.services.runtime.builds import ArtifactBuilder
from freehold.services.runtime.launch import session_spec
from freehold.services.runtime.service import BUILD_JOB, RuntimeBuilds
from freehold.services.runtime.store import SessionStore
from freehold.settings import Settings
from freehold.state import node_name


async def node(around: Surroundings) -> None:
    """This machine's sandboxes. SIGTERM ends them; SIGKILL leaves them for the next node."""
    settings = around.settings
    name = node_name(settings.state)
    async with AsyncExitStack() as stack:
        stopped = asyncio.Event()
        around.on_stop(stopped.set)
        database = make_database(settings, "node")
        await database.start()
        stack.push_async_callback(database.close)
        blobs = make_blobs(settings)
        await blobs.start()
        stack.push_async_callback(blobs.close)
        installed = InstalledInterpreters(settings.state / "interpreters", also=_also(settings))
        interpreters = await asyncio.to_thread(installed.discover, copying=False)
        drivers = sandbox_drivers(settings, interpreters, installed.provide)
        server = NodeServer(around.run)
        fleet = Fleet(
            node=name,
            drivers=drivers,
            tier_default=settings.sandbox_tier,
            spec_of=_spec_of(settings, interpreters),
            journal=SessionStore(database),
            state=settings.state,
            limits=_fleet_limits(settings),
            take_doorway=server.take_doorway,
            egress=EgressGate(around.run),
        )
        builder = _builder(settings, blobs, drivers[settings.sandbox_tier], interpreters)
        jobs = PostgresJobs(database, executor=f"node-{name}")
        builds = RuntimeBuilds(
            resources=PostgresResources(database, region=settings.region), builder=builder
        )
        jobs.register(
            BUILD_JOB, builds.work, concurrency=settings.builds_at_once_max, attempts_max=10
        )
        await fleet.open()
        stack.push_async_callback(fleet.close)
        await server.open(fleet)
        stack.push_async_callback(server.close)
        await jobs.start()
        stack.push_async_callback(jobs.close)
        await builds.take_up(jobs)
        around.say_ready()
        await stopped.wait()


def _also(settings: Settings) -> tuple[Path, ...]:
    return (Path(settings.node_path),) if settings.node_path else ()


def _fleet_limits(settings: Settings) -> FleetLimits:
    return FleetLimits(
        starts_at_once=settings.starts_at_once,
        starts_queued_max=settings.starts_queued_max,
        sessions_max=settings.sessions_max,
        start_seconds_max=settings.session_start_seconds_max,
        log_bytes_max=settings.session_log_bytes_max,
        metering_seconds=settings.metering_seconds,
        log_days=settings.session_record_days,
        freeze_idle_seconds=settings.freeze_idle_seconds,
        template_idle_seconds=settings.template_idle_seconds,
        warm_bytes_max=settings.warm_memory_mib_max << 20,
    )


def _spec_of(settings: Settings, interpreters: Mapping[str, Interpreter]) -> SpecOf:
    doorway = session_environment(
        "${LOOPBACK_7400}",
        region=settings.region,
        providers=providers_from_environment(os.environ),
        telemetry=True,
    )

    def spec_of(launch: Launch, sandbox_id: str, directory: Path, output: Path) -> SandboxSpec:
        return session_spec(
            launch,
            sandbox_id=sandbox_id,
            directory=directory,
            output=output,
            build_root=settings.state / BUILDS,
            interpreters=interpreters,
            doorway_environment=doorway,
        )

    return spec_of


def _builder(
    settings: Settings, blobs: Blobs, driver: SandboxDriver, interpreters: Mapping[str, Interpreter]
) -> ArtifactBuilder:
    root = settings.state / BUILDS
    mib = 1 << 20
    limits = BuildLimits(
        seconds_max=settings.build_seconds_max,
        unpacked_bytes_max=settings.build_bundle_mib_max * mib,
        sandbox=Limits(
            memory_bytes_max=settings.build_memory_mib_max * mib, scratch_bytes_max=256 * mib
        ),
    )
    builder = Builder(
        root=root,
        blobs=blobs,
        driver=driver,
        egress=ForwardProxy(),
        interpreters=interpreters,
        limits=limits,
        index=functools.partial(operator_index, hosts_extra=_listed(settings.build_index_hosts)),
    )
    images = ImageBuilder(_images(settings, root / "images"), root=root)
    return ArtifactBuilder(builder, images, root=root, fallback=settings.interpreter_fallback)


def _images(settings: Settings, directory: Path) -> ImageStore:
    reach = Reach(
        denied=lambda address: denied(address) or of_this_machine(address),
        forbidden=forbidden,
        private=frozenset(_listed(settings.image_private_registries)),
        insecure=frozenset(_listed(settings.image_insecure_registries)),
    )
    return ImageStore(
        directory,
        reach=reach,
        layout_directories=tuple(map(Path, _listed(settings.image_layout_directories))),
        credentials_file=Path(settings.image_credentials) if settings.image_credentials else None,
        limits=ImageLimits(
            unpacked_bytes_max=settings.image_mib_max << 20,
            seconds_max=settings.build_seconds_max,
        ),
    )


def _listed(setting: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in setting.split(",") if part.strip())
