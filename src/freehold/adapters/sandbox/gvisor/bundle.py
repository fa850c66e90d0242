"""What runsc is told about a sandbox: an OCI run-time configuration."""

from collections.abc import Iterable
from typing import Any

import msgspec

from freehold.adapters.sandbox import image_root
from freehold.adapters.sandbox.container.bubblewrap import HOME
from freehold.adapters.sandbox.gvisor import refusals, runsc
from freehold.ports.sandbox import Limits, Mount, SandboxSpec


def configuration(
    spec: SandboxSpec,
    *,
    environment: dict[str, str],
    mounts: Iterable[Mount],
    uid: int,
    limit_memory: bool,
) -> bytes:
    """`uid` is the one inside. `limit_memory`: for lack of a control group, per process."""
    return msgspec.json.encode(
        {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": uid},
                "args": spec.command,
                "env": [f"{name}={value}" for name, value in environment.items()],
                "cwd": spec.workdir,
                "capabilities": {},
                "noNewPrivileges": True,
                "rlimits": list(_limits(spec.limits, limit_memory)),
            },
            "root": {"path": runsc.ROOT, "readonly": spec.root is None},
            "hostname": "sandbox",
            "mounts": [
                *_own(spec.limits, uid),
                *([_RUN] if spec.root is not None else ()),
                *_mounts(mounts),
            ],
            # The user and network namespaces are those around runsc.
            "linux": {
                "namespaces": [{"type": each} for each in ("pid", "mount", "ipc", "uts")],
                "seccomp": refusals.rules(),
            },
        }
    )


def _limits(limits: Limits, limit_memory: bool) -> Iterable[dict[str, Any]]:
    """Kept by gVisor's kernel: the processes that a control group counts are not those inside."""
    wanted = {"NOFILE": limits.open_files_max, "NPROC": limits.processes_max, "CORE": 0}
    if limit_memory:
        # Its kernel counts no data segment. Address space is more than what is used of it.
        wanted["AS"] = limits.memory_bytes_max
    for name, value in wanted.items():
        yield {"type": f"RLIMIT_{name}", "soft": value, "hard": value}


def _own(limits: Limits, uid: int) -> Iterable[dict[str, Any]]:
    yield _mount("/proc", "proc", "nosuid", "nodev", "noexec")
    yield _mount("/dev", "tmpfs", "nosuid")
    # In place of gVisor's own: the container tier has none either.
    yield _mount("/sys", "tmpfs", "ro", "nosuid", "nodev", "noexec", "mode=0555")
    scratch = ("nosuid", "nodev", f"size={limits.scratch_bytes_max}")
    yield _mount("/tmp", "tmpfs", *scratch, "mode=1777")  # noqa: S108
    yield _mount("/dev/shm", "tmpfs", *scratch, "mode=1777")  # noqa: S108
    yield _mount(HOME, "tmpfs", *scratch, "mode=0700", f"uid={uid}", f"gid={uid}")


def _mounts(mounts: Iterable[Mount]) -> Iterable[dict[str, Any]]:
    """Of their own, so that they can be writable, and changes on the host are seen."""
    for mount in sorted(mounts, key=lambda each: each.target.count("/")):  # parents first
        access = "rw" if mount.writable else "ro"
        yield _mount(mount.target, "bind", access, "nosuid", "nodev", source=bound(mount.target))


_RUN = {
    "destination": "/run",
    "type": "tmpfs",
    "source": "tmpfs",
    "options": ("nosuid", "nodev", f"size={image_root.RUN_BYTES_MAX}", "mode=1777"),
}


def bound(target: str) -> str:
    """Where the outer namespaces have what is seen at `target` inside."""
    return runsc.ROOT + target


def _mount(target: str, kind: str, *options: str, source: str | None = None) -> dict[str, Any]:
    return {
        "destination": target,
        "type": kind,
        "source": source or kind,
        "options": options,
    }
