"""Short-lived processes of our own in other namespaces. Standard library only."""

import os
import socket
from collections.abc import Callable

from freehold.adapters.sandbox.template import syscalls

_ANSWER_BYTES_MAX = 4096


def made_user_namespace(uid: int | None, extents: list[tuple[int, int, int]]) -> int:
    """A descriptor of a user namespace that belongs to `uid` (None: to us), mapped like this."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        try:
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            syscalls.unshare(syscalls.NEW_USER)
            theirs.send(b"x")
            theirs.recv(1)
        finally:
            os._exit(0)
    try:
        with ours:
            theirs.close()
            if not ours.recv(1):
                raise PermissionError("no user namespace can be made here")
            write_map(child, extents)
            return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.waitpid(child, 0)


def write_map(pid: int, extents: list[tuple[int, int, int]]) -> None:
    """Extents: inside, outside, count; for users and groups alike."""
    lines = "\n".join(" ".join(str(number) for number in extent) for extent in extents)
    for name, content in (("setgroups", "deny"), ("uid_map", lines), ("gid_map", lines)):
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, content.encode())
        finally:
            os.close(descriptor)


def run_in_processes_of(pid: int, action: Callable[[], int | None]) -> int | None:
    """What `action` returns, a descriptor or nothing, from within the pid namespace of `pid`.

    A process does not change its own pid namespace, only that of its children; hence two forks.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        _in_child(pid, action, theirs)
    with ours:
        theirs.close()
        message, descriptors, _, _ = socket.recv_fds(
            ours, _ANSWER_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC
        )
    os.waitpid(child, 0)
    if message != b"done":
        raise OSError(message.decode() or "a process in the sandbox's namespaces died")
    return descriptors[0] if descriptors else None


def _in_child(pid: int, action: Callable[[], int | None], answer: socket.socket) -> None:
    try:
        with syscalls.opened(f"/proc/{pid}/ns/pid") as processes:
            syscalls.enter(processes, syscalls.NEW_PID)
        inner = os.fork()
        if inner == 0:
            made = action()
            socket.send_fds(answer, [b"done"], [] if made is None else [made])
        else:
            os.waitpid(inner, 0)
    except OSError as error:
        answer.send(str(error).encode()[:_ANSWER_BYTES_MAX])
    finally:
        os._exit(0)


def next_pid(number: int) -> None:
    """What pid the next process of this pid namespace gets, if it is free. Where the kernel
    cannot be told (CONFIG_CHECKPOINT_RESTORE), nothing changes."""
    try:
        descriptor = os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(descriptor, str(number - 1).encode())
    finally:
        os.close(descriptor)
