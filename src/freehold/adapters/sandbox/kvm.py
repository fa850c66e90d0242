"""Whether this machine runs virtual machines in hardware. Found by running one and timing it.

/dev/kvm and a virtual processor in it prove nothing: a host that is itself a machine of a software
hypervisor offers both, and then takes milliseconds for what hardware does in microseconds, so that
an ordinary kernel never starts.

    python kvm.py        runs the loop, and prints the seconds it took

Run in a process of its own, because a loop that is emulated may take very long, and only the end
of the process ends it.
"""

import ctypes
import fcntl
import mmap
import os
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

DEVICE = "/dev/kvm"
_SECONDS_MAX = 0.02  # hardware needs 0.0001, a software hypervisor 0.2 and more
_GIVE_UP_SECONDS = 3.0
_ROUNDS = 200_000

_KVM_CREATE_VM, _KVM_CREATE_VCPU, _KVM_RUN = 0xAE01, 0xAE41, 0xAE80
_KVM_GET_VCPU_MMAP_SIZE, _KVM_SET_USER_MEMORY_REGION = 0xAE04, 0x4020AE46
_KVM_GET_SREGS, _KVM_SET_SREGS, _KVM_SET_REGS = 0x8138AE83, 0x4138AE84, 0x4090AE82
_SREGS_BYTES, _CODE_ADDRESS, _MEMORY_BYTES = 312, 0x1000, 0x2000
_EXIT_HLT = 5


def problem() -> str | None:
    """None when there is hardware KVM that we may use. Blocks for up to three seconds."""
    if not Path(DEVICE).exists():
        return f"no hardware KVM: there is no {DEVICE}"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"{DEVICE} is closed to this user: add it to the group kvm"
    try:
        answer = subprocess.run(
            [sys.executable, "-I", "-S", str(Path(__file__))],
            capture_output=True,
            text=True,
            timeout=_GIVE_UP_SECONDS,
            check=True,
            env={},
        ).stdout
        seconds = float(answer)
    except subprocess.TimeoutExpired:
        seconds = _GIVE_UP_SECONDS
    except (OSError, ValueError, subprocess.CalledProcessError):
        return f"no hardware KVM: {DEVICE} cannot run a machine"
    if seconds > _SECONDS_MAX:
        return (
            f"no hardware KVM: {DEVICE} is emulated ({seconds * 1000:.0f} ms for a loop that"
            " hardware runs in 0.1 ms)"
        )
    return None


def groups() -> tuple[int, ...]:
    """That a process has to be in to use the device."""
    status = Path(DEVICE).stat()
    return (status.st_gid,) if status.st_gid and status.st_mode & stat.S_IWGRP else ()


def loop_seconds() -> float:
    """For a loop of 200,000 rounds in a virtual processor. Raises OSError."""
    device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    machine = fcntl.ioctl(device, _KVM_CREATE_VM, 0)
    memory = mmap.mmap(-1, _MEMORY_BYTES)
    # 16-bit code: mov ecx, rounds; dec ecx; jnz back; hlt
    code = b"\x66\xb9" + struct.pack("<I", _ROUNDS) + b"\x66\x49\x75\xfc\xf4"
    memory[: len(code)] = code
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    region = struct.pack("<IIQQQ", 0, 0, _CODE_ADDRESS, _MEMORY_BYTES, address)
    fcntl.ioctl(machine, _KVM_SET_USER_MEMORY_REGION, region)
    processor = fcntl.ioctl(machine, _KVM_CREATE_VCPU, 0)
    shared = mmap.mmap(processor, fcntl.ioctl(device, _KVM_GET_VCPU_MMAP_SIZE, 0))
    special = bytearray(_SREGS_BYTES)
    fcntl.ioctl(processor, _KVM_GET_SREGS, special)
    struct.pack_into("<Q", special, 0, 0)  # cs.base
    struct.pack_into("<H", special, 12, 0)  # cs.selector
    fcntl.ioctl(processor, _KVM_SET_SREGS, bytes(special))
    fcntl.ioctl(processor, _KVM_SET_REGS, struct.pack("<18Q", *([0] * 16), _CODE_ADDRESS, 2))
    began = time.perf_counter()
    fcntl.ioctl(processor, _KVM_RUN, 0)
    seconds = time.perf_counter() - began
    if struct.unpack_from("<I", shared, 8)[0] != _EXIT_HLT:
        raise OSError("the virtual processor did not come to its end")
    return seconds


if __name__ == "__main__":
    print(loop_seconds())  # noqa: T201
