"""One session, from its birth to the moment when its own code may run. Part of the forker."""

import contextlib
import os
import signal
import socket
import struct
from pathlib import Path
from typing import Any

from freehold.adapters.sandbox.template import syscalls
from freehold.adapters.sandbox.template.box import Box, has_ended, status_of
from freehold.adapters.sandbox.template.namespaces import next_pid, run_in_processes_of, write_map
from freehold.adapters.sandbox.template.root import Root
from freehold.adapters.sandbox.template.syscalls import NO_DEVICES, NO_EXEC, NO_SUID
from freehold.adapters.sandbox.template.tracing import WALL, Newborn, Refused

INSIDE_UID = 1000
SESSION_SOCKET = 3
"""The descriptor on which the session's first process is told what to run, and tells its end."""

_PAYLOAD_PID = 2
_PARENT, _SET_TID, _CLEAR_TID = 0x8000, 0x1000000, 0x200000
# Its parent is the template's pid 1, which reaps it whatever becomes of the template.
FORK_FLAGS = (
    _PARENT | _SET_TID | _CLEAR_TID | signal.SIGCHLD
    | syscalls.NEW_USER | syscalls.NEW_PID | syscalls.NEW_NS | syscalls.NEW_NET
    | syscalls.NEW_IPC | syscalls.NEW_UTS | syscalls.NEW_CGROUP
)  # fmt: skip

_PAYLOAD_FLAGS = _SET_TID | _CLEAR_TID | signal.SIGCHLD
_COMMAND_LINE = "freehold-session"

_P_ALL, _EXITED, _LEAVE_IT = 0, 4, 0x1000000
_SET_DUMPABLE, _CAPBSET_DROP = 4, 24
_CAPABILITY_VERSION_3 = 0x20080522
_CLOSE_FROM_MAX = 0xFFFFFFFF
_DONT_WAIT = 0x40
_EINVAL = 22
_RESOURCES = {"data": 2, "core": 4, "nproc": 6, "nofile": 7}


