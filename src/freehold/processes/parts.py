"""Parts that more than one process has."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.adapters.blobs.s3 import S3Blobs
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.sandbox.container.driver import ContainerDriver
from freehold.adapters.sandbox.process.driver import ProcessDriver
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.ports.interpreters import Interpreter
from freehold.ports.sandbox import Limits, SandboxDriver
from freehold.settings import Settings

BUILDS = "builds"


def sandbox_drivers(
    settings: Settings,
    interpreters: dict[str, Interpreter],
    provide: Callable[[str], None] | None = None,
) -> dict[str, SandboxDriver]:
    """Those that the settings permit; whether they work here, their probes say."""
    directory = settings.state / "sandboxes"
    drivers: dict[str, SandboxDriver] = {
        "container": ContainerDriver(
            directory=directory / "container",
            interpreters=interpreters,
            provide=provide,
            cgroup=_cgroup(settings.state),
            uid_base=settings.sandbox_uid_base,
        )
    }
    if settings.allow_process_tier:
        drivers["process"] = ProcessDriver(directory=directory / "process")
    return drivers


def _cgroup(state: Path) -> str:
    """One for each platform of this machine, so that none ends another's sandboxes."""
    return "freehold-" + hashlib.sha256(os.fsencode(state)).hexdigest()[:12]


def sealer(settings: Settings) -> EnvelopeSealer:
    given = settings.key_encryption_key
    if given is not None:
        return EnvelopeSealer(Keyring.parse(given, source="FREEHOLD_KEY_ENCRYPTION_KEY"))
    return EnvelopeSealer(Keyring.from_file(settings.state / "keys" / "kek"))


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


def session_limits(settings: Settings) -> Limits:
    return Limits(
        memory_bytes_max=settings.session_memory_mib_max << 20,
        cpus_max=settings.session_cpus_max,
        processes_max=settings.session_processes_max,
        open_files_max=settings.session_open_files_max,
        scratch_bytes_max=settings.session_scratch_mib_max << 20,
    )
