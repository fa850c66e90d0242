"""Starts, finds again and ends sandboxes of gVisor's."""

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from freehold.adapters.sandbox import hierarchies, image_root, ownership, users
from freehold.adapters.sandbox.container import bubblewrap, etc
from freehold.adapters.sandbox.container.sandbox import ContainerSandbox
from freehold.adapters.sandbox.environment import completed
from freehold.adapters.sandbox.gvisor import bundle, outer, preparing, runsc
from freehold.adapters.sandbox.gvisor.preparing import Preparation
from freehold.adapters.sandbox.gvisor.restored import RestoredSandbox
from freehold.adapters.sandbox.gvisor.sandbox import GvisorSandbox
from freehold.adapters.sandbox.gvisor.start import INSTALL_BUBBLEWRAP, Plan, started
from freehold.adapters.sandbox.gvisor.template import (
    GvisorTemplate,
    TemplateLost,
    take_checkpoint,
)
from freehold.adapters.sandbox.launcher import installed_launcher
from freehold.adapters.sandbox.opener import Opener
from freehold.adapters.sandbox.probing import problem_of
from freehold.adapters.sandbox.processes import Watch
from freehold.adapters.sandbox.recorded import RecordedDriver
from freehold.adapters.sandbox.records import Record
from freehold.adapters.sandbox.template.templates import template_environment
from freehold.kernel.threads import in_thread
from freehold.ports.interpreters import Interpreter
from freehold.ports.sandbox import (
    Limits,
    Mount,
    Probe,
    SandboxFailed,
    SandboxSpec,
    Template,
    TemplateSpec,
)

# Host tasks that one task inside may cost, and those of gVisor's own kernel.
_TASKS_EACH, _TASKS_OWN = 2, 256


