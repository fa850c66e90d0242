"""The command line of one bubblewrap, and how it is started."""

import contextlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from freehold.adapters.sandbox import image_root
from freehold.adapters.sandbox.output import opened
from freehold.adapters.sandbox.processes import MARK_VARIABLE
from freehold.ports.sandbox import LAUNCHER, Limits, Mount, SandboxFailed, SandboxSpec

HOME = "/home/agent"
INSIDE_UID = 1000
DEFAULT_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": HOME,
    "TMPDIR": "/tmp",  # noqa: S108
}
_IDENTITY = ("--uid", str(INSIDE_UID), "--gid", str(INSIDE_UID), "--hostname", "sandbox")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
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
    if spec.root is not None:
        return _arguments_of_image(
            program, spec, spec.root, environment=environment, mounts=mounts, etc=etc
        )
    return [
        *_namespaces(program),
        *_system(etc, launcher),
        *_scratch(spec.limits),
        *bindings(mounts),
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        *_environment(environment),
        *("--chdir", spec.workdir),
    ]


def _arguments_of_image(
    program: str,
    spec: SandboxSpec,
    folder: str,
    *,
    environment: dict[str, str],
    mounts: Iterable[Mount],
    etc: Path,
) -> list[str]:
    """As `arguments`, inside of what `image_root.around` starts."""
    return [
        *_namespaces(program),
        *image_root.bindings(folder, etc),
        *("--proc", "/proc", "--dev", "/dev"),
        *image_root.run_folder(),
        *_scratch(spec.limits),
        *bindings(mounts),
        *("--remount-ro", "/dev"),
        *_environment(environment),
        *("--chdir", spec.workdir),
    ]


def template_arguments(
    *,
    limits: Limits,
    environment: dict[str, str],
    mounts: Iterable[Mount],
    etc: Path,
    launcher: Path,
) -> list[str]:
    """Of a sandbox whose user namespace is given (`--userns`), and may have others below it."""
    every = ("pid", "net", "ipc", "uts", "cgroup-try")
    # Not --dev: its pseudo-terminals need a root inside, which this user namespace has not.
    nodes = [part for name in _DEVICES for part in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")]
    return [
        *(f"--unshare-{each}" for each in every),
        *_IDENTITY,
        *("--cap-drop", "ALL", "--new-session", "--clearenv"),
        *system_files(etc, launcher),
        *("--proc", "/proc", "--perms", "0755", "--tmpfs", "/dev", *nodes),
        *_scratch(limits),
        *bindings(mounts),
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        *_environment(environment),
        *("--chdir", "/"),
    ]


def view(limits: Limits, mounts: Iterable[Mount], etc: Path, launcher: Path) -> list[str]:
    """Every file that `arguments` shows, but for /proc and /dev."""
    return [*system_files(etc, launcher), *_scratch(limits), *bindings(mounts)]


def _namespaces(program: str) -> list[str]:
    # No --die-with-parent: a sandbox outlives the process that started it, and is adopted.
    every = ("user", "pid", "net", "ipc", "uts", "cgroup-try")
    return [
        *(f"--unshare-{each}" for each in every),
        *_IDENTITY,
        # The seccomp filter refuses them too: an old bubblewrap loses one of two locks.
        *(["--disable-userns"] if "--disable-userns" in _offered(program) else []),
        *("--cap-drop", "ALL", "--new-session", "--clearenv"),
    ]


def _system(etc: Path, launcher: Path) -> list[str]:
    return [*system_files(etc, launcher), "--proc", "/proc", "--dev", "/dev"]


def system_files(etc: Path, launcher: Path, root: str = "") -> list[str]:
    """What every sandbox has of the system, below `root`."""
    result = ["--ro-bind", "/usr", f"{root}/usr"]
    for name in _SYSTEM_LINKS:
        path = Path(name)
        if path.is_symlink():
            result += ["--symlink", str(path.readlink()), root + name]
        elif path.is_dir():
            result += ["--ro-bind", name, root + name]
    result += ["--ro-bind", str(etc), f"{root}/etc"]
    for folder in ("/opt", "/var", "/run", str(Path(LAUNCHER).parent)):
        result += ["--perms", "0755", "--dir", root + folder]
    result += ["--symlink", "/tmp", f"{root}/var/tmp"]  # noqa: S108
    return [*result, "--ro-bind", str(launcher), root + LAUNCHER]


def _scratch(limits: Limits) -> list[str]:
    result = ["--perms", "0755", "--dir", str(Path(HOME).parent)]
    for place, mode in (("/tmp", "1777"), ("/dev/shm", "1777"), (HOME, "0700")):  # noqa: S108
        result += ["--size", str(limits.scratch_bytes_max), "--perms", mode, "--tmpfs", place]
    return result


def bindings(mounts: Iterable[Mount], root: str = "") -> list[str]:
    result: list[str] = []
    for mount in sorted(mounts, key=lambda each: each.target.count("/")):  # parents first
        result += ["--bind" if mount.writable else "--ro-bind", mount.source, root + mount.target]
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
    uid: int | None,
    output: str,
    mark: str,
    descriptors: Mapping[str, int],
    owner: int | None = None,
    also: Iterable[int] = (),
    groups: Iterable[int] = (),
    around: tuple[str, ...] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
) -> subprocess.Popen[bytes]:
    """`uid` None: as ourselves. `owner` of the output file, if another than `uid`.

    `descriptors` by the option that names them; the payload waits for a byte on that of
    `--block-fd`. `also` are those that `arguments` name. `groups` are kept when `uid` changes.
    `around` is run as ourselves, and becomes all this at its end.

    Arguments go through a descriptor: the environment is nobody's business in a process list, and
    a customer's LD_PRELOAD must not reach bubblewrap itself.
    """
    listed = [*arguments, *(str(part) for pair in descriptors.items() for part in pair)]
    with memory_file("\0".join(listed).encode()) as args, opened(output, owner or uid) as out:
        line = [program, "--args", str(args), "--", *command]
        switch: dict[str, object] = {}
        setpriv = shutil.which("setpriv") if uid is not None else None
        if setpriv:
            # Popen(user=) must fork, and copies the page tables of a big process (10 ms at 300
            # MiB); without it Popen uses vfork.
            kept = ",".join(str(each) for each in groups)
            kept = f"--groups={kept}" if kept else "--clear-groups"
            ids = (f"--reuid={uid}", f"--regid={uid}", kept, "--inh-caps=-all")
            line = [setpriv, *ids, *line]
        elif uid is not None:
            switch = {"user": uid, "group": uid, "extra_groups": list(groups)}
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            [*around, *line],
            env={MARK_VARIABLE: mark},
            cwd="/",
            stdin=stdin,
            stdout=out if stdout is None else stdout,
            stderr=out,
            pass_fds=[args, *descriptors.values(), *also],
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
