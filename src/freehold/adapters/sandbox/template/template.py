"""One template, as the platform sees it, and the processes that are forked off it."""

import asyncio
import contextlib
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from freehold.adapters.sandbox import processes
from freehold.adapters.sandbox.cgroups import Group
from freehold.adapters.sandbox.processes import Watch
from freehold.adapters.sandbox.records import Record
from freehold.kernel.threads import in_thread
from freehold.ports.sandbox import LAUNCHER, SandboxSpec, TemplateSpec, Usage

_DEATH_SECONDS_MAX = 10.0
# Read by the interpreter or by libraries in C when they start, where nobody sees it.
_READ_AT_START = (
    "PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "GLIBC_", "OMP_", "OPENBLAS_", "MKL_",
    "OPENSSL_",
)  # fmt: skip
# By the fork itself. Modules may read what OpenTelemetry calls the session (which its
# endpoint is a part of), but the SDK that uses it begins in the session.
_FOLLOWED = frozenset({
    "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"
})  # fmt: skip


class ContainerTemplate:
    """`end_process` has the forker end the process that sessions are forked off."""

    def __init__(
        self,
        *,
        spec: TemplateSpec,
        record: Record,
        group: Group,
        environment: dict[str, str],
        end_process: Callable[[str], Awaitable[None]],
        forget: Callable[["ContainerTemplate"], None],
    ) -> None:
        self.id = spec.id
        self.record = record
        self.group = group
        self.state: Literal["ready", "unfit", "closed"] = "closed"
        self.reason = "it is being prepared"
        self.spec = spec
        self._environment = environment
        self._end_process = end_process
        self._forget = forget
        self._reads: frozenset[str] = frozenset()
        self._init: Watch | None = None
        self._closing = asyncio.Lock()
        self._cleared = False

    def hold(self, init: Watch) -> None:
        self._init = init

    def become_ready(self, reads: list[str]) -> None:
        self._reads = frozenset(reads)
        self.state, self.reason = "ready", ""

    def become(self, state: Literal["unfit", "closed"], reason: str) -> None:
        self.state, self.reason = state, reason

    def unsuited(self, spec: SandboxSpec) -> str | None:
        if self.state != "ready":
            return f"the template is {self.state}: {self.reason}"
        if spec.command[0] != self.spec.command[0]:
            return f"runs {spec.command[0]}, the template is {self.spec.command[0]}"
        if _modules_from(spec.command) != _modules_from(self.spec.command):
            return "its modules come from elsewhere"
        if missing := set(self.spec.mounts) - set(spec.mounts):
            return f"lacks what the template has at {', '.join(m.target for m in missing)}"
        return None

    def unsuited_environment(self, environment: dict[str, str]) -> str | None:
        """A variable that was read while modules were imported, and has another value now."""
        names = environment.keys() | self._environment.keys()
        for name in sorted(names - _FOLLOWED):
            seen = name in self._reads or "*" in self._reads or name.startswith(_READ_AT_START)
            if seen and environment.get(name) != self._environment.get(name):
                return f"its variable {name} was read while modules were imported"
        return None

    def usage(self) -> Usage:
        return Usage(self.group.cpu_seconds(), self.group.memory_peak_bytes())

    async def close(self) -> None:
        """Sessions go on. Idempotent. What holds them together is cleared away with the last."""
        async with self._closing:
            if self.state != "unfit":
                self.become("closed", "it was closed")
            if self._cleared:
                return
            await self._end_process(self.id)
            if self._init is None:
                await in_thread(processes.kill_marked, self.record.mark)
                await self.clear_away()
                return
            end_own_process(self._init.process.pid)
            if _sessions_below(self._init.process.pid):
                self._init.exited.add_done_callback(self._on_last_session)
            elif await self._init.gone(_DEATH_SECONDS_MAX):
                await self.clear_away()

    def _on_last_session(self, exited: asyncio.Future[int | None]) -> None:
        if not exited.cancelled():
            self._clearing = asyncio.ensure_future(self.clear_away())

    async def clear_away(self) -> None:
        await in_thread(self._clear_files)
        self._cleared = True
        self._forget(self)

    def _clear_files(self) -> None:
        self.group.remove()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(Path(self.record.directory))

    def let_go(self) -> None:
        if self._init:
            self._init.close()


def end_own_process(init: int) -> None:
    """Of the processes below a template's pid 1, those that are no sessions: a session has a pid
    namespace of its own."""
    for child in processes.children(init):
        if not _has_own_processes(child, init):
            processes.send_to_child(init, child, signal.SIGKILL)


def _sessions_below(init: int) -> list[int]:
    return [child for child in processes.children(init) if _has_own_processes(child, init)]


def _has_own_processes(child: int, init: int) -> bool:
    """False of the dead, too."""
    try:
        return Path(f"/proc/{child}/ns/pid").readlink() != Path(f"/proc/{init}/ns/pid").readlink()
    except OSError:
        return False


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


class ForkedProcess:
    """Pid 1 of a forked session: not our child, but one that tells how its payload ended."""

    def __init__(self, pid: int, told: socket.socket) -> None:
        self.pid = pid
        self._told = told
        self._code: int | None = None

    def wait(self) -> int:
        """Called when it is known to be dead."""
        try:
            said = self._told.recv(1)
        except OSError:
            said = b""
        self.returncode = said[0] if said else -signal.SIGKILL
        return said[0] if said else -signal.SIGKILL

    @property
    def returncode(self) -> int | None:
        return self._code

    @returncode.setter
    def returncode(self, code: int | None) -> None:
        """Whoever sets it waits no more."""
        self._code = code
        self._told.close()