class Session:
    """Two processes: pid 1 of the session's pid namespace, and the payload.

    Pid 1 is released into waitid(): it runs, and takes memory of its own, when a child of it ends.
    `user`: the host's, as the template's user namespace counts; `seen_as`: as we do.
    """

    def __init__(self, box: Box, number: int, *, user: int, seen_as: int) -> None:
        if box.process is None:
            raise Refused("the template is not ready")
        self.number = number
        self._feed, self._feed_inside = box.feed, box.feed_inside
        self._user, self._seen_as = user, seen_as
        self._proc: int | None = None
        self._payload: Newborn | None = None
        self._first = box.process.fork(FORK_FLAGS)
        self.pid = self._first.pid
        self._parent_namespace = os.dup(box.user_namespace)

    def confine(self) -> None:
        """What all sessions of the template have in common. It may wait after this."""
        self._proc = run_in_processes_of(self.pid, self._inside_its_namespaces)
        _drop_powers(self._first)

    def complete(self) -> None:
        """The payload inherits everything, control groups among it: they were joined before."""
        if self._payload is None:
            self._payload = self._first.fork(_PAYLOAD_FLAGS)
            self._payload.call("setsid")

    def furnish(self, request: dict[str, Any], descriptors: list[int]) -> None:
        """Files, limits, and `descriptors`: the environment, which pid 1 keeps as its standard
        input; then the payload's standard input, the output, the session socket."""
        kept, *own = descriptors
        self.complete()
        assert self._proc is not None and self._payload is not None
        with contextlib.closing(Root(request["steps"], self._seen_as)) as root:
            proc, self._proc = self._proc, None
            ruleset = self._mount(root, proc)
        try:
            rules = [] if ruleset is None else [ruleset]
            for process in (self._first, self._payload):
                process.call("chdir", process.place(b"/\0"))
                for name, limit in request["limits"].items():
                    pair = process.place(struct.pack("QQ", limit, limit))
                    process.call("setrlimit", _RESOURCES[name], pair)
                first = kept if process is self._first else own[0]
                self._take(process, [first, *own[1:], *rules])
                self._verify(process.pid)
        finally:
            if ruleset is not None:
                os.close(ruleset)
        # In what /proc says of its environment, over what the template was started with, so that
        # a sweep finds it; and command lines for people and tools.
        _name(self.pid, [_COMMAND_LINE], request["mark"])
        _name(self._payload.pid, request["command"])

    def _inside_its_namespaces(self) -> int:
        """Its procfs belongs to the pid namespace of whoever makes it. Returns that."""
        proc = syscalls.made_filesystem("proc", NO_SUID | NO_DEVICES | NO_EXEC)
        next_pid(_PAYLOAD_PID)
        with syscalls.opened(f"/proc/{self.pid}/ns/net") as network:
            syscalls.enter(network, syscalls.NEW_NET)
        syscalls.loopback_up()
        # Only somebody of the parent's user namespace may write the map.
        syscalls.enter(self._parent_namespace, syscalls.NEW_USER)
        write_map(self.pid, [(INSIDE_UID, self._user, 1)])
        return proc

    def _mount(self, root: Root, proc: int) -> int | None:
        with (
            syscalls.opened("/proc/self/ns/mnt") as ours,
            syscalls.opened(f"/proc/{self.pid}/ns/mnt") as theirs,
        ):
            syscalls.enter(theirs, syscalls.NEW_NS)
            try:
                return root.assemble(proc)
            finally:
                syscalls.enter(ours, syscalls.NEW_NS)

    def _take(self, process: Newborn, descriptors: list[int]) -> None:
        """`descriptors`, and perhaps Landlock's ruleset behind them.

        Out of a queue of which nobody else has the end: those that were forked before lost theirs
        right here, and the template does not run."""
        wanted = struct.pack("II", self.number & 0xFFFFFFFF, process.pid)
        socket.send_fds(self._feed, [wanted], descriptors)
        data, control = process.place(bytes(16)), process.place(bytes(64), 64)
        vector = process.place(struct.pack("QQ", data, len(wanted)), 16)
        while process.read(data, len(wanted)) != wanted:
            # More than once only when another session died before it took what it was sent.
            header = struct.pack("QI4xQQQQi4x", 0, 0, vector, 1, control, 64, 0)
            process.call("recvmsg", self._feed_inside, process.place(header, 128), _DONT_WAIT)
        taken = struct.unpack(
            f"{len(descriptors)}i", process.read(control + 16, 4 * len(descriptors))
        )
        for ruleset in taken[3:]:
            process.call("landlock_restrict_self", ruleset, 0)
        nothing, output, told = taken[:3]
        for number, target in ((nothing, 0), (output, 1), (output, 2), (told, SESSION_SOCKET)):
            if number != target:
                process.call("dup3", number, target, 0)
        process.call("close_range", SESSION_SOCKET + 1, _CLOSE_FROM_MAX, 0)

    def _verify(self, pid: int) -> None:
        status = status_of(pid)
        powers = [int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
        users = {*status["Uid"].split(), *status["Gid"].split()}
        if (
            any(powers)
            or users != {str(self._seen_as)}
            or int(status["NoNewPrivs"]) != 1
            or int(status["Seccomp"]) != 2
            or int(status["Threads"]) != 1
        ):
            raise Refused("the session's process has powers that it must not have")

    def release(self) -> None:
        if self._payload is None:  # it was killed since
            raise Refused("the session ended while it was set up")
        self._first.release_into("waitid", _P_ALL, 0, 0, _EXITED | _LEAVE_IT, 0)
        self._payload.release()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        # Pid 1 is not gone before its children are, and those that we trace we have to reap.
        for process in (self._payload, self._first):
            if process:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, WALL)

    def reaped(self) -> bool:
        if self._payload and has_ended(self._payload.pid):
            self._payload = None
        return has_ended(self.pid)

    def close(self) -> None:
        os.close(self._parent_namespace)
        if self._proc is not None:
            os.close(self._proc)


def _drop_powers(process: Newborn) -> None:
    process.call("setsid")
    process.call("umask", 0o022)
    for change in ("setresgid", "setresuid"):
        process.call(change, INSIDE_UID, INSIDE_UID, INSIDE_UID)
    process.call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)  # a change of user took its /proc from it
    for capability in range(64):
        try:
            process.call("prctl", _CAPBSET_DROP, capability, 0, 0, 0)
        except OSError as error:
            if error.errno != _EINVAL:
                raise
            break  # there are no more
    header = process.place(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
    process.call("capset", header, process.place(bytes(24), 16))


def _name(pid: int, command: list[str], variable: str = "") -> None:
    """What others read of it in /proc, in the place of what was the template's."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    start, end, variables = (int(fields[place - 3]) for place in (48, 49, 50))
    line = b"\0".join(os.fsencode(word) for word in command)[: end - start - 1]
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        os.pwrite(memory.fileno(), line.ljust(end - start, b"\0"), start)
        os.pwrite(memory.fileno(), variable.encode(), variables)
