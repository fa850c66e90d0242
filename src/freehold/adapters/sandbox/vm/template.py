"""Machines that were stopped just before their command begins, for many sessions to begin from.

The guest's memory is a sealed memory file: each machine maps it privately, so that sessions share
what none of them writes, and none can write what another reads.
"""

import contextlib
import fcntl
import math
import os
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from freehold.adapters.sandbox.vm.boot import Boot
from freehold.adapters.sandbox.vm.qemu import Shape
from freehold.ports.sandbox import LAUNCHER, SandboxFailed, SandboxSpec, TemplateSpec, Usage

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
_BLOCK_BYTES = 512
# Read by the interpreter or by libraries in C when they start, where nobody sees it.
_READ_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "OMP_", "OPENBLAS_", "MKL_")
# By what begins the session. Modules may read what OpenTelemetry calls the session (which its
# endpoint is a part of), but the SDK that uses it begins in the session.
_FOLLOWED = frozenset({
    "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"
})  # fmt: skip


class TemplateLost(SandboxFailed):
    """Nothing can begin from this template. An ordinary start still can be made."""


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


class VmTemplate:
    """Costs the memory that its guest had written to, and no process.

    `memory` and `state` are files in memory, of the guest and of QEMU's devices.
    """

    def __init__(
        self,
        spec: TemplateSpec,
        environment: dict[str, str],
        forget: Callable[["VmTemplate"], object],
    ) -> None:
        self.id = spec.id
        self.spec = spec
        self.environment = environment
        self.state: Literal["ready", "unfit", "closed"] = "closed"
        self.reason = "it is being prepared"
        self.boot: Boot | None = None
        self.shape: Shape | None = None
        self.memory = self.machine_state = -1
        self._reads: frozenset[str] = frozenset()
        self._forget = forget

    def make_files(self, boot: Boot, shape: Shape) -> None:
        self.boot, self.shape = boot, shape
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        self.memory = os.memfd_create("freehold-vm-memory", flags)
        os.ftruncate(self.memory, shape.memory_bytes)
        self.machine_state = os.memfd_create("freehold-vm-state", flags)

    @contextlib.contextmanager
    def files(self) -> Iterator[tuple[int, int]]:
        """Memory, and the machine's state from its beginning: open for as long as it takes to
        begin a session, even when the template is closed meanwhile."""
        if self.memory < 0:
            raise TemplateLost(f"the template is {self.state}: {self.reason}")
        memory = os.dup(self.memory)
        state = os.open(f"/proc/self/fd/{self.machine_state}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield memory, state
        finally:
            os.close(memory)
            os.close(state)

    def become_ready(self, reads: list[str]) -> None:
        """Nobody may have the files open for writing any more."""
        for file in (self.memory, self.machine_state):
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        self._reads = frozenset(reads)
        self.state, self.reason = "ready", ""

    def become_unfit(self, reason: str) -> None:
        self.state, self.reason = "unfit", reason
        self._drop_files()

    def unsuited(self, spec: SandboxSpec) -> str | None:
        own = self.spec.limits
        modules, own_modules = _modules_from(spec.command), _modules_from(self.spec.command)
        reasons = {
            f"the template is {self.state}: {self.reason}": self.state != "ready",
            "runs another program than the template": spec.command[0] != self.spec.command[0],
            "its modules come from elsewhere": modules != own_modules,
            "has other mounts than the template": set(spec.mounts) != set(self.spec.mounts),
            "may use more memory than the template's machine has": spec.limits.memory_bytes_max
            > own.memory_bytes_max,
            "may use more processors than the template's machine has": spec.limits.cpus_max
            > math.ceil(own.cpus_max),
        }
        return next((reason for reason, applies in reasons.items() if applies), None)

    def unsuited_environment(self, environment: dict[str, str]) -> str | None:
        """A variable that was read while modules were imported, and has another value now."""
        for name in sorted((environment.keys() | self.environment.keys()) - _FOLLOWED):
            seen = name in self._reads or "*" in self._reads or name.startswith(_READ_AT_START)
            if seen and environment.get(name) != self.environment.get(name):
                return f"its variable {name} was read while modules were imported"
        return None

    def usage(self) -> Usage:
        if self.memory < 0:
            return Usage(0, 0)
        return Usage(0, os.fstat(self.memory).st_blocks * _BLOCK_BYTES)

    async def close(self) -> None:
        """Idempotent. Sessions go on."""
        if self.state != "unfit":
            self.state, self.reason = "closed", "it was closed"
        self._drop_files()
        self._forget(self)

    def _drop_files(self) -> None:
        for file in (self.memory, self.machine_state):
            if file >= 0:
                os.close(file)
        self.memory = self.machine_state = -1


def launched(command: tuple[str, ...]) -> list[str] | None:
    """The launcher's arguments; None of a command that does without it."""
    return list(command[2:]) if command[1:2] == (LAUNCHER,) else None


def _modules_from(command: tuple[str, ...]) -> list[str] | None:
    arguments = launched(command)
    if arguments is None:
        return None
    options = 0
    while arguments[options : options + 1] in (["--code"], ["--layer"]):
        options += 2
    return arguments[:options]