class GvisorDriver(RecordedDriver[ContainerSandbox]):
    """`directory` is the driver's own, and as root must be reachable for other users (mode 0711).

    As root each sandbox has two host users of its own, picked at random from `uid_count` numbers
    from `uid_base` on. Else all run as the user that we are, and inside they are root without any
    capability. `provide` is called with an interpreter before it is mounted, in a thread.
    """

    tier = "gvisor"

    def __init__(
        self,
        *,
        directory: Path,
        interpreters: Mapping[str, Interpreter] | None = None,
        provide: Callable[[str], None] | None = None,
        cgroup: str = "freehold",
        uid_base: int = 1_979_000_000,
        uid_count: int = 100_000_000,
    ) -> None:
        super().__init__(directory)
        self._directory = directory
        self._provide = provide
        self._interpreters = {each.executable: each for each in (interpreters or {}).values()}
        self._uids = users.mapped(range(uid_base, uid_base + uid_count))[:-1:2]
        self._cgroups = hierarchies.discover(cgroup)
        self._opener = Opener()
        self._templates: dict[str, GvisorTemplate] = {}
        self._to_prepare: dict[str, Preparation] = {}
        self._to_restore: dict[str, GvisorTemplate] = {}

    async def probe(self) -> Probe:
        program = runsc.installed()
        if not program:
            return Probe(False, runsc.INSTALL)
        if not bubblewrap.installed():
            return Probe(False, INSTALL_BUBBLEWRAP)
        if problem := await in_thread(runsc.too_old, program):
            return Probe(False, problem)
        if problem := await problem_of(self):
            return Probe(False, problem)
        missing = ", ".join(self._cgroups.missing)
        unlimited = f"; no control group for {missing}: falls back to rlimits" if missing else ""
        version = await in_thread(runsc.version, program)
        return Probe(True, f"gVisor {version}, systrap, {_identity()}{unlimited}")

    async def prepare(self, spec: TemplateSpec) -> GvisorTemplate:
        """Ends in a checkpoint on disk: nothing of it runs, and it takes no memory."""
        if spec.id in self._templates:
            raise SandboxFailed(f"a template {spec.id} exists already")
        image = self._directory / "images" / secrets.token_hex(8)
        environment = template_environment(spec)
        template = GvisorTemplate(spec, environment, image, self._forget_template)
        self._templates[spec.id] = template
        try:
            template.become_ready(await self._imported(template))
        except SandboxFailed as error:
            template.become_unfit(error.message)
            await in_thread(shutil.rmtree, image, ignore_errors=True)
        except BaseException:
            await asyncio.shield(template.close())
            raise
        return template

    def _forget_template(self, template: GvisorTemplate) -> None:
        self._templates.pop(template.id, None)

    async def _imported(self, template: GvisorTemplate) -> list[str]:
        """The variables that were read meanwhile. The checkpoint is taken."""
        preparation = Preparation(template)
        self._to_prepare[preparation.sandbox_id] = preparation
        sandbox = None
        try:
            sandbox = await super().start(preparation.sandbox_spec())
            try:
                async with asyncio.timeout(template.spec.import_seconds_max):
                    notes = await preparation.notes()
            except TimeoutError:
                seconds = template.spec.import_seconds_max
                raise TemplateLost(f"imports for more than {seconds:g} s") from None
            if notes.problem:
                raise TemplateLost(notes.problem)
            await take_checkpoint(sandbox, sandbox.record, template.image)
            return notes.reads
        finally:
            self._to_prepare.pop(preparation.sandbox_id)
            preparation.close()
            if sandbox:
                await asyncio.shield(sandbox.stop())

    async def start(self, spec: SandboxSpec, template: Template | None = None) -> ContainerSandbox:
        because = _unsuited(template, spec) if template else None
        if isinstance(template, GvisorTemplate) and not because:
            self._to_restore[spec.id] = template
            try:
                return await super().start(spec)
            except SandboxFailed as error:  # nothing is left of it; an ordinary one does the same
                because = error.message
            finally:
                self._to_restore.pop(spec.id, None)
        sandbox = await super().start(spec)
        sandbox.ordinary_because = because
        return sandbox

    def _new_record(self, spec: SandboxSpec) -> Record:
        record = self._record(spec)
        record.cgroup = f"{spec.id}.{record.mark}"
        record.uid = users.free(self._uids, self._records.uids())
        record.writable = tuple(mount.source for mount in spec.mounts if mount.writable)
        if template := self._to_restore.get(spec.id):
            record.template = template.id
        return record

    async def _bring_up(self, spec: SandboxSpec, sandbox: ContainerSandbox) -> None:
        environment = await in_thread(self._make_ready, spec, sandbox)
        sandbox.environment = environment
        save = self._records.save
        if template := self._to_restore.get(spec.id):
            if because := template.unsuited_environment(environment):
                raise TemplateLost(because)
            assert isinstance(sandbox, RestoredSandbox)
            with preparing.told(spec, environment, self._limits_memory_inside) as stdin:
                begun = await in_thread(self._plan_from_checkpoint, spec, sandbox.record, template)
                await started(msgspec.structs.replace(begun, stdin=stdin), spec, sandbox, save)
                await sandbox.arrived()
        elif preparation := self._to_prepare.get(spec.id):
            plan = await in_thread(self._plan_to_checkpoint, spec, sandbox.record, preparation)
            await started(plan, spec, sandbox, save)
        else:
            plan = await in_thread(self._plan, spec, sandbox.record, environment)
            await started(plan, spec, sandbox, save)

    def _make_ready(self, spec: SandboxSpec, sandbox: ContainerSandbox) -> dict[str, str]:
        """The record, the files and the group of it; blocks. What is its environment."""
        record = sandbox.record
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        self._records.save(record)
        if self._provide is not None and spec.root is None:
            self._provide(spec.command[0])
        mounts = (*self._interpreter_mounts(spec), *spec.mounts)
        inside_own = Mount(str(self._directory / "records"), "")
        bubblewrap.require_reachable([inside_own, *mounts], record.uid is not None)
        Path(spec.directory).mkdir(parents=True, exist_ok=True, mode=0o700)
        if record.uid is not None:
            for source in record.writable:
                ownership.give(source, record.uid, record.uid)
        sandbox.group.create(_on_the_host(spec.limits))
        return completed(
            spec,
            ports={port: port for port in spec.loopback_ports},
            defaults=bubblewrap.DEFAULT_ENVIRONMENT,
        )

    def _plan(
        self,
        spec: SandboxSpec,
        record: Record,
        environment: dict[str, str],
        own: tuple[Mount, ...] = (),
        shared: tuple[Mount, ...] = (),
    ) -> Plan:
        """`own` are files of ours that never change, `shared` is seen as it is on the host."""
        program = runsc.installed()
        if not program:
            raise SandboxFailed(runsc.INSTALL)
        interpreter = self._interpreter_mounts(spec)
        arguments = outer.arguments(
            program,
            mounts=(*interpreter, *own, *spec.mounts, *shared),
            etc=etc.prepared(self._directory),
            launcher=installed_launcher(self._directory),
            own_users=record.uid is not None,
            image=spec.root,
        )
        configuration = bundle.configuration(
            spec,
            environment=environment,
            mounts=(*spec.mounts, *shared),
            uid=0 if record.uid is None else bubblewrap.INSIDE_UID,
            limit_memory=self._limits_memory_inside and not own,
        )
        return Plan(
            arguments=arguments,
            configuration=configuration,
            command=runsc.run(record.id),
            around=image_root.around(spec) if spec.root else (),
        )

    def _plan_to_checkpoint(
        self, spec: SandboxSpec, record: Record, preparation: Preparation
    ) -> Plan:
        template = preparation.template
        template.image.mkdir(parents=True, mode=0o700)
        template.image.parent.chmod(0o711)
        if record.uid is not None:
            root = outer.root_of(record.uid)
            os.chown(template.image, root, root)
        plan = self._plan_with_relay(spec, record, template.environment)
        return Plan(
            arguments=[*plan.arguments, "--bind", str(template.image), runsc.IMAGE],
            configuration=plan.configuration,
            command=runsc.run(record.id, "own"),
            stdin=preparation.stdin,
            stdout=preparation.stdout,
        )

    def _plan_from_checkpoint(
        self, spec: SandboxSpec, record: Record, template: GvisorTemplate
    ) -> Plan:
        plan = self._plan_with_relay(spec, record, template.environment)
        return Plan(
            arguments=[*plan.arguments, "--ro-bind", str(template.image), runsc.IMAGE],
            configuration=plan.configuration,
            command=runsc.restore(record.id),
        )

    def _plan_with_relay(
        self, spec: SandboxSpec, record: Record, environment: dict[str, str]
    ) -> Plan:
        folder = self._relay_folder(record)
        folder.mkdir(parents=True, mode=0o700)
        folder.parent.chmod(0o711)
        if record.uid is not None:
            os.chown(folder, record.uid, record.uid)
        own = preparing.programs(self._directory)
        relay = (Mount(str(folder), preparing.RELAY),)
        return self._plan(preparing.unlimited(spec), record, environment, own, relay)

    def _relay_folder(self, record: Record) -> Path:
        return self._directory / "relays" / record.mark

    @property
    def _limits_memory_inside(self) -> bool:
        return not self._cgroups.limits("memory")

    def _interpreter_mounts(self, spec: SandboxSpec) -> tuple[Mount, ...]:
        interpreter = None if spec.root else self._interpreters.get(spec.command[0])
        return interpreter.mounts if interpreter else ()

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
        ended = await super().sweep(keep)
        for template in list(self._templates.values()):
            if template.id not in keep and f"template-{template.id}" not in self._to_prepare:
                await template.close()
                ended.append(template.id)
        await in_thread(self._remove_unknown_images)
        return ended

    def _remove_unknown_images(self) -> None:
        """Of processes of ours that were killed."""
        known = {template.image for template in self._templates.values()}
        with contextlib.suppress(FileNotFoundError):
            for image in (self._directory / "images").iterdir():
                if image not in known:
                    shutil.rmtree(image, ignore_errors=True)

    async def close(self) -> None:
        await super().close()
        for template in list(self._templates.values()):
            await template.close()
        self._opener.close()
        self._cgroups.close()

    def _sandbox(self, record: Record, limits: Limits) -> GvisorSandbox:
        assert record.cgroup
        kind = RestoredSandbox if record.template else GvisorSandbox
        return kind(
            record=record,
            group=self._cgroups.group(record.cgroup),
            memory_max=limits.memory_bytes_max,
            opener=self._opener,
            forget=self._forget,
            relay=self._relay_folder(record),
            limits_memory_inside=self._limits_memory_inside,
        )


def _unsuited(template: Template, spec: SandboxSpec) -> str | None:
    if spec.root is not None:
        return "an image has no template"
    if isinstance(template, GvisorTemplate):
        return template.unsuited(spec)
    return f"template {template.id} is of another tier"


def _on_the_host(limits: Limits) -> Limits:
    """The group counts gVisor's own tasks too; those inside are counted by its kernel."""
    return msgspec.structs.replace(
        limits, processes_max=limits.processes_max * _TASKS_EACH + _TASKS_OWN
    )


def _identity() -> str:
    return "host users for each sandbox" if os.geteuid() == 0 else "as the user who runs this"
