"""What this machine offers to the platform, found by trying: for `freehold doctor`.

Nothing of it stays, and it may run beside a platform. Every finding says in one line how to get
what is missing.
"""

import asyncio
import os
import platform as python_platform
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from freehold import state as state_files
from freehold.adapters.postgres import binaries
from freehold.adapters.sandbox import hierarchies, kvm
from freehold.adapters.sandbox.container.driver import ContainerDriver
from freehold.adapters.sandbox.gvisor.driver import GvisorDriver
from freehold.adapters.sandbox.interpreters import NODES, PYTHONS, InstalledInterpreters
from freehold.adapters.sandbox.process.driver import ProcessDriver
from freehold.adapters.sandbox.vm.driver import VmDriver
from freehold.kernel.errors import PlatformFailed
from freehold.ports.sandbox import Probe, SandboxDriver
from freehold.processes.embeddings import weights
from freehold.settings import Settings, allowed_tiers, variable

PYTHON_MIN = (3, 11)
FREE_BYTES_GOOD = 2 << 30


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`status`: "ok"; "limited" (works, with less); "missing". `advice`: how to get the rest."""

    name: str
    status: str
    detail: str
    advice: str = ""


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    findings: list[Finding]
    sessions: bool
    """Whether anything here can run an agent's session."""


async def examine(settings: Settings) -> Examination:
    tiers = await _tiers(settings)
    findings = [
        _python(),
        _user(),
        _state(settings),
        _disk(settings),
        *tiers,
        _cgroups(),
        await asyncio.to_thread(_postgres, settings),
        await asyncio.to_thread(_interpreters),
        await asyncio.to_thread(_embeddings, settings),
    ]
    usable = any(tier.status != "missing" for tier in tiers)
    return Examination(findings=findings, sessions=usable)


def _python() -> Finding:
    version = python_platform.python_version()
    if sys.version_info < PYTHON_MIN:
        return Finding(
            name="python", status="missing", detail=version,
            advice="Freehold itself needs Python 3.11 or newer",
        )  # fmt: skip
    return Finding(name="python", status="ok", detail=f"{version} ({sys.executable})")


def _embeddings(settings: Settings) -> Finding:
    name = "search by meaning"
    if settings.embeddings == "off":
        return Finding(
            name=name, status="limited", detail="off: tools are found by their words alone",
            advice=f"{variable('embeddings')}=local",
        )  # fmt: skip
    if settings.embeddings != "local":
        detail = f"{settings.embeddings_model} at {settings.embeddings}"
        return Finding(name=name, status="ok", detail=detail)
    status = weights(settings.state).status()
    if status.state != "ready":
        return Finding(
            name=name, status="limited", detail="no model: tools are found by their words alone",
            advice="freehold embeddings fetch",
        )  # fmt: skip
    return Finding(name=name, status="ok", detail=f"{status.model}, on this machine")


def _user() -> Finding:
    if os.geteuid() == 0:
        return Finding(
            name="user", status="ok",
            detail="root: each sandbox runs as a host user of its own, Postgres as `freehold`",
        )  # fmt: skip
    return Finding(
        name="user", status="limited",
        detail=f"user id {os.geteuid()}: sandboxes run as this user, apart by namespaces alone",
        advice="as root each sandbox gets a host user of its own",
    )  # fmt: skip


def _state(settings: Settings) -> Finding:
    state = settings.state
    holder = state_files.holder(state)
    if holder is not None:
        return Finding(
            name="state", status="ok", detail=f"{state}: a platform runs on it (process {holder})"
        )
    existing = _nearest_existing(state)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(
            name="state", status="missing", detail=f"{existing} cannot be written",
            advice="choose another directory: freehold up --state DIR, or FREEHOLD_STATE",
        )  # fmt: skip
    closed = state_files.closed_to_others(existing) if os.geteuid() == 0 else None
    if closed is not None:
        return Finding(
            name="state", status="missing",
            detail=f"{closed} is closed to other users, and sandboxes run as such",
            advice="keep the state elsewhere, such as under /var/lib/freehold",
        )  # fmt: skip
    what = "is there" if state.exists() else "is made at the first start"
    return Finding(name="state", status="ok", detail=f"{state} {what}")


def _disk(settings: Settings) -> Finding:
    existing = _nearest_existing(settings.state)
    free = shutil.disk_usage(existing).free
    detail = f"{free / (1 << 30):.1f} GiB free under {existing}"
    if free < FREE_BYTES_GOOD:
        return Finding(
            name="disk", status="limited", detail=detail,
            advice="a database, builds and logs soon need 2 GiB",
        )  # fmt: skip
    return Finding(name="disk", status="ok", detail=detail)


def _nearest_existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


