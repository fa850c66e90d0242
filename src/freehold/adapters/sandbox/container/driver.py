"""Starts, finds again and ends bubblewrap sandboxes."""

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from freehold.adapters.sandbox import hierarchies, ownership, rlimits
from freehold.adapters.sandbox.container import bubblewrap, etc, seccomp
from freehold.adapters.sandbox.container.sandbox import ContainerSandbox
from freehold.adapters.sandbox.environment import completed
from freehold.adapters.sandbox.launcher import installed_launcher
from freehold.adapters.sandbox.opener import Opener
from freehold.adapters.sandbox.processes import Watch, identify
from freehold.adapters.sandbox.recorded import RecordedDriver
from freehold.adapters.sandbox.records import Record
from freehold.adapters.sandbox.threads import in_thread
from freehold.ports.interpreters import Interpreter
from freehold.ports.sandbox import Limits, Mount, Probe, SandboxFailed, SandboxSpec

_INSTALL = "install bubblewrap: apt-get install bubblewrap"
_PATH = "/usr/local/bin:/usr/bin:/bin"


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
        self._interpreters = {each.executable: each for each in (interpreters or {}).values()}
        self._provide = provide
        self._uids = _mapped(range(uid_base, uid_base + uid_count))
        self._cgroups = hierarchies.discover(cgroup)
        self._opener = Opener()

    async def probe(self) -> Probe:
        program = bubblewrap.installed()
        if not program:
            return Probe(False, _INSTALL)
        if problem := seccomp.missing() or bubblewrap.too_old(program):
            return Probe(False, problem)
        scratch = Path(tempfile.mkdtemp(prefix="freehold-probe-"))
        try:
            return await self._try_one(scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    async def _try_one(self, scratch: Path) -> Probe:
        output = scratch / "output"
        spec = SandboxSpec(
            id=f"probe-{secrets.token_hex(6)}",
            command=("/usr/bin/env", "true"),
            environment={},
            directory=str(scratch / "sandbox"),
            output=str(output),
        )
        try:
            sandbox = await self.start(spec)
        except SandboxFailed as error:
            return Probe(False, _explained(error.message, output))
        end = await sandbox.wait()
        await sandbox.stop()
        if end.code != 0:
            return Probe(False, _explained(end.reason, output))
        missing = ", ".join(self._cgroups.missing)
        unlimited = f"; no control group for {missing}: falls back to rlimits" if missing else ""
        return Probe(True, f"bubblewrap, {_identity()}{unlimited}")

    def _new_record(self, spec: SandboxSpec) -> Record:
        record = self._record(spec)
        record.cgroup = f"{spec.id}.{record.mark}"
        record.uid = self._free_uid()
        record.writable = tuple(mount.source for mount in spec.mounts if mount.writable)
        return record

    async def _bring_up(self, spec: SandboxSpec, sandbox: ContainerSandbox) -> None:
        """bubblewrap holds the payload back until all around it is in place."""
        program = bubblewrap.installed()
        if not program:
            raise SandboxFailed(_INSTALL)
        record = sandbox.record
        arguments, filter_ = await in_thread(self._prepare, program, spec, sandbox)
        with _pipes() as (info, info_end, block), bubblewrap.memory_file(filter_) as seccomp_file:
            child = bubblewrap.spawn(
                program,
                arguments=arguments,
                command=self._limited(spec),
                seccomp=seccomp_file,
                uid=record.uid,
                output=spec.output,
                mark=record.mark,
                info=info_end,
                block=block,
            )
            monitor = Watch.child(child)
            sandbox.hold(monitor)
            pid = await _child_pid(info, monitor)
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
        self, program: str, spec: SandboxSpec, sandbox: ContainerSandbox
    ) -> tuple[list[str], bytes]:
        """The files, the group and the command line; blocks."""
        record = sandbox.record
        mounts = [*self._interpreter_mounts(spec.command[0]), *spec.mounts]
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        self._records.save(record)
        inside_own = Mount(str(self._directory / "records"), "")
        bubblewrap.require_reachable([inside_own, *mounts], record.uid is not None)
        Path(spec.directory).mkdir(parents=True, exist_ok=True, mode=0o700)
        if record.uid is not None:
            for source in record.writable:
                ownership.give(source, record.uid, record.uid)
        sandbox.group.create(spec.limits)
        environment = completed(
            spec,
            ports={port: port for port in spec.loopback_ports},
            defaults={"PATH": _PATH, "HOME": bubblewrap.HOME, "TMPDIR": "/tmp"},  # noqa: S108
        )
        arguments = bubblewrap.arguments(
            program,
            spec,
            environment=environment,
            mounts=mounts,
            etc=etc.prepared(self._directory),
            launcher=installed_launcher(self._directory),
        )
        return arguments, seccomp.program()

    def _interpreter_mounts(self, executable: str) -> tuple[Mount, ...]:
        if self._provide is not None:
            self._provide(executable)
        interpreter = self._interpreters.get(executable)
        return interpreter.mounts if interpreter else ()

    def _limited(self, spec: SandboxSpec) -> tuple[str, ...]:
        """What no control group limits, a process limits for itself."""
        memory, processes = (not self._cgroups.limits(each) for each in ("memory", "pids"))
        return rlimits.prefix(spec.limits, memory=memory, processes=processes) + spec.command

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

    async def close(self) -> None:
        await super().close()
        self._opener.close()
        self._cgroups.close()

    def _sandbox(self, record: Record, limits: Limits) -> ContainerSandbox:
        assert record.cgroup
        return ContainerSandbox(
            record=record,
            group=self._cgroups.group(record.cgroup),
            memory_max=limits.memory_bytes_max,
            opener=self._opener,
            forget=self._forget,
        )

    def _free_uid(self) -> int | None:
        if os.geteuid() != 0 or not self._uids:
            return None
        taken = {record.uid for record in self._records.all()}
        while (uid := secrets.choice(self._uids)) in taken:
            pass
        return uid


