"""The sandbox that a checkpoint is taken of, and what a session that begins from it is told."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from freehold.adapters.sandbox import template
from freehold.adapters.sandbox.gvisor import guest
from freehold.adapters.sandbox.gvisor.template import GvisorTemplate, TemplateLost, launched
from freehold.adapters.sandbox.launcher import installed_copy
from freehold.adapters.sandbox.readiness import readable
from freehold.ports.sandbox import LAUNCHER, Mount, SandboxSpec

_FOLDER = Path(LAUNCHER).parent
RELAY = str(_FOLDER / "relay")
"""Where a sandbox that begins from a checkpoint sees the sockets out of it."""

_PREPARED = str(_FOLDER / "prepared.py")
_PROGRAMS = (
    (guest, "prepared.py"),
    (guest, "relay.py"),
    (template, "inside.py"),
    (template, "needs.py"),
)
_OPEN_FILES_MAX, _PROCESSES_MAX = 1 << 20, 1 << 16
_TOLD_BYTES_MAX = 1 << 20  # what a pipe holds at most for a normal user
_NOTES_BYTES_MAX = 1 << 20


def programs(directory: Path) -> tuple[Mount, ...]:
    """Those of ours that run inside, beside the launcher; blocks."""
    found = ((Path(str(package.__file__)).with_name(name), name) for package, name in _PROGRAMS)
    return tuple(
        Mount(str(installed_copy(source, directory)), str(_FOLDER / name)) for source, name in found
    )


class Notes(msgspec.Struct, frozen=True):
    """What was seen while modules were imported, by name of the module."""

    threads: list[str] = []
    descriptors: list[str] = []
    shadowed: list[str] = []
    reads: list[str] = []

    @property
    def problem(self) -> str | None:
        """Why no session can begin after this."""
        for said, names in (
            ("starts threads when imported", self.threads),
            ("keeps files open when imported", self.descriptors),
            ("the agent's own modules hide others that are imported", self.shadowed),
        ):
            if names:
                return f"{said}: {', '.join(names)}"
        return None


class Preparation:
    """`stdin` is read by what has imported, and nothing ever comes; `stdout` says the notes."""

    def __init__(self, made: GvisorTemplate) -> None:
        self.template = made
        self.sandbox_id = f"template-{made.id}"
        self.stdin, self._never = os.pipe2(os.O_CLOEXEC)
        self._notes, self.stdout = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._notes, False)

    def sandbox_spec(self) -> SandboxSpec:
        spec = self.template.spec
        config = {"launched": launched(spec.command), "modules": [[m] for m in spec.modules]}
        return SandboxSpec(
            id=self.sandbox_id,
            command=(spec.command[0], "-u", _PREPARED, msgspec.json.encode(config).decode()),
            environment=self.template.environment,
            mounts=spec.mounts,
            directory=spec.directory,
            output=spec.output,
            limits=spec.limits,
        )

    async def notes(self) -> Notes:
        """When all is imported. Raises TemplateLost when that comes to nothing."""
        os.close(self.stdout)  # else its end would never be seen
        self.stdout = -1
        said = bytearray()
        while not said.endswith(b"\n"):
            await readable(self._notes)
            chunk = os.read(self._notes, 1 << 16)
            said += chunk
            if not chunk or len(said) > _NOTES_BYTES_MAX:
                raise TemplateLost("it ended while it imported; its output says why")
        try:
            return msgspec.json.decode(said, type=Notes)
        except msgspec.DecodeError as error:
            raise TemplateLost("what it says of its imports cannot be read") from error

    def close(self) -> None:
        for descriptor in (self.stdin, self._never, self._notes, self.stdout):
            if descriptor >= 0:
                os.close(descriptor)


def unlimited(spec: SandboxSpec) -> SandboxSpec:
    """What a checkpoint is limited to no session could raise; each lowers it for itself."""
    limits = msgspec.structs.replace(
        spec.limits, open_files_max=_OPEN_FILES_MAX, processes_max=_PROCESSES_MAX
    )
    return msgspec.structs.replace(spec, limits=limits)


@contextlib.contextmanager
def told(spec: SandboxSpec, environment: dict[str, str], limit_memory: bool) -> Iterator[int]:
    """A descriptor to be read to its end by what was restored: all that is of the session."""
    limits = {
        "RLIMIT_NOFILE": min(spec.limits.open_files_max, _OPEN_FILES_MAX),
        "RLIMIT_NPROC": min(spec.limits.processes_max + 1, _PROCESSES_MAX),  # the relay is one
        **({"RLIMIT_AS": spec.limits.memory_bytes_max} if limit_memory else {}),
    }
    content = msgspec.json.encode(
        {
            "command": spec.command,
            "environment": environment,
            "workdir": spec.workdir,
            "ports": spec.loopback_ports,
            "folder": RELAY,
            "limits": limits,
        }
    )
    if len(content) > _TOLD_BYTES_MAX:
        raise TemplateLost("its environment is too big to be handed over")
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        try:
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, max(len(content), 1 << 16))
            if os.write(write, content) != len(content):
                raise TemplateLost("its environment is too big to be handed over")
        finally:
            os.close(write)
        os.set_blocking(read, True)
        yield read
    finally:
        os.close(read)
