"""How runsc is started inside the outer namespaces, and held back until all is in place."""

import os
import subprocess
from collections.abc import Callable

import msgspec

from freehold.adapters.sandbox.container import bubblewrap, handshake
from freehold.adapters.sandbox.container.sandbox import ContainerSandbox
from freehold.adapters.sandbox.gvisor import outer
from freehold.adapters.sandbox.processes import Watch, identify
from freehold.adapters.sandbox.records import Record
from freehold.kernel.threads import in_thread
from freehold.ports.sandbox import SandboxFailed, SandboxSpec

INSTALL_BUBBLEWRAP = "install bubblewrap: apt-get install bubblewrap"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`arguments` are bubblewrap's, `configuration` is runsc's, `command` is run around it."""

    arguments: list[str]
    configuration: bytes
    command: tuple[str, ...]
    around: tuple[str, ...] = ()
    stdin: int = subprocess.DEVNULL
    stdout: int | None = None


async def started(
    plan: Plan, spec: SandboxSpec, sandbox: ContainerSandbox, save: Callable[[Record], None]
) -> None:
    program, record = bubblewrap.installed(), sandbox.record
    if not program:
        raise SandboxFailed(INSTALL_BUBBLEWRAP)
    with (
        handshake.pipes() as (info, info_end, block),
        handshake.gate() as mapped,
        bubblewrap.memory_file(plan.configuration) as configuration,
    ):
        descriptors = {"--info-fd": info_end, "--block-fd": block}
        if record.uid is not None:
            descriptors["--userns-block-fd"] = mapped
        child = bubblewrap.spawn(
            program,
            arguments=outer.with_configuration(plan.arguments, configuration),
            command=plan.command,
            uid=None if record.uid is None else outer.root_of(record.uid),
            owner=record.uid,
            output=spec.output,
            mark=record.mark,
            descriptors=descriptors,
            also=(configuration,),
            around=plan.around,
            stdin=plan.stdin,
            stdout=plan.stdout,
        )
        monitor = Watch.child(child)
        sandbox.hold(monitor)
        pid = await handshake.child_pid(info, monitor)
        init = Watch.found(identify(pid))
        if init is None:
            raise SandboxFailed("the sandbox ended while it was set up")
        sandbox.hold(monitor, init)
        await in_thread(sandbox.group.join, pid)
        if record.uid is not None:
            outer.map_users(pid, record.uid)
            os.write(mapped, b"x")
        await sandbox.listen(spec.loopback_ports)
        record.monitor, record.init = monitor.process, init.process
        save(record)
        os.write(block, b"x")
