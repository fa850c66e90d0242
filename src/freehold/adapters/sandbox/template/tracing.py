"""Making another process do what it may not do by itself: ptrace on x86-64.

Standard library only: this runs in the forker, a program of its own.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from freehold.adapters.sandbox.template.syscalls import checked, libc

_CONT, _SINGLESTEP, _GETREGS, _SETREGS, _DETACH, _SYSCALL = 7, 9, 12, 13, 17, 24
_GETEVENTMSG, _SEIZE, _INTERRUPT = 0x4201, 0x4206, 0x4207
_O_SYSGOOD, _O_FORK, _O_VFORK, _O_CLONE, _O_SECCOMP, _O_EXITKILL = 1, 2, 4, 8, 0x80, 0x100000
_OPTIONS = _O_SYSGOOD | _O_FORK | _O_VFORK | _O_CLONE | _O_SECCOMP | _O_EXITKILL
_EVENT_FORK, _EVENT_CLONE, _EVENT_SECCOMP, _EVENT_STOP = 1, 3, 7, 128
WALL = 0x40000000
_TRAP, _SYSCALL_TRAP = signal.SIGTRAP, signal.SIGTRAP | 0x80
_ENOSYS = 38
_SYSCALL_INSTRUCTION = b"\x0f\x05"
_RED_ZONE_BYTES = 8192  # far enough below what the interrupted function may still use

_FORK_SECONDS_MAX = 2

MACHINE = "x86_64"
NUMBERS = {
    "capset": 126, "chdir": 80, "clone": 56, "close_range": 436, "dup3": 292,
    "landlock_restrict_self": 446, "prctl": 157, "recvmsg": 47, "setresgid": 119,
    "setresuid": 117, "setrlimit": 160, "setsid": 112, "umask": 95, "waitid": 247,
}  # fmt: skip
_CLONE = NUMBERS["clone"]
_NO_CALL = 2**64 - 1  # in orig_rax: nothing to be restarted


class Refused(Exception):
    """The process did something else than was asked of it, or the kernel does not let us trace."""


_REGISTERS = """
r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base
gs_base ds es fs gs
"""


class Registers(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_ulonglong) for name in _REGISTERS.split())


class Tracee:
    """One stopped process. All calls come from the thread that began to trace it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    @classmethod
    def seized(cls, pid: int) -> "Tracee":
        """Stopped wherever it was. It dies when we do."""
        tracee = cls(pid)
        tracee._ptrace(_SEIZE, _OPTIONS)
        tracee._ptrace(_INTERRUPT, 0)
        with _limited("stop"):  # one that waits for a vfork() of its own never stops
            tracee._wait_for_event(_EVENT_STOP)
        return tracee

    def registers(self) -> Registers:
        registers = Registers()
        self._ptrace(_GETREGS, ctypes.addressof(registers))
        return registers

    def set_registers(self, registers: Registers) -> None:
        self._ptrace(_SETREGS, ctypes.addressof(registers))

    def detach(self) -> None:
        self._ptrace(_DETACH, 0)

    def _ptrace(self, request: int, data: int) -> None:
        checked(libc.ptrace(request, self.pid, None, ctypes.c_void_p(data)), "ptrace")

    def _wait(self) -> int:
        _, status = os.waitpid(self.pid, WALL)
        if not os.WIFSTOPPED(status):
            raise Refused("it ended")
        return status >> 8

    def _wait_for_event(self, event: int) -> None:
        stop = self._wait()
        if stop >> 8 != event:
            raise Refused(f"stopped for {stop:#x}, not for event {event}")

    def _child(self) -> "Newborn":
        """Of the clone that the registers are set for."""
        child = 0
        while True:
            self._ptrace(_SYSCALL, 0)
            stop = self._wait()
            event = stop >> 8
            if event in (_EVENT_FORK, _EVENT_CLONE):
                message = ctypes.c_ulong()
                self._ptrace(_GETEVENTMSG, ctypes.addressof(message))
                child = message.value
            elif stop == _SYSCALL_TRAP:
                result = ctypes.c_longlong(self.registers().rax).value
                if result != -_ENOSYS or child:  # else it is only about to enter
                    break
            elif event not in (_EVENT_SECCOMP, _EVENT_STOP):
                raise Refused(f"stopped for {stop:#x} instead of forking")
        if not child:
            raise OSError(-result, f"fork: {os.strerror(-result)}")
        return Newborn(child)

    def run_to_fork(self) -> None:
        """Goes on until it enters its next fork(), and stops before that happens."""
        for _ in range(100_000):
            self._ptrace(_SYSCALL, 0)
            stop = self._wait()
            if stop == _SYSCALL_TRAP:
                registers = self.registers()
                entering = ctypes.c_longlong(registers.rax).value == -_ENOSYS
                if entering and registers.orig_rax == _CLONE:
                    return
            elif stop >> 8 not in (0, _EVENT_STOP):
                raise Refused(f"stopped for event {stop >> 8} instead of forking")
            # Anything else is a signal; none is for us, and none reaches it.
        raise Refused("does not fork")


