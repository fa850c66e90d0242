"""The templates of a container driver: how one is prepared, and a session forked off it."""

import asyncio
import contextlib
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from freehold.adapters.sandbox import processes, records, rlimits, users
from freehold.adapters.sandbox.cgroups import Cgroups
from freehold.adapters.sandbox.container import bubblewrap, seccomp
from freehold.adapters.sandbox.environment import completed
from freehold.adapters.sandbox.launcher import installed_copy
from freehold.adapters.sandbox.output import opened
from freehold.adapters.sandbox.processes import MARK_VARIABLE, Watch, identify
from freehold.adapters.sandbox.records import Record, Records
from freehold.adapters.sandbox.template import tracing
from freehold.adapters.sandbox.template.forking import ForkServer, TemplateLost
from freehold.adapters.sandbox.template.forks import Fork, Forks
from freehold.adapters.sandbox.template.ground import Ground
from freehold.adapters.sandbox.template.session import FORK_FLAGS, INSIDE_UID
from freehold.adapters.sandbox.template.template import (
    ContainerTemplate,
    end_own_process,
    launched,
)
from freehold.kernel.threads import in_thread
from freehold.ports.sandbox import LAUNCHER, Limits, Mount, TemplateSpec

_FOLDER = Path(LAUNCHER).parent
_PROGRAMS = ("inside.py", "needs.py", "sharing.py")
_MARK_PLACEHOLDER = "0" * 16  # a session's first process writes its own over it


