"""Starts, finds again and ends bubblewrap sandboxes."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from freehold.adapters.sandbox import hierarchies, image_root, ownership, rlimits, users
from freehold.adapters.sandbox.container import bubblewrap, etc, handshake, seccomp
from freehold.adapters.sandbox.container.sandbox import ContainerSandbox
from freehold.adapters.sandbox.environment import completed
from freehold.adapters.sandbox.execution.entrance import Entrance
from freehold.adapters.sandbox.launcher import CONFINED_VARIABLE, installed_launcher
from freehold.adapters.sandbox.opener import Opener
from freehold.adapters.sandbox.probing import problem_of
from freehold.adapters.sandbox.processes import Watch, identify
from freehold.adapters.sandbox.recorded import RecordedDriver
from freehold.adapters.sandbox.records import Record
from freehold.adapters.sandbox.template import landlock
from freehold.adapters.sandbox.template.forking import TemplateLost
from freehold.adapters.sandbox.template.forks import Fork
from freehold.adapters.sandbox.template.ground import Ground
from freehold.adapters.sandbox.template.template import ContainerTemplate
from freehold.adapters.sandbox.template.templates import Templates
from freehold.kernel.threads import in_thread
from freehold.ports.interpreters import Interpreter
from freehold.ports.sandbox import (
    LAUNCHER,
    Limits,
    Mount,
    Probe,
    SandboxFailed,
    SandboxSpec,
    Template,
    TemplateSpec,
)

_INSTALL = "install bubblewrap: apt-get install bubblewrap"


class ContainerDriver(RecordedDriver[ContainerSandbox]):
    """`directory` is the driver's own, and as root must be reachable for other users (mode 0711).

    As root each sandbox runs as a host user of its own, picked at random from `uid_count` numbers
    from `uid_base` on. Else all run as the user that we are, apart by namespaces alone.
    `provide` is called with an interpreter before it is mounted, in a thread: it may take long.
    """

    tier = "container"

    def __init__(
        self,
        *,
        directory: Path,
        interpreters: Mapping[str, Interpreter] | None = None,
        provide: Callable[[str], None] | None = None,
        cgroup: str = "freehold",
        uid_base: int = 1_879_000_000,
        uid_count: int = 100_000_000,
    ) -> None:
        super().__init__(directory)
        self._directory = directory
        self._provide = provide
        self._interpreters = {each.executable: each for each in (interpreters or {}).values()}
        self._uids = users.mapped(range(uid_base, uid_base + uid_count))
        self._cgroups = hierarchies.discover(cgroup)
        self._opener = Opener()
        self._entrance = Entrance(
            cgroups=self._cgroups, user=bubblewrap.INSIDE_UID, filter_program=seccomp.program
        )
        self._templates = Templates(
            directory=directory, cgroups=self._cgroups, uids=self._uids, ground=self._ground
        )
        self._forking: dict[str, Fork] = {}

    async def probe(self) -> Probe:
        program = bubblewrap.installed()
        if not program:
            return Probe(False, _INSTALL)
        if problem := seccomp.missing() or bubblewrap.too_old(program):
            return Probe(False, problem)
        if problem := await problem_of(self):
            return Probe(False, problem)
        missing = ", ".join(self._cgroups.missing)
        unlimited = f"; no control group for {missing}: falls back to rlimits" if missing else ""
        # Python agents are confined once more, by template/landlock.py or by the launcher.
        second = "; Landlock for Python agents" if landlock.usable() else ""
        return Probe(True, f"bubblewrap, {_identity()}{second}{unlimited}")

    def _new_record(self, spec: SandboxSpec) -> Record:
        record = self._record(spec)
        record.cgroup = f"{spec.id}.{record.mark}"
        record.uid = users.free(self._uids, self._records.uids())
        if fork := self._forking.get(spec.id):
            fork.claim(record)
        record.writable = tuple(mount.source for mount in spec.mounts if mount.writable)
        return record

    async def prepare(self, spec: TemplateSpec) -> ContainerTemplate:
        return await self._templates.prepare(spec)

    async def start(self, spec: SandboxSpec, template: Template | None = None) -> ContainerSandbox:
        because = _unsuited(template, spec) if template else None
        if isinstance(template, ContainerTemplate) and not because:
            fork = self._forking[spec.id] = self._templates.fork(template, spec.limits)
            try:
                return await super().start(spec)
            except TemplateLost as error:  # nothing is left of it; an ordinary one does the same
                because = error.message
            finally:
                del self._forking[spec.id]
                fork.close()
        sandbox = await super().start(spec)
        sandbox.ordinary_because = because
        return sandbox

    async def _bring_up(self, spec: SandboxSpec, sandbox: ContainerSandbox) -> None:
        """The payload is held back until all around it is in place."""
        fork = self._forking.get(spec.id)
        if fork:
            fork.begin(sandbox)
        ground, environment = await in_thread(self._prepare, spec, sandbox)
        sandbox.environment = environment
        if fork is None:
            await self._start_bubblewrap(spec, sandbox, ground, environment)
        elif because := fork.template.unsuited_environment(environment):
            raise TemplateLost(because)
        else:
            await fork.finish(spec, sandbox, ground, environment, self._records.save)

    async def _start_bubblewrap(
        self,
        spec: SandboxSpec,
        sandbox: ContainerSandbox,
        ground: Ground,
        environment: dict[str, str],
    ) -> None:
        program = bubblewrap.installed()
        if not program:
            raise SandboxFailed(_INSTALL)
        record = sandbox.record
        launched = spec.root is None and LAUNCHER in spec.command
        arguments = bubblewrap.arguments(
            program,
            spec,
            environment=environment | ({CONFINED_VARIABLE: "1"} if launched else {}),
            mounts=ground.mounts,
            etc=ground.etc,
            launcher=ground.launcher,
        )
        with (
            handshake.pipes() as (info, info_end, block),
            bubblewrap.memory_file(seccomp.program()) as filter_file,
        ):
            child = bubblewrap.spawn(
                program,
                arguments=arguments,
                command=spec.command if spec.root else self._limits(spec) + spec.command,
                around=image_root.around(spec) + self._limits(spec) if spec.root else (),
                uid=record.uid,
                output=spec.output,
                mark=record.mark,
                descriptors={"--seccomp": filter_file, "--info-fd": info_end, "--block-fd": block},
            )
            monitor = Watch.child(child)
            sandbox.hold(monitor)
            pid = await handshake.child_pid(info, monitor)
            init = Watch.found(identify(pid))
            if init is None:
                raise SandboxFailed("the sandbox ended while it was set up")
            sandbox.hold(monitor, init)
            await in_thread(sandbox.group.join, pid)
            await sandbox.listen(spec.loopback_ports)
            record.monitor, record.init = monitor.process, init.process
            self._records.save(record)
            os.write(block, b"x")

    def _prepare(
        self, spec: SandboxSpec, sandbox: ContainerSandbox
    ) -> tuple[Ground, dict[str, str]]:
        """The files, the group and the environment; blocks."""
        record = sandbox.record
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        self._records.save(record)
        executable = "" if spec.root else spec.command[0]  # an image has its own
        ground = self._ground(executable, spec.mounts, record.uid)
        Path(spec.directory).mkdir(parents=True, exist_ok=True, mode=0o700)
        if record.uid is not None:
            for source in record.writable:
                ownership.give(source, record.uid, record.uid)
        sandbox.group.create(spec.limits)
        environment = completed(
            spec,
            ports={port: port for port in spec.loopback_ports},
            defaults=bubblewrap.DEFAULT_ENVIRONMENT,
        )
        return ground, environment

    def _ground(self, executable: str, mounts: tuple[Mount, ...], uid: int | None) -> Ground:
        if self._provide is not None:
            self._provide(executable)
        every = (*self._interpreter_mounts(executable), *mounts)
        inside_own = etc.prepared(self._directory)
        bubblewrap.require_reachable([Mount(str(inside_own), "/etc"), *every], uid is not None)
        return Ground(every, inside_own, installed_launcher(self._directory))

    def _interpreter_mounts(self, executable: str) -> tuple[Mount, ...]:
        interpreter = self._interpreters.get(executable)
        return interpreter.mounts if interpreter else ()

    def _limits(self, spec: SandboxSpec) -> tuple[str, ...]:
        """What no control group limits, a process limits for itself: before the command, or, where
        that is an image's, which may have no program for it, before bubblewrap."""
        memory, processes = (not self._cgroups.limits(each) for each in ("memory", "pids"))
        return rlimits.prefix(spec.limits, memory=memory, processes=processes)

    def _found(self, sandbox: ContainerSandbox) -> bool:
        record = sandbox.record
        if not (record.monitor and record.init):
            return False
        monitor, init = Watch.found(record.monitor), Watch.found(record.init)
        if monitor and init:
            sandbox.hold(monitor, init)
            return True
        if monitor:
            sandbox.hold(monitor)
        elif init:
            sandbox.hold(init, init)
        return False

    async def sweep(self, keep: set[str]) -> list[str]:
        return [*await super().sweep(keep), *await self._templates.sweep(keep)]

    async def close(self) -> None:
        await super().close()
        await self._templates.close()
        self._opener.close()
        self._entrance.close()
        self._cgroups.close()

    def _sandbox(self, record: Record, limits: Limits) -> ContainerSandbox:
        assert record.cgroup
        return ContainerSandbox(
            record=record,
            group=self._cgroups.group(record.cgroup),
            memory_max=limits.memory_bytes_max,
            opener=self._opener,
            forget=self._forget,
            entrance=self._entrance,
        )


def _unsuited(template: Template, spec: SandboxSpec) -> str | None:
    if spec.root is not None:
        return "an image has no template"
    if isinstance(template, ContainerTemplate):
        return template.unsuited(spec)
    return f"template {template.id} is of another tier"


def _identity() -> str:
    return "a host user for each sandbox" if os.geteuid() == 0 else "as the user who runs this"
