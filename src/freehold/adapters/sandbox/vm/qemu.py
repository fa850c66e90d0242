"""The command line of one machine.

No network card, no shared folder, no display, no keyboard. What reaches the host is a serial line
with two ports (our protocol, and what the command prints), and disks that can only be read.
All that the process opens was opened for it: it sees descriptors, no paths.
"""

import math
import os
import shutil
from pathlib import Path

import msgspec

from freehold.adapters.sandbox.container import bubblewrap
from freehold.adapters.sandbox.processes import MARK_VARIABLE
from freehold.ports.sandbox import Limits

INSTALL = "install QEMU: apt-get install qemu-system-x86"
MIB = 1 << 20
IMAGES_MAX = 20  # a microvm has room for 24 devices

_GUEST_OWN_BYTES = 96 * MIB
_GUEST_OWN_PART = 32
"""The guest's kernel and our agent need memory beside the command's; the kernel, the more of it
there is to keep books of."""
_QEMU_OWN_BYTES = 256 * MIB
_QEMU_THREADS_MAX = 128
_AGENT_CPUS = 0.1

# More would be had, but what programs then do with it is slow to emulate.
_EMULATED_CPU = "Nehalem"
_KERNEL_LINE = "console=ttyS0 quiet panic=-1 reboot=t net.ifnames=0"
# Emulated time is not measured at start: it would take a second, and be wrong under load. Its
# kernel guards no secret of another's against the processor.
_EMULATED_LINE = "nokaslr mitigations=off tsc_early_khz=2400000 lpj=4800000 no_timer_check"


class Shape(msgspec.Struct, frozen=True):
    """What cannot change between a snapshot and what begins from it."""

    memory_bytes: int
    processors: int
    disks: tuple[tuple[str, str], ...]
    """(serial, path) of each."""
    emulated: bool


class Descriptors(msgspec.Struct, kw_only=True):
    """What the process is given. `memory` holds the guest's; `disks` are in the shape's order."""

    control: int
    qmp: int
    output: int
    kernel: int
    first_files: int
    memory: int | None = None
    disks: tuple[int, ...] = ()

    def all(self) -> tuple[int, ...]:
        fixed = (self.control, self.qmp, self.output, self.kernel, self.first_files)
        return (*fixed, *(() if self.memory is None else (self.memory,)), *self.disks)


def installed() -> str | None:
    return shutil.which("qemu-system-x86_64", path=os.environ.get("PATH", os.defpath) + ":/usr/bin")


def shape(limits: Limits, disks: tuple[tuple[str, str], ...], *, emulated: bool) -> Shape:
    own = _GUEST_OWN_BYTES + limits.memory_bytes_max // _GUEST_OWN_PART
    memory = limits.memory_bytes_max + own
    return Shape(
        memory_bytes=(memory + MIB - 1) // MIB * MIB,
        # Two that are emulated wait for each other more than they help.
        processors=1 if emulated else max(1, min(math.ceil(limits.cpus_max), os.cpu_count() or 1)),
        disks=disks,
        emulated=emulated,
    )


def on_the_host(limits: Limits, shape: Shape) -> Limits:
    """What the process as a whole may use. The guest's kernel holds the command to the limits."""
    return msgspec.structs.replace(
        limits,
        memory_bytes_max=shape.memory_bytes + _QEMU_OWN_BYTES,
        cpus_max=limits.cpus_max + _AGENT_CPUS,
        processes_max=_QEMU_THREADS_MAX,
    )