def _mapped(wanted: range) -> range:
    """`wanted`, or where root is itself confined to few users, the upper half of those."""
    extents = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    known = [range(int(first), int(first) + int(count)) for first, _, count in extents]
    if any(wanted[0] in extent and wanted[-1] in extent for extent in known):
        return wanted
    widest = max(known, key=len)
    return widest[len(widest) // 2 :] if len(widest) > 1 else range(0)


@contextlib.contextmanager
def _pipes() -> Iterator[tuple[int, int, int]]:
    """(what bubblewrap tells, its end of that, what it waits for)."""
    info, info_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    read, write = os.pipe2(os.O_CLOEXEC)
    # Both directions in one descriptor: bubblewrap holds a writer itself, and never takes our
    # death for the signal to go on without limits.
    block = os.open(f"/proc/self/fd/{read}", os.O_RDWR | os.O_CLOEXEC)
    os.close(read)
    os.close(write)
    try:
        yield info, info_end, block
    finally:
        for descriptor in (info, info_end, block):
            os.close(descriptor)


async def _child_pid(info: int, monitor: Watch) -> int:
    loop = asyncio.get_running_loop()
    found: asyncio.Future[int] = loop.create_future()
    message = bytearray()

    def read() -> None:
        chunk = os.read(info, 4096)
        message.extend(chunk)
        pid = bubblewrap.child_pid(bytes(message))
        if pid is not None and not found.done():
            found.set_result(pid)
        if not chunk or pid is not None:
            loop.remove_reader(info)

    loop.add_reader(info, read)
    try:
        either: list[asyncio.Future[int] | asyncio.Future[int | None]] = [found, monitor.exited]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(info)
    if not found.done():
        raise SandboxFailed("bubblewrap could not set up the sandbox; its output says why")
    return found.result()


def _identity() -> str:
    return "a host user for each sandbox" if os.geteuid() == 0 else "as the user who runs this"


def _explained(problem: str, output: Path) -> str:
    said = output.read_text(errors="replace").strip()[-500:] if output.exists() else ""
    refused = any(word in said for word in ("ermission denied", "not permitted", "namespace"))
    advice = (
        "; user namespaces may be refused here: on Ubuntu give bwrap an AppArmor profile with"
        " `userns,` or set kernel.apparmor_restrict_unprivileged_userns=0; elsewhere see"
        " user.max_user_namespaces and kernel.unprivileged_userns_clone"
    )
    return f"{problem}{': ' + said if said else ''}{advice if refused else ''}"
