"""Checkpoints of sandboxes that have imported what the sessions of one agent version import."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from freehold.adapters.sandbox import ownership
from freehold.adapters.sandbox.gvisor import runsc
from freehold.adapters.sandbox.records import Record
from freehold.kernel.threads import in_thread
from freehold.ports.sandbox import (
    LAUNCHER,
    Sandbox,
    SandboxFailed,
    SandboxSpec,
    TemplateSpec,
    Usage,
)

_CHECKPOINT_SECONDS_MAX = 60.0
# Read by the interpreter or by libraries in C when they start, where nobody sees it.
_READ_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "OMP_", "OPENBLAS_", "MKL_")
# By what begins the session. Modules may read what OpenTelemetry calls the session (which its
# endpoint is a part of), but the SDK that uses it begins in the session.
_FOLLOWED = frozenset({
    "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"
})  # fmt: skip


class TemplateLost(SandboxFailed):
    """Nothing can begin from this template. An ordinary start still can be made."""


class GvisorTemplate:
    """A folder with a checkpoint. It costs no memory and no process, and nothing depends on it
    once a session has begun."""

    def __init__(
        self,
        spec: TemplateSpec,
        environment: dict[str, str],
        image: Path,
        forget: Callable[["GvisorTemplate"], None],
    ) -> None:
        self.id = spec.id
        self.spec = spec
        self.image = image
        self.state: Literal["ready", "unfit", "closed"] = "closed"
        self.reason = "it is being prepared"
        self.environment = environment
        self._forget = forget
        self._reads: frozenset[str] = frozenset()

    def become_ready(self, reads: list[str]) -> None:
        self._reads = frozenset(reads)
        self.state, self.reason = "ready", ""

    def become_unfit(self, reason: str) -> None:
        self.state, self.reason = "unfit", reason

    def unsuited(self, spec: SandboxSpec) -> str | None:
        if self.state != "ready":
            return f"the template is {self.state}: {self.reason}"
        if spec.command[0] != self.spec.command[0]:
            return f"runs {spec.command[0]}, the template is {self.spec.command[0]}"
        if _modules_from(spec.command) != _modules_from(self.spec.command):
            return "its modules come from elsewhere"
        # The file systems of a checkpoint are those that it was taken with.
        if set(spec.mounts) != set(self.spec.mounts):
            return "has other mounts than the template"
        if spec.limits.scratch_bytes_max != self.spec.limits.scratch_bytes_max:
            return "has more or less scratch space than the template"
        return None

    def unsuited_environment(self, environment: dict[str, str]) -> str | None:
        """A variable that was read while modules were imported, and has another value now."""
        for name in sorted((environment.keys() | self.environment.keys()) - _FOLLOWED):
            seen = name in self._reads or "*" in self._reads or name.startswith(_READ_AT_START)
            if seen and environment.get(name) != self.environment.get(name):
                return f"its variable {name} was read while modules were imported"
        return None

    def usage(self) -> Usage:
        return Usage(0, 0)

    async def close(self) -> None:
        """Idempotent. Sessions go on."""
        if self.state != "unfit":
            self.state, self.reason = "closed", "it was closed"
        await in_thread(shutil.rmtree, self.image, ignore_errors=True)
        self._forget(self)


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


async def take_checkpoint(sandbox: Sandbox, record: Record, image: Path) -> None:
    """By runsc, in the namespaces of the sandbox, which ends."""
    program = shutil.which("nsenter", path=os.environ.get("PATH", os.defpath) + ":/usr/bin")
    if not program:
        raise TemplateLost("nsenter (util-linux) is not installed")
    assert record.init
    names = ("user", "mount", "pid", "net", "ipc", "uts")
    line = [
        *(program, f"--target={record.init.pid}", *(f"--{name}" for name in names)),
        # A normal user is root in there already, and may not change groups.
        *(("--preserve-credentials",) if record.uid is None else ()),
        *("--", *runsc.checkpoint(record.id)),
    ]
    async with asyncio.timeout(_CHECKPOINT_SECONDS_MAX):
        code, said = await _run(line)
        # It ends with the sandbox, whose processes may take it along before it says how it went.
        if code and (said or (await sandbox.wait()).code != 0):
            raise TemplateLost(f"gVisor took no checkpoint of it: {said or code}")
    await in_thread(_read_only, image)


async def _run(line: list[str]) -> tuple[int, str]:
    """Its exit code and the end of what it said."""
    process = await asyncio.create_subprocess_exec(
        *line,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={},
        cwd="/",
    )
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace").strip()[-300:]


def _read_only(image: Path) -> None:
    """For all users that sessions are: it is the memory of none of them."""
    ownership.give(str(image), os.geteuid(), os.getegid())
    image.chmod(0o755)
    for file in image.iterdir():
        file.chmod(0o444)