@asynccontextmanager
async def _scratch() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="freehold-doctor-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


async def _probed(tier: str, make: Callable[..., SandboxDriver], **options: Any) -> Probe:
    """In a folder, and under a control group, of its own."""
    async with _scratch() as scratch:
        if tier != "process":
            options["cgroup"] = f"freehold-doctor-{os.getpid()}-{tier}"
        driver = make(directory=scratch, **options)
        try:
            return await driver.probe()
        finally:
            await driver.close()


async def _tiers(settings: Settings) -> list[Finding]:
    """The weakest first, as docs/tiers.md has them; each is tried by running one."""
    drivers: dict[str, tuple[Callable[..., SandboxDriver], dict[str, Any]]] = {
        "container": (ContainerDriver, {}),
        "process": (ProcessDriver, {}),
        "gvisor": (GvisorDriver, {}),
        "vm": (VmDriver, {"emulation": settings.vm_emulation}),
    }
    probes = await asyncio.gather(
        *(_probed(tier, make, **options) for tier, (make, options) in drivers.items())
    )
    return [_tier(settings, *each) for each in zip(drivers, probes, strict=True)]


def _tier(settings: Settings, tier: str, probe: Probe) -> Finding:
    name = f"tier {tier}"
    if not probe.available:
        detail = "sessions cannot be isolated here" if tier == "container" else "not here"
        if tier == "vm":
            detail, advice = probe.detail, _vm_advice()
        else:
            advice = probe.detail
        return Finding(name=name, status="missing", detail=detail, advice=advice)
    if tier == "process":
        return Finding(
            name=name, status="limited", detail="works, and isolates nothing",
            advice="for development only: freehold up --tier process --allow-process-tier",
        )  # fmt: skip
    detail = f"one was run: {probe.detail}"
    if tier not in allowed_tiers(settings):
        return Finding(
            name=name, status="limited", detail=f"{detail}; sessions may not have it",
            advice=f"FREEHOLD_SANDBOX_TIER_MIN is {settings.sandbox_tier_min}",
        )  # fmt: skip
    return Finding(name=name, status="ok", detail=detail)


def _vm_advice() -> str:
    device = Path(kvm.DEVICE)
    if device.exists() and not os.access(device, os.R_OK | os.W_OK):
        return f"let this user open {device}: usermod -aG kvm USER"
    return "hardware virtualisation, or nested one, and what scripts/install-vm.sh puts in place"


def _cgroups() -> Finding:
    mounted = list(
        hierarchies.mounted(
            Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
        )
    )
    versions = sorted({f"v{hierarchy.version}" for hierarchy in mounted})
    cgroups = hierarchies.discover(f"freehold-doctor-{os.getpid()}")
    missing = cgroups.missing
    cgroups.close()
    had = " and ".join(versions) or "none"
    if not missing:
        detail = f"{had}: memory, processes and CPU of each session are limited and measured"
        return Finding(name="cgroups", status="ok", detail=detail)
    return Finding(
        name="cgroups", status="limited",
        detail=f"{had}: no control of {', '.join(missing)}; rlimits stand in, and what is not "
        "measured says so",
        advice="as root, or: systemd-run --user --scope -p Delegate=yes freehold up",
    )  # fmt: skip


def _postgres(settings: Settings) -> Finding:
    if settings.database_url is not None:
        return Finding(name="postgres", status="ok", detail="a server of yours (--database-url)")
    made_by = settings.state / "postgres" / "data" / "PG_VERSION"
    try:
        data_major = made_by.read_text().strip() if os.access(made_by, os.R_OK) else None
        found = binaries.choose(None, data_major)
    except PlatformFailed as error:
        return Finding(
            name="postgres", status="missing", detail=error.message.partition(":")[0],
            advice=error.message,
        )  # fmt: skip
    return Finding(name="postgres", status="ok", detail=f"embedded {found.version}")


def _interpreters() -> Finding:
    with tempfile.TemporaryDirectory(prefix="freehold-doctor-") as directory:
        found = InstalledInterpreters(Path(directory)).discover(copying=False)
    missing = [name for name in (*PYTHONS, *NODES) if name not in found]
    detail = ", ".join(f"{name} {found[name].version}" for name in found) or "none"
    if not found:
        return Finding(
            name="interpreters", status="missing", detail="agents have nothing to run on",
            advice="install a Python from 3.10 to 3.14",
        )  # fmt: skip
    if missing:
        return Finding(
            name="interpreters", status="limited", detail=detail,
            advice=f"not here: {', '.join(missing)} (uv python install 3.X, pyenv, or the "
            "system's packages)",
        )  # fmt: skip
    return Finding(name="interpreters", status="ok", detail=detail)
