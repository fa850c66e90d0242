"""Parts that more than one process has."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.adapters.blobs.s3 import S3Blobs
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.sandbox.container.driver import ContainerDriver
from freehold.adapters.sandbox.gvisor.driver import GvisorDriver
from freehold.adapters.sandbox.process.driver import ProcessDriver
from freehold.adapters.sandbox.vm.driver import VmDriver
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.ports.egress import Reach
from freehold.ports.interpreters import Interpreter
from freehold.ports.sandbox import Limits, SandboxDriver
from freehold.processes.key_services import platform_keys
from freehold.services.runtime.bounds import SessionBounds
from freehold.settings import Settings, allowed_tiers

BUILDS = "builds"


def sandbox_drivers(
    settings: Settings,
    interpreters: dict[str, Interpreter],
    provide: Callable[[str], None] | None = None,
) -> dict[str, SandboxDriver]:
    """Those that the settings permit, by name; whether they work here, their probes say. Nothing
    runs before one of them is used."""
    directory = settings.state / "sandboxes"
    common: dict[str, Any] = {
        "interpreters": interpreters, "provide": provide, "cgroup": _cgroup(settings.state),
    }  # fmt: skip
    make: dict[str, Callable[[], SandboxDriver]] = {
        "container": lambda: ContainerDriver(
            directory=directory / "container", uid_base=settings.sandbox_uid_base, **common
        ),
        "gvisor": lambda: GvisorDriver(directory=directory / "gvisor", **common),
        "vm": lambda: VmDriver(
            directory=directory / "vm", emulation=settings.vm_emulation, **common
        ),
        "process": lambda: ProcessDriver(directory=directory / "process"),
    }
    return {tier: make[tier]() for tier in allowed_tiers(settings)}


def _cgroup(state: Path) -> str:
    """One for each platform of this machine, so that none ends another's sandboxes."""
    return "freehold-" + hashlib.sha256(os.fsencode(state)).hexdigest()[:12]


def sealer(settings: Settings) -> EnvelopeSealer:
    return platform_keys(settings).sealer


def blobs(settings: Settings) -> FilesystemBlobs | S3Blobs:
    if settings.s3_endpoint is not None and settings.s3_bucket is not None:
        return S3Blobs(
            endpoint=settings.s3_endpoint,
            bucket=settings.s3_bucket,
            region=settings.region,
            spool_directory=settings.state / "spool",
        )
    return FilesystemBlobs(settings.state / "blobs")


def database(settings: Settings, name: str) -> PostgresDatabase:
    assert settings.database_url is not None, "the supervisor says where the database is"
    return PostgresDatabase(
        settings.database_url,
        pool_size_max=settings.database_connections_max,
        application_name=f"freehold {name}",
    )


def session_bounds(settings: Settings) -> SessionBounds:
    most = Limits(
        memory_bytes_max=settings.session_memory_mib_max << 20,
        cpus_max=settings.session_cpus_max,
        processes_max=settings.session_processes_max,
        open_files_max=settings.session_open_files_max,
        scratch_bytes_max=settings.session_scratch_mib_max << 20,
    )
    usual = Limits(
        memory_bytes_max=(settings.session_memory_mib << 20) or most.memory_bytes_max,
        cpus_max=settings.session_cpus or most.cpus_max,
        processes_max=settings.session_processes or most.processes_max,
        open_files_max=settings.session_open_files or most.open_files_max,
        scratch_bytes_max=(settings.session_scratch_mib << 20) or most.scratch_bytes_max,
    )
    return SessionBounds(
        usual=usual,
        most=most,
        reach=cast(Reach, settings.session_egress),
        reach_max=cast(Reach, settings.session_egress_max),
    )
