"""How a program comes to be in a sandbox. Part of the starter; standard library only.

Two processes, one after the other. The first, the joiner, enters the control groups and the
namespaces, all in one system call on a descriptor of the sandbox's first process, and forks. The
second is born inside, gives up what the sandbox's own processes do not have, and becomes the
program; when the joiner is gone, it is the starter's child. Until it is the program nothing inside
can look into it, trace it or take a descriptor from it, since it is not dumpable; the joiner is in
nobody's process namespace but ours.

Nothing is imported after the namespaces were entered: files there are the sandbox's.
"""

import ctypes
import errno
import fcntl
import gc
import json
import os
import resource
import signal
import socket
import stat
import struct
import sys
import termios
from typing import Any, NoReturn

from freehold.adapters.sandbox.template import syscalls

PID, TERMINAL, BEGINS, PROBLEM = b"pid", b"terminal", b"begins", b"problem"
GO = b"go"
LIMITS = {
    "data": resource.RLIMIT_DATA,
    "core": resource.RLIMIT_CORE,
    "nproc": resource.RLIMIT_NPROC,
    "nofile": resource.RLIMIT_NOFILE,
}

_SET_PDEATHSIG, _SET_DUMPABLE, _SET_SECCOMP, _CAPBSET_DROP = 1, 4, 22, 24
_SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS, _GET_NO_NEW_PRIVS, _CAP_AMBIENT = 36, 38, 39, 47
_CLEAR_ALL, _SECCOMP_FILTER = 4, 2
_CAPABILITY_VERSION_3 = 0x20080522
_PTMX_DEVICE = os.makedev(5, 2)
_UNLOCK, _OPEN_SLAVE = 0x40045431, 0x5441  # TIOCSPTLCK, TIOCGPTPEER
_DESCRIPTORS_MAX = 1 << 16


class _Refused(Exception):
    """Why it cannot be started, for people."""


def prepare() -> None:
    """Once, in the starter."""
    _prctl(_SET_DUMPABLE, 0)
    _prctl(_SET_CHILD_SUBREAPER, 1)
    for name in ("setns", "prctl", "capset", "capget"):
        getattr(syscalls.libc, name)
    gc.freeze()


def join(report: socket.socket, descriptors: list[int], program: bytes) -> NoReturn:
    """In a fork of the starter. `descriptors`: the request; the sandbox's first process, if there
    are namespaces to join; standard input, output and errors, if there is no terminal to make."""
    try:
        _join(report, descriptors, program)
    # A boundary: whatever happens, this process must not go on as a second starter.
    except BaseException as error:  # noqa: BLE001
        _tell(report, error)
    finally:
        os._exit(1)


def _join(report: socket.socket, descriptors: list[int], program: bytes) -> None:
    signal.set_wakeup_fd(-1)
    _close_all_but({report.fileno(), *descriptors})
    with open(descriptors[0], "rb", closefd=False) as file:
        wanted: dict[str, Any] = json.loads(file.read())
    standard = descriptors[1:]
    sys.path.clear()
    sys.meta_path.clear()
    if wanted["leave_groups"]:
        os.setgroups([])
    for group in wanted["groups"]:
        _enter_group(group)
    if wanted["namespaces"]:
        syscalls.enter(standard.pop(0), wanted["namespaces"])
    pid = os.fork()
    if pid:
        report.send(PID + b" %d" % pid)
        os._exit(0)
    try:
        _begin(wanted, report, standard, program)
    # A boundary, as above.
    except BaseException as error:  # noqa: BLE001
        _tell(report, error)
    finally:
        os._exit(127)


def _tell(report: socket.socket, error: BaseException) -> None:
    text = str(error) if isinstance(error, _Refused | OSError) else repr(error)
    report.send(PROBLEM + b" " + text.encode(errors="replace")[:2000])


def _enter_group(directory: str) -> None:
    descriptor = os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"0")
    finally:
        os.close(descriptor)


