"""Starts, finds again and ends virtual machines."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from freehold.adapters.sandbox import hierarchies, kvm, users
from freehold.adapters.sandbox.cgroups import Group
from freehold.adapters.sandbox.container import bubblewrap, seccomp
from freehold.adapters.sandbox.environment import completed
from freehold.adapters.sandbox.opener import Opener
from freehold.adapters.sandbox.probing import problem_of
from freehold.adapters.sandbox.processes import Watch
from freehold.adapters.sandbox.recorded import RecordedDriver
from freehold.adapters.sandbox.records import Record
from freehold.adapters.sandbox.template.templates import template_environment
from freehold.adapters.sandbox.vm import boot, images, machine, qemu
from freehold.adapters.sandbox.vm.plan import Plan, Planner
from freehold.adapters.sandbox.vm.sandbox import VmSandbox
from freehold.adapters.sandbox.vm.template import Notes, TemplateLost, VmTemplate
from freehold.kernel.threads import in_thread
from freehold.ports.interpreters import Interpreter
from freehold.ports.sandbox import (
    Limits,
    Probe,
    SandboxFailed,
    SandboxSpec,
    Template,
    TemplateSpec,
)

_EMULATION_REFUSED = "emulation is for tests only"
_INSTALL_BUBBLEWRAP = "install bubblewrap: apt-get install bubblewrap"
_SETUP_SECONDS_MAX = {"hardware": 20.0, "emulated": 180.0}
_SNAPSHOT_SECONDS_MAX = 60.0


class _Beginning(msgspec.Struct, kw_only=True):
    """How one machine starts: from nothing, as `job` says, or where a template's stopped.

    `told` None: it is to become the template itself.
    """

    shape: qemu.Shape
    boot: boot.Boot
    job: dict[str, Any] | None
    template: VmTemplate | None = None
    told: dict[str, Any] | None


class VmDriver(RecordedDriver[VmSandbox]):
    """`directory` is the driver's own; `cache` holds kernels and disks, and may be shared.

    Without hardware KVM nothing starts, unless `emulation` allows it: slow, and not meant to hold
    anybody back. As root each machine runs as a host user of its own, picked at random from
    `uid_count` numbers from `uid_base` on. `provide` is called with an interpreter before it is
    read, in a thread.
    """

    tier = "vm"

    def __init__(
        self,
        *,
        directory: Path,
        interpreters: Mapping[str, Interpreter] | None = None,
        provide: Callable[[str], None] | None = None,
        folder: Path = boot.FOLDER,
        cache: Path | None = None,
        cache_bytes_max: int = 20 << 30,
        emulation: bool = False,
        cgroup: str = "freehold",
        uid_base: int = 2_079_000_000,
        uid_count: int = 60_000_000,
    ) -> None:
        super().__init__(directory)
        self._directory = directory
        self._provide = provide
        self._folder = folder
        self._planner = Planner(
            folder=folder,
            cache=cache or directory / "cache",
            cache_bytes_max=cache_bytes_max,
            interpreters={each.executable: each for each in (interpreters or {}).values()},
        )
        self._emulation = emulation
        self._without_kvm: list[str | None] = []
        self._uids = users.mapped(range(uid_base, uid_base + uid_count))
        self._cgroups = hierarchies.discover(cgroup)
        self._opener = Opener()
        self._beginnings: dict[str, _Beginning] = {}
        self._templates: dict[str, VmTemplate] = {}

    async def probe(self) -> Probe:
        if problem := await in_thread(self._missing):
            return Probe(False, problem)
        if problem := await problem_of(self):
            return Probe(False, problem)
        missing = ", ".join(self._cgroups.missing)
        unlimited = f"; no control group for {missing}: QEMU itself is unlimited" if missing else ""
        emulated = await in_thread(self._emulated)
        means = f"emulated ({_EMULATION_REFUSED})" if emulated else "hardware KVM"
        return Probe(True, f"QEMU microvm, {means}, {_identity()}{unlimited}")

    def _missing(self) -> str | None:
        """What stands in the way, as far as it can be seen without a machine."""
        if not qemu.installed():
            return qemu.INSTALL
        if not bubblewrap.installed():
            return _INSTALL_BUBBLEWRAP
        if problem := images.missing() or boot.missing(self._folder) or seccomp.missing():
            return problem
        try:
            self._emulated()
        except SandboxFailed as error:
            return error.message
        return None

    def _emulated(self) -> bool:
        """Blocks, the first time for up to three seconds."""
        if not self._without_kvm:
            self._without_kvm.append(kvm.problem())
        problem = self._without_kvm[0]
        if problem and not self._emulation:
            raise SandboxFailed(f"{problem}; {_EMULATION_REFUSED}")
        return problem is not None

    async def prepare(self, spec: TemplateSpec) -> VmTemplate:
        """Takes as long as a whole start. Ends in memory: no process of it is left."""
        if spec.id in self._templates:
            raise SandboxFailed(f"a template {spec.id} exists already")
        environment = template_environment(spec)
        template = VmTemplate(spec, environment, lambda made: self._templates.pop(made.id, None))
        self._templates[spec.id] = template
        try:
            template.become_ready(await self._imported(template))
        except (SandboxFailed, OSError) as error:
            said = error.message if isinstance(error, SandboxFailed) else str(error)
            template.become_unfit(said)
        except BaseException:
            await template.close()
            raise
        return template

    async def _imported(self, template: VmTemplate) -> list[str]:
        """The variables that were read meanwhile. The snapshot is taken."""
        spec = template.spec
        plan = await in_thread(self._plan, spec)
        template.make_files(plan.boot, plan.shape)
        beginning = _Beginning(
            shape=plan.shape, boot=plan.boot, job=plan.job, template=template, told=None
        )
        as_sandbox = SandboxSpec(
            id=f"template-{spec.id}",
            command=spec.command,
            environment={},
            directory=spec.directory,
            output=spec.output,
            limits=spec.limits,
        )
        sandbox = await self._begin(as_sandbox, beginning)
        try:
            notes = msgspec.convert(sandbox.notes, Notes)
            if notes.problem:
                raise TemplateLost(notes.problem)
            async with asyncio.timeout(_SNAPSHOT_SECONDS_MAX):
                await sandbox.save_state(template.machine_state)
        except msgspec.ValidationError as error:
            raise TemplateLost("what it says of its imports cannot be read") from error
        finally:
            await asyncio.shield(sandbox.stop())
        return notes.reads

    async def start(self, spec: SandboxSpec, template: Template | None = None) -> VmSandbox:
        because = _unsuited(template, spec) if template else None
        told = await in_thread(self._told, spec)
        if isinstance(template, VmTemplate) and not because:
            because = template.unsuited_environment(told["environment"])
            if not because:
                try:
                    return await self._begin(spec, _from_template(template, told))
                except SandboxFailed as error:  # nothing is left of it
                    because = error.message
        plan = await in_thread(self._plan, spec)
        beginning = _Beginning(shape=plan.shape, boot=plan.boot, job=plan.job, told=told)
        sandbox = await self._begin(spec, beginning)
        sandbox.ordinary_because = because
        return sandbox

    async def _begin(self, spec: SandboxSpec, beginning: _Beginning) -> VmSandbox:
        kind = "emulated" if beginning.shape.emulated else "hardware"
        self.setup_seconds_max = _SETUP_SECONDS_MAX[kind]
        self._beginnings[spec.id] = beginning
        try:
            return await super().start(spec)
        finally:
            self._beginnings.pop(spec.id, None)

    def _plan(self, spec: SandboxSpec | TemplateSpec) -> Plan:
        """Blocks: disks are made of what was never seen before."""
        if problem := self._missing():
            raise SandboxFailed(problem)
        if self._provide is not None and not getattr(spec, "root", None):
            self._provide(spec.command[0])
        return self._planner.plan(spec, emulated=self._emulated())

    def _told(self, spec: SandboxSpec) -> dict[str, Any]:
        """All that is of the session, and of nobody else."""
        environment = completed(
            spec,
            ports={port: port for port in spec.loopback_ports},
            defaults=bubblewrap.DEFAULT_ENVIRONMENT,
        )
        return {
            "command": spec.command,
            "environment": environment,
            "workdir": spec.workdir,
            "limits": msgspec.to_builtins(spec.limits),
            "ports": spec.loopback_ports,
        }

    def _new_record(self, spec: SandboxSpec) -> Record:
        record = self._record(spec)
        record.cgroup = f"{spec.id}.{record.mark}"
        record.uid = users.free(self._uids, self._records.uids())
        record.writable = tuple(mount.source for mount in spec.mounts if mount.writable)
        beginning = self._beginnings[spec.id]
        if beginning.template and beginning.told:
            record.template = beginning.template.id
        return record

    async def _bring_up(self, spec: SandboxSpec, sandbox: VmSandbox) -> None:
        beginning = self._beginnings[spec.id]
        self._records.save(sandbox.record)
        Path(spec.directory).mkdir(parents=True, exist_ok=True, mode=0o700)
        limits = qemu.on_the_host(spec.limits, beginning.shape)
        # The machine may start at full speed; its command is held to the limits from its begin.
        first = msgspec.structs.replace(limits, cpus_max=max(1.0, limits.cpus_max))
        await in_thread(sandbox.group.create, first)
        if beginning.template is None:
            await self._spawn(spec, sandbox, beginning, None)
            await sandbox.attach()
        else:
            with beginning.template.files() as (memory, state):
                await self._spawn(spec, sandbox, beginning, memory)
                await sandbox.attach()
                if beginning.job is None:
                    await sandbox.load_state(state)
        await sandbox.hello()
        await sandbox.listen(spec.loopback_ports)
        sandbox.refresh()
        if beginning.job is not None:
            await sandbox.do(beginning.job)
        await in_thread(sandbox.group.create, limits)
        if beginning.told is not None:
            sandbox.go(beginning.told)

    async def _spawn(
        self, spec: SandboxSpec, sandbox: VmSandbox, beginning: _Beginning, memory: int | None
    ) -> None:
        try:
            await machine.spawn(
                sandbox,
                spec,
                shape=beginning.shape,
                boot=beginning.boot,
                memory=memory,
                share=beginning.told is None,
                incoming=beginning.job is None,
                on_known=lambda: self._records.save(sandbox.record),
            )
        except SandboxFailed as error:
            raise SandboxFailed(error.message + sandbox.last_words()) from error

    def _found(self, sandbox: VmSandbox) -> bool:
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
        ended = await super().sweep(keep)
        unwanted = [each for each in self._templates.values() if each.id not in keep]
        for template in unwanted:
            await template.close()
        return [*ended, *(template.id for template in unwanted)]

    async def close(self) -> None:
        await super().close()
        for template in list(self._templates.values()):
            await template.close()
        self._opener.close()
        self._cgroups.close()

    def _sandbox(self, record: Record, limits: Limits) -> VmSandbox:
        return VmSandbox(
            record=record,
            group=self._group(record),
            limits=limits,
            opener=self._opener,
            forget=self._forget,
        )

    def _group(self, record: Record) -> Group:
        assert record.cgroup
        return self._cgroups.group(record.cgroup)


def _from_template(template: VmTemplate, told: dict[str, Any]) -> _Beginning:
    assert template.boot
    assert template.shape
    return _Beginning(
        shape=template.shape, boot=template.boot, job=None, template=template, told=told
    )


def _unsuited(template: Template, spec: SandboxSpec) -> str | None:
    if spec.root is not None:
        return "an image has no template"
    if isinstance(template, VmTemplate):
        return template.unsuited(spec)
    return f"template {template.id} is of another tier"


def _identity() -> str:
    return "a host user for each machine" if os.geteuid() == 0 else "as the user who runs this"
