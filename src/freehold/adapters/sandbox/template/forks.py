"""Sessions that are forked off a template, from the driver's side; some of them ahead of need.

A fork goes through three hands: it is confined, furnished with what is its own, and released. Up
to the last nothing of it runs, and it dies with the forker. The first part waits for the kernel
(namespaces, control groups) and needs nothing of the session; so a template keeps spares which are
through with it.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator

import msgspec

from freehold.adapters.sandbox import records, users
from freehold.adapters.sandbox.cgroups import Cgroups, Group
from freehold.adapters.sandbox.container.sandbox import ContainerSandbox
from freehold.adapters.sandbox.execution import surroundings
from freehold.adapters.sandbox.output import opened
from freehold.adapters.sandbox.processes import MARK_VARIABLE, Watch, identify
from freehold.adapters.sandbox.records import Record, Records
from freehold.adapters.sandbox.template.forking import ForkServer, TemplateLost
from freehold.adapters.sandbox.template.ground import Ground, steps
from freehold.adapters.sandbox.template.inside import instructions
from freehold.adapters.sandbox.template.session import INSIDE_UID
from freehold.adapters.sandbox.template.template import ContainerTemplate, ForkedProcess
from freehold.kernel.threads import in_thread
from freehold.ports.sandbox import Limits, SandboxFailed, SandboxSpec

_PAUSE_SECONDS = 0.1
"""Before the next spare is made: the session that took the last one needs the processors first."""


class Spare(msgspec.Struct, frozen=True, eq=False):
    pid: int
    number: int
    init: Watch
    record: Record
    group: Group


class Forks:
    """`directory` keeps what is known of spares, for a sweep by a later process of ours."""

    def __init__(
        self, *, server: ForkServer, spares: Records, cgroups: Cgroups, uids: range
    ) -> None:
        self._server = server
        self._records = spares
        self._cgroups = cgroups
        self._uids = uids
        self._spares: dict[str, list[Spare]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._dropping: set[asyncio.Task[None]] = set()

    def waiting(self, template_id: str) -> list[int]:
        """The pids of spares that the next sessions will take."""
        return [spare.pid for spare in self._spares.get(template_id, [])]

    def claimed(self, template: ContainerTemplate) -> Spare | None:
        waiting = self._spares.get(template.id, [])
        spare = waiting.pop(0) if waiting else None
        self.replenish(template, _PAUSE_SECONDS)
        if spare and not spare.init.alive:
            task = asyncio.ensure_future(self._dropped(spare))
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)
            return self.claimed(template)
        return spare

    def replenish(self, template: ContainerTemplate, after_seconds: float = 0) -> None:
        if template.spec.spares and template.id not in self._tasks:
            task = asyncio.ensure_future(self._replenish(template, after_seconds))
            self._tasks[template.id] = task

    async def _replenish(self, template: ContainerTemplate, after_seconds: float) -> None:
        try:
            await asyncio.sleep(after_seconds)
            spares = self._spares.setdefault(template.id, [])
            # What cannot be made ahead cannot be made at need either, and then it is said why.
            with contextlib.suppress(SandboxFailed, OSError):
                while len(spares) < template.spec.spares and template.state == "ready":
                    spares.append(await self._made(template))
        finally:  # at once, and in no callback: whoever claims the next spare has another made
            self._tasks.pop(template.id, None)

    async def _made(self, template: ContainerTemplate) -> Spare:
        record = records.new("spare", "")
        record.id = record.cgroup = f"spare.{record.mark}"
        record.uid = users.free(self._uids, self._records.uids())
        group = self._cgroups.group(record.cgroup)
        self._records.save(record)
        try:
            await in_thread(group.create, Limits())
            pid, number = await self.fork(
                template, record.uid, lambda pid: in_thread(group.join, pid)
            )
            await self.told("complete", pid)
            init = Watch.found(identify(pid))
            if init is None:
                raise TemplateLost("the session ended while it was set up")
        except BaseException:
            await asyncio.shield(self._cleared(record, group))
            raise
        return Spare(pid, number, init, record, group)

    async def fork(
        self,
        template: ContainerTemplate,
        uid: int | None,
        meanwhile: Callable[[int], Awaitable[None]],
    ) -> tuple[int, int]:
        """The pid, and the number of the request. `meanwhile` has the process, not yet confined."""
        answers = await self._server.request(
            "fork",
            template=template.id,
            user=INSIDE_UID if uid is None else uid,
            seen_as=uid or 0,
        )
        with answers:
            try:
                pid: int = (await answers.next())["pid"]
                await meanwhile(pid)
                await answers.next()
            except BaseException:  # it may have been born, though we never heard of it
                await asyncio.shield(self._abandon(answers.number))
                raise
        return pid, answers.number

    async def _abandon(self, number: int) -> None:
        with contextlib.suppress(TemplateLost):
            await self._answered("abandon", of=number)

    async def _cleared(self, record: Record, group: Group) -> None:
        await in_thread(group.remove)
        self._records.forget(record.id)

    def handed_over(self, spare: Spare) -> None:
        """Its session is written down now."""
        self._records.forget(spare.record.id)

    async def furnish(
        self, pid: int, descriptors: list[int], **what: object
    ) -> Callable[[], Awaitable[object]]:
        """Returns as soon as it is asked for. What it returns waits until it is done."""
        answers = await self._server.request("furnish", descriptors, pid=pid, **what)

        async def done() -> None:
            with answers:
                await answers.next()

        return done

    async def told(self, what: str, pid: int) -> None:
        await self._answered(what, pid=pid)

    async def _answered(self, do: str, **what: int) -> None:
        with await self._server.request(do, (), **what) as answers:
            await answers.next()

    async def end_spares(self, template_id: str) -> None:
        if task := self._tasks.pop(template_id, None):
            task.cancel()
            await asyncio.wait([task])
        for spare in self._spares.pop(template_id, []):
            await self._dropped(spare)
        if self._dropping:
            await asyncio.wait(self._dropping)

    async def _dropped(self, spare: Spare) -> None:
        await self._abandon(spare.number)
        spare.init.close()
        await self._cleared(spare.record, spare.group)

    async def sweep(self) -> None:
        """What an earlier process of ours left: the forker took the processes with it."""
        known = {spare.record.id for spares in self._spares.values() for spare in spares}
        for record in self._records.all():
            if record.id not in known and not self._tasks:
                assert record.cgroup
                with contextlib.suppress(OSError):  # still dying: the next sweep has its record
                    await self._cleared(record, self._cgroups.group(record.cgroup))


@contextlib.contextmanager
def _nothing() -> Iterator[int]:
    descriptor = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Fork:
    """One start from a template: `claim`, `begin`, `finish`, in this order."""

    def __init__(self, forks: Forks, template: ContainerTemplate, limits: dict[str, int]) -> None:
        self.template = template
        self._forks = forks
        self._limits = limits
        self._spare: Spare | None = None
        self._told, self._theirs = socket.socketpair()
        self._told.setblocking(False)
        self._is_held = False

    def claim(self, record: Record) -> None:
        record.template = self.template.id
        self._spare = self._forks.claimed(self.template)
        if self._spare:
            record.uid, record.cgroup = self._spare.record.uid, self._spare.record.cgroup

    def begin(self, sandbox: ContainerSandbox) -> None:
        """From here on `sandbox` ends what there is."""
        if self._spare:
            self._hold(sandbox, self._spare.pid, self._spare.init)

    def _hold(self, sandbox: ContainerSandbox, pid: int, init: Watch) -> None:
        try:
            monitor = Watch.child(ForkedProcess(pid, self._told))
            self._is_held = True
            sandbox.hold(monitor, init)
        except OSError:
            raise TemplateLost("the session ended while it was set up") from None
        sandbox.record.monitor, sandbox.record.init = monitor.process, init.process

    async def finish(
        self,
        spec: SandboxSpec,
        sandbox: ContainerSandbox,
        ground: Ground,
        environment: dict[str, str],
        save: Callable[[Record], None],
    ) -> None:
        """Like bubblewrap's start: nothing of the session runs until all around it is in place."""
        record = sandbox.record
        if self._spare is None:
            await self._forks.fork(
                self.template, record.uid, lambda pid: self._joined(sandbox, pid)
            )
        assert record.init
        pid = record.init.pid
        with (
            self._theirs,
            opened(spec.output, record.uid) as output,
            _nothing() as none,
            surroundings.kept_environment(environment) as kept,
        ):
            furnished = await self._forks.furnish(
                pid,
                [kept, none, output, self._theirs.fileno()],
                steps=steps(spec.limits, ground),
                limits=self._limits,
                mark=f"{MARK_VARIABLE}={record.mark}",
                command=spec.command,
            )
        await sandbox.listen(spec.loopback_ports)
        save(record)
        if self._spare:
            self._forks.handed_over(self._spare)
        await furnished()
        await self._forks.told("release", pid)
        told = instructions(spec.workdir, spec.command, environment)
        await asyncio.get_running_loop().sock_sendall(self._told, told)

    async def _joined(self, sandbox: ContainerSandbox, pid: int) -> None:
        init = Watch.found(identify(pid))
        if init is None:
            raise TemplateLost("the session ended while it was set up")
        self._hold(sandbox, pid, init)
        await in_thread(sandbox.group.join, pid)

    def close(self) -> None:
        """Of the session socket, our end belongs to whom the sandbox holds, if it holds anyone."""
        self._theirs.close()
        if not self._is_held:
            self._told.close()