def arguments(
    program: str, shape: Shape, given: Descriptors, *, share: bool, incoming: bool
) -> tuple[str, ...]:
    """`share`: what the guest writes to its memory goes to `given.memory`, for a snapshot of it."""
    accelerator = "tcg,thread=multi,tb-size=64" if shape.emulated else "kvm"
    line = [
        *(program, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"),
        *("-M", "microvm,rtc=on,pit=off,pic=off,x-option-roms=off,memory-backend=memory"),
        *("-accel", accelerator, "-cpu", _EMULATED_CPU if shape.emulated else "host"),
        *("-smp", str(shape.processors), "-m", f"{shape.memory_bytes // MIB}M"),
        *("-object", _memory(shape, given.memory, share)),
        *("-kernel", f"/proc/self/fd/{given.kernel}"),
        *("-initrd", f"/proc/self/fd/{given.first_files}"),
        *("-append", f"{_KERNEL_LINE} {_EMULATED_LINE if shape.emulated else ''}".strip()),
        *_sandboxed(),
        *_lines(given),
    ]
    for number, ((serial, _), descriptor) in enumerate(
        zip(shape.disks, given.disks, strict=True), start=2
    ):
        line += _disk(number, serial, descriptor)
    if incoming:
        line += ["-incoming", "defer"]
    return tuple(line)


def _memory(shape: Shape, descriptor: int | None, share: bool) -> str:
    size = f"id=memory,size={shape.memory_bytes}"
    if descriptor is None:
        return f"memory-backend-ram,{size}"
    path = f"/proc/self/fd/{descriptor}"
    return f"memory-backend-file,{size},mem-path={path},share={'on' if share else 'off'}"


def _sandboxed() -> tuple[str, ...]:
    """QEMU's own filter of system calls: it starts nothing, and becomes nobody."""
    denied = ("obsolete", "elevateprivileges", "spawn", "resourcecontrol")
    return ("-sandbox", ",".join(["on", *(f"{each}=deny" for each in denied)]))


def _lines(given: Descriptors) -> tuple[str, ...]:
    listening = "server=on,wait=off"
    return (
        *("-chardev", f"socket,id=qmp,fd={given.qmp},{listening}", "-mon", "qmp,mode=control"),
        # Bounded, and read when the machine has died: what its kernel said.
        *("-chardev", "ringbuf,id=console,size=65536", "-serial", "chardev:console"),
        *("-device", "virtio-serial-device,max_ports=4"),
        *("-chardev", f"socket,id=control,fd={given.control},{listening}"),
        *("-device", "virtserialport,chardev=control,name=control,nr=1"),
        *("-add-fd", f"fd={given.output},set=1"),
        *("-chardev", "file,id=output,path=/dev/fdset/1,append=on"),
        *("-device", "virtserialport,chardev=output,name=output,nr=2"),
        *("-action", "reboot=shutdown,shutdown=pause"),
    )


def _disk(number: int, serial: str, descriptor: int) -> tuple[str, ...]:
    name = f"disk{number}"
    file = f"file.driver=file,file.filename=/dev/fdset/{number},file.locking=off"
    return (
        *("-add-fd", f"fd={descriptor},set={number}"),
        *("-blockdev", f"driver=raw,node-name={name},read-only=on,{file}"),
        *("-device", f"virtio-blk-device,drive={name},serial={serial}"),
    )


def jail(mark: str, *, emulated: bool) -> list[str]:
    """bubblewrap's arguments: who breaks out of the machine finds an empty room.

    System programs to read, no network, no process but QEMU, no file of the platform.
    """
    every = ("user", "pid", "net", "ipc", "uts", "cgroup-try")
    links = [part for name, to in _links().items() for part in ("--symlink", to, f"/{name}")]
    return [
        *(f"--unshare-{each}" for each in every),
        *("--uid", str(bubblewrap.INSIDE_UID), "--gid", str(bubblewrap.INSIDE_UID)),
        *("--cap-drop", "ALL", "--new-session", "--clearenv", "--setenv", MARK_VARIABLE, mark),
        *("--ro-bind", "/usr", "/usr", *links, "--proc", "/proc", "--dev", "/dev"),
        *(() if emulated else ("--dev-bind", "/dev/kvm", "/dev/kvm")),
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"),
    ]


def _links() -> dict[str, str]:
    paths = (Path("/", name) for name in ("bin", "sbin", "lib", "lib64"))
    return {path.name: str(path.readlink()) for path in paths if path.is_symlink()}