class Templates:
    def __init__(
        self,
        *,
        directory: Path,
        cgroups: Cgroups,
        uids: range,
        ground: Callable[[str, tuple[Mount, ...], int | None], Ground],
    ) -> None:
        self._directory = directory
        self._cgroups = cgroups
        self._uids = uids
        self._ground = ground
        self._records = Records(directory / "templates")
        self._templates: dict[str, ContainerTemplate] = {}
        self._news: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._server = ForkServer(self._on_news)
        self._forks = Forks(
            server=self._server, spares=Records(directory / "spares"), cgroups=cgroups, uids=uids
        )

    @property
    def forker_pid(self) -> int | None:
        return self._server.pid

    def spares(self, template_id: str) -> list[int]:
        return self._forks.waiting(template_id)

    async def prepare(self, spec: TemplateSpec) -> ContainerTemplate:
        if spec.id in self._templates or self._records.load(spec.id):
            raise TemplateLost(f"a template {spec.id} exists already")
        record = records.new(spec.id, spec.directory)
        record.cgroup = f"template.{spec.id}.{record.mark}"
        record.uid = users.free(self._uids, self._records.uids())
        template = self._template(spec, record)
        self._templates[spec.id] = template
        self._news[spec.id] = asyncio.get_running_loop().create_future()
        try:
            notes = await self._imported(spec, template)
        except (TemplateLost, OSError) as error:
            template.become(
                "unfit", error.message if isinstance(error, TemplateLost) else str(error)
            )
            await template.close()
        except BaseException:
            await asyncio.shield(template.close())
            raise
        else:
            template.become_ready(notes["reads"])
            await in_thread(template.group.lift_memory_limit)
            self._forks.replenish(template)
        finally:
            self._news.pop(spec.id, None)
        return template

    async def _imported(self, spec: TemplateSpec, template: ContainerTemplate) -> dict[str, Any]:
        if platform.machine() != tracing.MACHINE:
            raise TemplateLost(f"templates are made for {tracing.MACHINE} alone so far")
        program = bubblewrap.installed()
        if not program:
            raise TemplateLost("bubblewrap is not installed")
        await self._start(program, spec, template)
        try:
            async with asyncio.timeout(spec.import_seconds_max):
                news = await self._news[spec.id]
        except TimeoutError:
            raise TemplateLost(f"imports for more than {spec.import_seconds_max:g} s") from None
        if not news["ready"]:
            raise TemplateLost(news["reason"])
        notes: dict[str, Any] = news["notes"]
        if notes["shadowed"]:
            names = ", ".join(notes["shadowed"])
            raise TemplateLost(f"the agent's own modules hide others that are imported: {names}")
        return notes

    async def _start(self, program: str, spec: TemplateSpec, template: ContainerTemplate) -> None:
        record = template.record
        arguments, command, read_only = await in_thread(self._prepared, spec, template)
        with (
            bubblewrap.memory_file("\0".join(arguments).encode()) as args,
            bubblewrap.memory_file(seccomp.program(FORK_FLAGS)) as filter_,
            opened(spec.output, record.uid) as output,
        ):
            answers = await self._server.request(
                "open",
                [args, filter_, output],
                template=spec.id,
                program=program,
                command=command,
                environment={MARK_VARIABLE: record.mark},
                uid=record.uid,
                map=self._map(record.uid),
                groups=template.group.directories,
                read_only=read_only,
            )
            with answers:
                init = Watch.found(identify((await answers.next())["init"]))
        if init is None:
            raise TemplateLost("it ended while it was set up")
        template.hold(init)
        record.init = init.process
        self._records.save(record)

    def _prepared(
        self, spec: TemplateSpec, template: ContainerTemplate
    ) -> tuple[list[str], list[str], list[str]]:
        """bubblewrap's arguments, the command inside, what is read-only there; blocks."""
        record = template.record
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        self._records.save(record)
        readable = tuple(mount for mount in spec.mounts if not mount.writable)
        ground = self._ground(spec.command[0], readable, record.uid)
        here = Path(__file__).parent
        own = [
            Mount(str(installed_copy(here / name, self._directory)), str(_FOLDER / name))
            for name in _PROGRAMS
        ]
        Path(spec.directory).mkdir(parents=True, exist_ok=True, mode=0o700)
        template.group.create(spec.limits)
        mounts = [*ground.mounts, *own]
        arguments = bubblewrap.template_arguments(
            mounts=mounts,
            limits=spec.limits,
            environment={MARK_VARIABLE: _MARK_PLACEHOLDER, **template_environment(spec)},
            etc=ground.etc,
            launcher=ground.launcher,
        )
        config = {"launched": launched(spec.command), "modules": [[m] for m in spec.modules]}
        padded = json.dumps(config).ljust(4096)  # its place is a session's command line later
        memory, tasks = (not self._cgroups.limits(each) for each in ("memory", "pids"))
        # What a session may have more of, it could not take if these were hard.
        limited = rlimits.prefix(spec.limits, memory=memory, processes=tasks, hard=False)
        command = [*limited, spec.command[0], "-u", str(_FOLDER / "inside.py"), padded]
        prefixes = ["/usr/", "/etc/", "/lib", *(f"{mount.target}/" for mount in mounts)]
        return arguments, command, prefixes

    def _map(self, uid: int | None) -> list[tuple[int, int, int]]:
        """Of the template's user namespace, of which those of its sessions are children. A number
        that it maps gives the template nothing, since it lacks the capability to become it."""
        if uid is None:
            return [(INSIDE_UID, 0, 1)]  # 0: as the forker counts
        first, last = self._uids[0], self._uids[-1]
        around = [(first, first, uid - first), (uid + 1, uid + 1, last - uid)]
        return [(INSIDE_UID, uid, 1), *(extent for extent in around if extent[2] > 0)]

    def fork(self, template: ContainerTemplate, limits: Limits) -> Fork:
        return Fork(self._forks, template, self._limits(limits))

    def _limits(self, limits: Limits) -> dict[str, int]:
        wanted = {"nofile": limits.open_files_max, "core": 0}
        if not self._cgroups.limits("memory"):
            wanted["data"] = limits.memory_bytes_max
        if not self._cgroups.limits("pids"):
            wanted["nproc"] = limits.processes_max
        return wanted

    async def sweep(self, keep: set[str]) -> list[str]:
        await self._forks.sweep()
        ended = []
        for record in self._records.all():
            if record.id in keep or record.id in self._news:
                continue
            template = self._templates.get(record.id) or self._template(None, record)
            if record.id not in self._templates and not await _left_alone(record):
                # Sessions hang on it: cleared away with the last of them, or with us.
                if record.init and (init := Watch.found(record.init)):
                    template.hold(init)
                    self._templates[record.id] = template
                await template.close()
                continue
            await template.close()
            ended.append(record.id)
        return ended

    async def close(self) -> None:
        for template in list(self._templates.values()):
            await template.close()
        for template in list(self._templates.values()):
            template.let_go()
        self._templates.clear()
        self._server.close()

    def _template(self, spec: TemplateSpec | None, record: Record) -> ContainerTemplate:
        assert record.cgroup
        spec = spec or TemplateSpec(
            id=record.id, command=("",), directory=record.directory, output=""
        )
        return ContainerTemplate(
            spec=spec,
            record=record,
            group=self._cgroups.group(record.cgroup),
            environment=template_environment(spec),
            end_process=self._end_process,
            forget=self._forget,
        )

    async def _end_process(self, name: str) -> None:
        await self._forks.end_spares(name)
        if self._server.pid is None:
            return
        with contextlib.suppress(TemplateLost):
            answers = await self._server.request("close", template=name)
            with answers:
                await answers.next()

    def _forget(self, template: ContainerTemplate) -> None:
        self._templates.pop(template.id, None)
        self._records.forget(template.id)

    def _on_news(self, news: dict[str, Any] | None) -> None:
        """None: the forker ended, and with it all that it held."""
        for name in [news["template"]] if news else list(self._templates):
            said = news or {"ready": False, "reason": "the process that forks templates ended"}
            waiting, template = self._news.get(name), self._templates.get(name)
            if waiting and not waiting.done():
                waiting.set_result(said)
            elif template and template.state == "ready" and not said["ready"]:
                template.become("unfit", said["reason"])


class _SamePorts(dict[int, int]):
    """A port inside is the one that was asked for."""

    def __missing__(self, port: int) -> int:
        return port


def template_environment(spec: TemplateSpec) -> dict[str, str]:
    return completed(spec, ports=_SamePorts(), defaults=bubblewrap.DEFAULT_ENVIRONMENT)


async def _left_alone(record: Record) -> bool:
    """Of a template that an earlier process of ours made: whether no session hangs on it."""
    if not record.of_this_boot:
        return True
    if record.init is None:
        await in_thread(processes.kill_marked, record.mark)
        return True
    init = Watch.found(record.init)
    if init is None:
        return True
    try:
        end_own_process(record.init.pid)
        if processes.children(record.init.pid):
            # What was just killed is a child for a moment longer.
            await init.gone(0.1)
        return not init.alive
    finally:
        init.close()
