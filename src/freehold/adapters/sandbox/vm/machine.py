"""Starts the process that is one machine."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from freehold.adapters.sandbox import kvm, output
from freehold.adapters.sandbox.container import bubblewrap, handshake
from freehold.adapters.sandbox.processes import Watch, identify
from freehold.adapters.sandbox.vm import qemu, sockets
from freehold.adapters.sandbox.vm.boot import Boot
from freehold.adapters.sandbox.vm.qemu import Descriptors, Shape
from freehold.adapters.sandbox.vm.sandbox import CONTROL_SOCKET, LOG, QMP_SOCKET, VmSandbox
from freehold.kernel.threads import in_thread
from freehold.ports.sandbox import SandboxFailed, SandboxSpec


async def spawn(
    sandbox: VmSandbox,
    spec: SandboxSpec,
    *,
    shape: Shape,
    boot: Boot,
    memory: int | None,
    share: bool,
    incoming: bool,
    on_known: Callable[[], None],
) -> None:
    """`memory` and `share`: see `qemu.arguments`. `incoming`: it waits for the state of a snapshot.

    bubblewrap holds QEMU back until its group limits it, and its processes are written down.
    """
    program, bwrap = qemu.installed(), bubblewrap.installed()
    assert program
    assert bwrap
    record = sandbox.record
    with (
        _given(spec, shape, boot, memory) as (given, also),
        handshake.pipes() as (info, info_end, block),
    ):
        child = bubblewrap.spawn(
            bwrap,
            arguments=qemu.jail(record.mark, emulated=shape.emulated),
            command=qemu.arguments(program, shape, given, share=share, incoming=incoming),
            uid=record.uid,
            output=str(Path(spec.directory, LOG)),
            mark=record.mark,
            descriptors={"--info-fd": info_end, "--block-fd": block},
            also=(*given.all(), *also),
            groups=() if shape.emulated else kvm.groups(),
        )
        monitor = Watch.child(child)
        sandbox.hold(monitor)
        pid = await handshake.child_pid(info, monitor)
        init = Watch.found(identify(pid))
        if init is None:
            raise SandboxFailed("the machine ended while it was set up")
        sandbox.hold(monitor, init)
        await in_thread(sandbox.group.join, pid)
        record.monitor, record.init = monitor.process, init.process
        on_known()
        os.write(block, b"x")


@contextlib.contextmanager
def _given(
    spec: SandboxSpec, shape: Shape, boot: Boot, memory: int | None
) -> Iterator[tuple[Descriptors, list[int]]]:
    """What QEMU is given, and what it only keeps open."""
    directory = Path(spec.directory)
    with contextlib.ExitStack() as stack:

        def opened(path: str | Path) -> int:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            return descriptor

        control = stack.enter_context(sockets.listening(directory / CONTROL_SOCKET, 1))
        qmp = stack.enter_context(sockets.listening(directory / QMP_SOCKET, 1))
        held = stack.enter_context(output.opened(spec.output))
        # QEMU insists on a descriptor that can only be written. Where that is a FIFO, the other
        # one keeps it open while nobody reads.
        written, also = held, []
        if stat.S_ISFIFO(os.fstat(held).st_mode):
            written, also = os.open(f"/proc/self/fd/{held}", os.O_WRONLY | os.O_CLOEXEC), [held]
            stack.callback(os.close, written)
        yield (
            Descriptors(
                control=control.fileno(),
                qmp=qmp.fileno(),
                output=written,
                kernel=opened(boot.kernel),
                first_files=opened(boot.first_files),
                memory=memory,
                disks=tuple(opened(path) for _, path in shape.disks),
            ),
            also,
        )
