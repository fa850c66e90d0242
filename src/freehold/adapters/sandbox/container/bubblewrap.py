"""The command line of one bubblewrap, and how it is started."""

import contextlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from freehold.adapters.sandbox.output import opened
from freehold.adapters.sandbox.processes import MARK_VARIABLE
from freehold.ports.sandbox import LAUNCHER, Limits, Mount, SandboxFailed, SandboxSpec

HOME = "/home/agent"
INSIDE_UID = 1000
_SYSTEM_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")


def installed() -> str | None:
    return shutil.which("bwrap", path=os.environ.get("PATH", os.defpath) + ":/usr/bin")


@cache
def _offered(program: str) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout


def too_old(program: str) -> str | None:
    """What an old bubblewrap lacks that cannot be done without; None when nothing."""
    if "--size" in _offered(program) and "--perms" in _offered(program):
        return None
    return f"{program} is too old to limit scratch space: bubblewrap 0.7 or newer is needed"


def arguments(
    program: str,
    spec: SandboxSpec,
    *,
    environment: dict[str, str],
    mounts: Iterable[Mount],
    etc: Path,
    launcher: Path,
) -> list[str]:
    """Everything of the host that the sandbox sees is named here; the rest does not exist."""
    return [
        *_namespaces(program),
        *_system(etc, launcher),
        *_scratch(spec.limits),
        *_mounts(mounts),
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        *_environment(environment),
        *("--chdir", spec.workdir),
    ]


def _namespaces(program: str) -> list[str]:
    # No --die-with-parent: a sandbox outlives the process that started it, and is adopted.
    every = ("user", "pid", "net", "ipc", "uts", "cgroup-try")
    identity = ("--uid", str(INSIDE_UID), "--gid", str(INSIDE_UID), "--hostname", "sandbox")
    return [
        *(f"--unshare-{each}" for each in every),
        *identity,
        # The seccomp filter refuses them too: an old bubblewrap loses one of two locks.
        *(["--disable-userns"] if "--disable-userns" in _offered(program) else []),
        *("--cap-drop", "ALL", "--new-session", "--clearenv"),
    ]


def _system(etc: Path, launcher: Path) -> list[str]:
    result = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM_LINKS:
        path = Path(name)
        if path.is_symlink():
            result += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            result += ["--ro-bind", name, name]
    result += ["--ro-bind", str(etc), "/etc", "--proc", "/proc", "--dev", "/dev"]
    result += ["--perms", "0755", "--dir", "/opt", "--perms", "0755", "--dir", "/var"]
    result += ["--symlink", "/tmp", "/var/tmp", "--perms", "0755", "--dir", "/run"]  # noqa: S108
    result += ["--perms", "0755", "--dir", str(Path(LAUNCHER).parent)]
    return [*result, "--ro-bind", str(launcher), LAUNCHER]


def _scratch(limits: Limits) -> list[str]:
    result = ["--perms", "0755", "--dir", str(Path(HOME).parent)]
    for place, mode in (("/tmp", "1777"), ("/dev/shm", "1777"), (HOME, "0700")):  # noqa: S108
        result += ["--size", str(limits.scratch_bytes_max), "--perms", mode, "--tmpfs", place]
    return result


def _mounts(mounts: Iterable[Mount]) -> list[str]:
    result: list[str] = []
    for mount in sorted(mounts, key=lambda each: each.target.count("/")):  # parents first
        result += ["--bind" if mount.writable else "--ro-bind", mount.source, mount.target]
    return result


def _environment(environment: dict[str, str]) -> list[str]:
    return [part for name, value in environment.items() for part in ("--setenv", name, value)]


def require_reachable(mounts: Iterable[Mount], own_uid: bool) -> None:
    """bubblewrap runs as the sandbox's user, and says little when that user finds no way in."""
    for mount in mounts:
        path = Path(mount.source)
        if not path.exists():
            raise SandboxFailed(f"{mount.source} is to be mounted, but does not exist")
        if not own_uid:
            continue
        for folder in path.resolve().parents:
            if not folder.stat().st_mode & stat.S_IXOTH:
                raise SandboxFailed(
                    f"{mount.source} is not reachable for the sandbox's user, since {folder} is"
                    f" closed to others; keep it elsewhere (as root, under /var/lib/freehold)"
                )


def spawn(
    program: str,
    *,
    arguments: list[str],
    command: tuple[str, ...],
    seccomp: int,
    uid: int | None,
    output: str,
    mark: str,
    info: int,
    block: int,
) -> subprocess.Popen[bytes]:
    """`uid` None: as ourselves. The payload waits until a byte can be read from `block`.

    Arguments go through a descriptor: the environment is nobody's business in a process list, and
    a customer's LD_PRELOAD must not reach bubblewrap itself.
    """
    descriptors = ("--seccomp", seccomp), ("--info-fd", info), ("--block-fd", block)
    listed = [*arguments, *(str(part) for pair in descriptors for part in pair)]
    with memory_file("\0".join(listed).encode()) as args, opened(output, uid) as out:
        line = [program, "--args", str(args), "--", *command]
        switch: dict[str, object] = {}
        setpriv = shutil.which("setpriv") if uid is not None else None
        if setpriv:
            # Popen(user=) must fork, and copies the page tables of a big process (10 ms at 300
            # MiB); without it Popen uses vfork.
            ids = (f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all")
            line = [setpriv, *ids, *line]
        elif uid is not None:
            switch = {"user": uid, "group": uid, "extra_groups": []}
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            line,
            env={MARK_VARIABLE: mark},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=[args, seccomp, info, block],
            start_new_session=True,
            umask=0o022,
            **switch,
        )


@contextlib.contextmanager
def memory_file(content: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("freehold", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def child_pid(info: bytes) -> int | None:
    """None while the message is not whole."""
    try:
        return int(json.loads(info)["child-pid"])
    except ValueError:
        return None
