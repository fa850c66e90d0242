"""Starts, finds again and ends plain subprocesses. For development: it isolates nothing."""

import os
import shutil
import subprocess
from pathlib import Path

from freehold.adapters.sandbox import output, rlimits
from freehold.adapters.sandbox.environment import completed
from freehold.adapters.sandbox.execution.starter import Starter
from freehold.adapters.sandbox.launcher.launcher import SOCKETS_VARIABLE
from freehold.adapters.sandbox.process.paths import Outside
from freehold.adapters.sandbox.process.sandbox import ProcessSandbox
from freehold.adapters.sandbox.processes import MARK_VARIABLE, Watch
from freehold.adapters.sandbox.recorded import RecordedDriver
from freehold.adapters.sandbox.records import Record
from freehold.ports.sandbox import Limits, Probe, SandboxFailed, SandboxSpec

_PATH = "/usr/local/bin:/usr/bin:/bin"


class ProcessDriver(RecordedDriver[ProcessSandbox]):
    """`agent_ports` are those that the agent protocols name: HTTP, MCP, A2A."""

    tier = "process"

    def __init__(
        self, *, directory: Path, agent_ports: tuple[int, ...] = (8080, 8000, 9000)
    ) -> None:
        super().__init__(directory)
        self._agent_ports = agent_ports
        self._starter = Starter()

    async def probe(self) -> Probe:
        if not Path("/proc/self/stat").exists() or not hasattr(os, "pidfd_open"):
            return Probe(False, "needs Linux 5.3 with /proc")
        return Probe(
            True,
            "isolates nothing: agents are plain processes of this user, who read and write what"
            " this user can; nothing is measured",
        )

    def _new_record(self, spec: SandboxSpec) -> Record:
        return self._record(spec)

    def _sandbox(self, record: Record, limits: Limits) -> ProcessSandbox:
        return ProcessSandbox(
            record=record,
            agent_ports=self._agent_ports,
            forget=self._forget,
            starter=self._starter,
        )

    async def close(self) -> None:
        await super().close()
        self._starter.close()

    async def _bring_up(self, spec: SandboxSpec, sandbox: ProcessSandbox) -> None:
        if spec.root is not None:
            raise SandboxFailed(
                "the process tier runs no container images: it has no root of its own"
            )
        record = sandbox.record
        self._records.save(record)
        folder = Path(spec.directory)
        for each in (folder, folder / "home", folder / "tmp"):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
        await sandbox.listen(spec.loopback_ports)
        child = self._spawn(spec, record)
        main = Watch.child(child)
        sandbox.hold(main)
        record.monitor = main.process
        self._records.save(record)

    def _spawn(self, spec: SandboxSpec, record: Record) -> "subprocess.Popen[bytes]":
        outside = Outside.of(spec)
        command = [outside.path(argument) for argument in spec.command]
        if not shutil.which(command[0], path=_PATH):
            raise SandboxFailed(f"{command[0]} is not a program of this machine")
        ports = ",".join(str(port) for port in self._agent_ports)
        environment = completed(
            spec,
            ports=record.ports,
            defaults={
                "PATH": _PATH,
                "HOME": f"{spec.directory}/home",
                "TMPDIR": f"{spec.directory}/tmp",  # noqa: S108
            },
        )
        environment = {name: outside.path_list(value) for name, value in environment.items()}
        environment |= {
            MARK_VARIABLE: record.mark,
            SOCKETS_VARIABLE: f"{ports}={spec.directory}",
        }
        limited = rlimits.prefix(spec.limits, memory=True, processes=False)
        workdir = outside.path(spec.workdir)
        with output.opened(spec.output) as out:
            return subprocess.Popen(
                [*limited, *command],
                env=environment,
                cwd=workdir,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _found(self, sandbox: ProcessSandbox) -> bool:
        main = Watch.found(sandbox.record.monitor) if sandbox.record.monitor else None
        if main:
            sandbox.hold(main)
        return main is not None
