"""A place to run what we do not trust."""

import socket
from typing import Literal, Protocol, runtime_checkable

import msgspec

from freehold.kernel.errors import PlatformFailed

LAUNCHER = "/opt/freehold/launcher.py"
"""Where every sandbox sees the launcher of Python agents: a command is
`(python, LAUNCHER, "--code", DIR, "--layer", DIR, ENTRY)`."""


class SandboxFailed(PlatformFailed):
    """No sandbox came to be. The message says why, and what an operator can do about it."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    memory_bytes_max: int = 2 << 30
    cpus_max: float = 2.0
    processes_max: int = 512
    open_files_max: int = 1024
    scratch_bytes_max: int = 512 << 20  # /tmp and home, each; counts as memory too


class Mount(msgspec.Struct, frozen=True):
    """A host path seen inside at `target`. Read-only unless `writable`.

    A writable source belongs to the sandbox's user while it lives, and is given back at its end.
    """

    source: str
    target: str
    writable: bool = False


class SandboxSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`directory` on the host belongs to this sandbox alone, and goes with it.

    `output` is a path (a FIFO or a file) that stdout and stderr are appended to. `loopback_ports`
    are ports inside on which the platform listens (the doorway); `${LOOPBACK_7400}` in a value of
    `environment` becomes the number under which port 7400 is reached (another one in the process
    tier). The interpreter and system libraries of `command[0]` are made visible by the adapter.
    HOME, TMPDIR and PATH are set unless `environment` sets them; nothing else is added.

    `root` is the folder of an unpacked image (`ports/images.py`), whose files stand in the place of
    the host's: no interpreter, library or launcher of this machine is seen. What is written there
    goes with the sandbox, and counts as scratch.
    """

    id: str
    command: tuple[str, ...]
    environment: dict[str, str]
    mounts: tuple[Mount, ...] = ()
    workdir: str = "/"
    directory: str
    output: str
    limits: Limits = Limits()
    loopback_ports: tuple[int, ...] = ()
    root: str | None = None


class TemplateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What sessions of one agent version have in common, prepared once.

    `command`, `mounts` and `environment` are as in a session's spec, writable mounts left out.
    `environment` holds what modules may read while they are imported, and never a secret: it ends
    up in the memory of every session. `modules`: what to import, in place of what the entry point
    is seen to ask for. Code of the agent's own is read, and never run. `spares`: how many sessions
    are begun ahead of need.
    """

    id: str
    command: tuple[str, ...]
    environment: dict[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    directory: str
    output: str
    limits: Limits = Limits(memory_bytes_max=1 << 30, processes_max=128)
    modules: tuple[str, ...] = ()
    import_seconds_max: float = 120
    spares: int = 1


class Usage(msgspec.Struct, frozen=True):
    """None where this machine cannot measure. The peak is since the previous reading."""

    cpu_seconds: float | None
    memory_peak_bytes: int | None


class Exit(msgspec.Struct, frozen=True):
    """`code` None: unknown (adopted). `reason` is for people: "ran out of memory (256 MiB)"."""

    code: int | None
    reason: str


class Probe(msgspec.Struct, frozen=True):
    """Found by trying, not by looking. `detail` says what is missing and what to install."""

    available: bool
    detail: str


class CommandSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A further program in a running sandbox, under the same user, limits, mounts and rules.

    `environment` is added to the session's. `workdir` None: the session's. `terminal` is (rows,
    columns): a pseudo-terminal, on which stdout and stderr are one; None: pipes.
    """

    command: tuple[str, ...]
    environment: dict[str, str] = {}
    workdir: str | None = None
    terminal: tuple[int, int] | None = None


class CommandOutput(msgspec.Struct, frozen=True):
    stream: Literal["stdout", "stderr"]
    data: bytes


class Command(Protocol):
    """A program that was started beside the agent. Its process group ends with `close`."""

    async def read(self) -> CommandOutput | None:
        """The next piece, at most 64 KiB; None: all has been read. A slow reader slows it down."""

    async def write(self, data: bytes) -> None:
        """To its stdin; empty: no more comes. What it no longer reads is dropped."""

    def resize(self, rows: int, columns: int) -> None: ...

    async def wait(self) -> int:
        """Its exit code; 128 + the signal that ended it."""

    async def close(self) -> None:
        """SIGHUP, then SIGKILL, to its process group. Idempotent."""


class Sandbox(Protocol):
    id: str
    tier: str
    listeners: dict[int, socket.socket]
    """One listening socket per loopback port asked for; non-blocking."""

    async def connect(self, port: int) -> socket.socket:
        """A connected, non-blocking stream to what listens inside. Raises ConnectionError."""

    async def wait(self) -> Exit: ...

    def usage(self) -> Usage: ...

    async def execute(self, spec: CommandSpec) -> Command:
        """Raises SandboxFailed when the program cannot be started, and says why."""

    async def freeze(self) -> None: ...

    async def thaw(self) -> None: ...

    async def stop(self, grace_seconds: float = 0) -> None:
        """SIGTERM, the grace, then nothing of it is left. Idempotent."""


class SandboxDriver(Protocol):
    tier: str

    async def probe(self) -> Probe: ...

    async def start(self, spec: SandboxSpec) -> Sandbox: ...

    async def adopt(self, spec: SandboxSpec) -> Sandbox | None:
        """The running sandbox that an earlier process of ours started; None when it is gone."""

    async def sweep(self, keep: set[str]) -> list[str]:
        """End everything of ours whose id is not in `keep`; the ids that were ended."""

    async def close(self) -> None:
        """Let go of the driver's own parts. Sandboxes go on."""


class Template(Protocol):
    """Belongs to one agent version of one tenant. Sandboxes started from it outlive it."""

    id: str
    state: Literal["ready", "unfit", "closed"]
    reason: str
    """Why it is not ready: "starts threads when imported: X"."""

    def unsuited(self, spec: SandboxSpec) -> str | None:
        """Why this sandbox cannot be started from it; None when it can."""

    def usage(self) -> Usage: ...

    async def close(self) -> None: ...


class TemplatedSandbox(Sandbox, Protocol):
    ordinary_because: str | None
    """Why it did not come from the template that was given for it. None: it did."""


@runtime_checkable
class TemplateDriver(SandboxDriver, Protocol):
    """A tier with fast starts. `sweep` and `close` end templates as well."""

    async def prepare(self, spec: TemplateSpec) -> Template:
        """Takes as long as the imports do. An agent that cannot be forked makes it `unfit`."""

    async def start(self, spec: SandboxSpec, template: Template | None = None) -> TemplatedSandbox:
        """An ordinary start when nothing can come from the template."""
