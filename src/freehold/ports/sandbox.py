"""A place to run what we do not trust."""

import socket
from typing import Protocol

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


class Sandbox(Protocol):
    id: str
    tier: str
    listeners: dict[int, socket.socket]
    """One listening socket per loopback port asked for; non-blocking."""

    async def connect(self, port: int) -> socket.socket:
        """A connected, non-blocking stream to what listens inside. Raises ConnectionError."""

    async def wait(self) -> Exit: ...

    def usage(self) -> Usage: ...

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