def _begin(
    wanted: dict[str, Any], report: socket.socket, standard: list[int], program: bytes
) -> None:
    """Inside. What the joiner could do in these namespaces, this process still can."""
    if report.recv(16) != GO:
        os._exit(1)
    os.umask(0o022)
    if wanted["confined"]:
        _give_up_powers(wanted["user"])
    _prctl(_SET_DUMPABLE, 0)  # a change of user has changed it
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    if wanted["terminal"]:
        master, slave = _terminal(*wanted["terminal"])
        socket.send_fds(report, [TERMINAL], [master])
        standard = [slave] * 3
    for target, descriptor in enumerate(_above_standard(standard)):
        os.dup2(descriptor, target)
    _close_all_but({report.fileno()})
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and so would it
        signal.signal(number, signal.SIG_DFL)
    try:
        os.chdir(wanted["workdir"])
    except OSError as error:
        raise _Refused(f"working directory {wanted['workdir']}: {error.strerror}") from error
    for name, limit in wanted["limits"].items():
        hard = resource.getrlimit(LIMITS[name])[1]
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(LIMITS[name], (value, value))
    report.send(BEGINS)
    if wanted["confined"]:
        _filter_system_calls(program)
    _become(wanted["command"], wanted["environment"])


def _above_standard(descriptors: list[int]) -> list[int]:
    return [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 3) for each in descriptors]


def _give_up_powers(user: int) -> None:
    """No capability in any set, and no way to any. Verified: this must never half succeed."""
    _prctl(_SET_NO_NEW_PRIVS, 1)
    for capability in range(64):
        try:
            _prctl(_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            break  # there are no more
    _prctl(_CAP_AMBIENT, _CLEAR_ALL)
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    syscalls.checked(syscalls.libc.capset(header, bytes(24)), "give up capabilities")
    held = ctypes.create_string_buffer(24)
    syscalls.checked(syscalls.libc.capget(header, held), "see capabilities")
    ids = {*os.getresuid(), *os.getresgid()}
    if any(held.raw) or ids != {user} or _prctl(_GET_NO_NEW_PRIVS, 0) != 1:
        raise _Refused("the process has powers that it must not have")


def _terminal(rows: int, columns: int) -> tuple[int, int]:
    """(master, slave) of the pseudo-terminals that are seen here; it is the controlling one."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open("/dev/ptmx", flags)
    found = os.fstat(master)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _PTMX_DEVICE:
        raise _Refused("/dev/ptmx of the sandbox makes no terminals")
    fcntl.ioctl(master, _UNLOCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _OPEN_SLAVE, flags)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return master, slave


def _filter_system_calls(program: bytes) -> None:
    content = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog; an instruction has eight bytes
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(content))
    _prctl(_SET_SECCOMP, _SECCOMP_FILTER, ctypes.c_char_p(head))


def _become(command: list[str], environment: dict[str, str]) -> None:
    name = command[0]
    folders = [""] if "/" in name else environment.get("PATH", "/usr/bin:/bin").split(":")
    refused = None
    for folder in folders:
        try:
            os.execve(f"{folder}/{name}" if folder else name, command, environment)  # noqa: S606
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            refused = error
            if error.errno != errno.EACCES:
                break
    if refused:
        raise _Refused(f"{name}: {refused.strerror}")
    raise _Refused(f"{name}: no such program in the sandbox")


def _close_all_but(kept: set[int]) -> None:
    begin = 3
    for descriptor in sorted(each for each in kept if each >= 3):
        os.closerange(begin, descriptor)
        begin = descriptor + 1
    os.closerange(begin, _DESCRIPTORS_MAX)


def _prctl(option: int, argument: Any = 0, more: Any = None) -> int:
    arguments = [
        ctypes.c_ulong(each) if isinstance(each, int) else each
        for each in (argument, 0 if more is None else more, 0, 0)
    ]
    result: int = syscalls.libc.prctl(ctypes.c_int(option), *arguments)
    return syscalls.checked(result, f"prctl {option}")