class Parked(Tracee):
    """Stopped for good at the entry of fork(): memory that is copied, and a process that never
    runs an instruction of its own again."""

    def __init__(self, tracee: Tracee, let_fork: Callable[[], object]) -> None:
        """`let_fork` tells the stopped process what it is waiting for."""
        super().__init__(tracee.pid)
        let_fork()
        with _limited("fork"):
            self.run_to_fork()
        self._at_entry = self.registers()
        instruction = self._at_entry.rip - len(_SYSCALL_INSTRUCTION)
        if read_memory(self.pid, instruction, 2) != _SYSCALL_INSTRUCTION:
            raise Refused("does not fork as this machine's processes do")

    def fork(self, flags: int) -> "Newborn":
        """A child with these clone flags, that has not run yet."""
        changed = Registers.from_buffer_copy(self._at_entry)
        changed.rdi = flags
        self.set_registers(changed)
        try:
            return self._child()
        finally:
            self._rewind()

    def _rewind(self) -> None:
        again = Registers.from_buffer_copy(self._at_entry)
        again.rip -= len(_SYSCALL_INSTRUCTION)
        again.rax, again.orig_rax = _CLONE, _NO_CALL
        self.set_registers(again)
        self.run_to_fork()


class Newborn(Tracee):
    """A forked child at its very first stop, where fork() is about to return 0."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self._wait_for_event(_EVENT_STOP)
        self._first = self.registers()
        self._scratch = (self._first.rsp - _RED_ZONE_BYTES) & ~0xFFF

    def fork(self, flags: int) -> "Newborn":
        """A child that stops where this one did."""
        self.set_registers(self._asking("clone", flags))
        return self._child()

    def _asking(self, name: str, *arguments: int) -> Registers:
        registers = Registers.from_buffer_copy(self._first)
        registers.rip -= len(_SYSCALL_INSTRUCTION)
        registers.rax, registers.orig_rax = NUMBERS[name], _NO_CALL
        for register, value in zip(("rdi", "rsi", "rdx", "r10", "r8"), arguments, strict=False):
            setattr(registers, register, value & (2**64 - 1))
        return registers

    def call(self, name: str, *arguments: int) -> int:
        """The result of a system call made by the child."""
        self.set_registers(self._asking(name, *arguments))
        self._ptrace(_SINGLESTEP, 0)
        stop = self._wait()
        after = self.registers()
        if stop != _TRAP or after.rip != self._first.rip:
            raise Refused(f"{name} stopped for {stop:#x}")
        result = ctypes.c_longlong(after.rax).value
        if result < 0:
            raise OSError(-result, f"{name}: {os.strerror(-result)}")
        return result

    def place(self, content: bytes, offset: int = 0) -> int:
        """The address of `content`, below the stack's end."""
        address: int = self._scratch + offset
        with Path(f"/proc/{self.pid}/mem").open("r+b", buffering=0) as memory:
            os.pwrite(memory.fileno(), content, address)
        return address

    def read(self, address: int, size: int) -> bytes:
        return read_memory(self.pid, address, size)

    def release(self) -> None:
        self.set_registers(self._first)
        self.detach()

    def release_into(self, name: str, *arguments: int) -> None:
        """It makes this system call first, whose result it takes for that of fork()."""
        self.set_registers(self._asking(name, *arguments))
        self.detach()


def read_memory(pid: int, address: int, size: int) -> bytes:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        return os.pread(memory.fileno(), size, address)


@contextlib.contextmanager
def _limited(what: str) -> Iterator[None]:
    """What does not get where it should is not waited for: others need this process."""

    def give_up(*_: object) -> None:
        raise Refused(f"does not {what} within {_FORK_SECONDS_MAX} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, _FORK_SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
