"""What a further program has in common with the sandbox's own, as far as it has to be told."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from freehold.adapters.sandbox import processes
from freehold.adapters.sandbox.environment import with_defaults
from freehold.adapters.sandbox.template import syscalls
from freehold.ports.sandbox import CommandSpec, SandboxFailed

_NAMESPACES = {
    "user": syscalls.NEW_USER,
    "mnt": syscalls.NEW_NS,
    "pid": syscalls.NEW_PID,
    "net": syscalls.NEW_NET,
    "ipc": syscalls.NEW_IPC,
    "uts": syscalls.NEW_UTS,
    "cgroup": syscalls.NEW_CGROUP,
}
SEALED = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_TERMINAL = "xterm-256color"


def namespaces_of(pid: int) -> int:
    """Those that it does not share with us: one's own cannot be entered."""
    flags = 0
    for name, flag in _NAMESPACES.items():
        theirs, ours = Path(f"/proc/{pid}/ns/{name}"), Path(f"/proc/self/ns/{name}")
        if theirs.exists() and not theirs.samefile(ours):
            flags |= flag
    return flags


def payload_of(init: int) -> int:
    found = processes.children(init)
    if not found:
        raise SandboxFailed("the session has ended")
    return found[0]


def environment_of(pid: int) -> dict[str, str]:
    """What it began with. It may have written over that, so anything may be there."""
    return _read(Path(f"/proc/{pid}/environ"))


@contextlib.contextmanager
def kept_environment(environment: dict[str, str]) -> Iterator[int]:
    """A file for the first process of a sandbox whose own environment says nothing: it is in no
    file of the host, and gone with the sandbox. Nobody can change it."""
    content = b"\0".join(os.fsencode(f"{name}={value}") for name, value in environment.items())
    descriptor = os.memfd_create("environment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALED)
        yield descriptor
    finally:
        os.close(descriptor)


def environment_kept_by(init: int) -> dict[str, str]:
    path = Path(f"/proc/{init}/fd/0")
    if not path.is_file():
        raise SandboxFailed("this session's environment is not known any more")
    return _read(path)


def _read(path: Path) -> dict[str, str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SandboxFailed(f"the session's environment cannot be read: {error}") from error
    pairs = (os.fsdecode(entry).partition("=") for entry in content.split(b"\0"))
    return {name: value for name, sign, value in pairs if name and sign}


def environment_for(spec: CommandSpec, session: dict[str, str]) -> dict[str, str]:
    if not spec.command or any("\0" in word for word in spec.command):
        raise SandboxFailed("a command is a program and its arguments")
    terminal = {"TERM": _TERMINAL} if spec.terminal else {}
    return with_defaults(dict(spec.environment), {**terminal, **session})
