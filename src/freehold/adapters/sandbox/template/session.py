"""One session, from its birth to the moment when its own code may run. Part of the forker."""

import contextlib
import os
import signal
import socket
import struct
from typing import Any

from freehold.adapters.sandbox.template import syscalls
from freehold.adapters.sandbox.template.box import Box, has_ended, status_of
from freehold.adapters.sandbox.template.namespaces import next_pid, run_in_processes_of, write_map
from freehold.adapters.sandbox.template.root import Root
from freehold.adapters.sandbox.template.syscalls import NO_DEVICES, NO_EXEC, NO_SUID
from freehold.adapters.sandbox.template.tracing import WALL, Refused

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

_SET_DUMPABLE, _CAPBSET_READ, _CAPBSET_DROP = 4, 23, 24
_CAPABILITY_VERSION_3 = 0x20080522
_CLOSE_FROM_MAX = 0xFFFFFFFF
_EINVAL = 22
_RESOURCES = {"data": 2, "core": 4, "nproc": 6, "nofile": 7}


class Session:
    """`descriptors` of a request: standard input, the output, its end of the session socket."""

    def __init__(self, box: Box, request: dict[str, Any], descriptors: list[int]) -> None:
        if box.process is None:
            raise Refused("the template is not ready")
        self.number: int = request["number"]
        self._box = box
        self._request = request
        self._root = Root(request["steps"], request["owner"])
        try:
            # Taken out of the packet queue below, while nobody else can: those that were forked
            # before have no such descriptor, and the template does not run.
            socket.send_fds(box.feed, [b"x"], descriptors)
            self._process = box.process.fork(FORK_FLAGS)
        except BaseException:
            self._root.close()
            raise
        self.pid = self._process.pid
        self._held = os.dup(box.user_namespace)

    def assemble(self) -> None:
        """Everything that is around the process, and what it must not have taken away."""
        try:
            proc = run_in_processes_of(self.pid, self._inside_its_namespaces)
            assert proc is not None
            self._mount(proc)
            self._take_descriptors()
            self._drop_powers()
            self._verify()
        finally:
            self._root.close()

    def _inside_its_namespaces(self) -> int:
        """Its procfs belongs to the pid namespace of whoever makes it. Returns that."""
        proc = syscalls.made_filesystem("proc", NO_SUID | NO_DEVICES | NO_EXEC)
        next_pid(_PAYLOAD_PID)
        with syscalls.opened(f"/proc/{self.pid}/ns/net") as network:
            syscalls.enter(network, syscalls.NEW_NET)
        syscalls.loopback_up()
        # Only somebody of the parent's user namespace may write the map.
        syscalls.enter(self._held, syscalls.NEW_USER)
        write_map(self.pid, [(INSIDE_UID, self._request["user"], 1)])
        return proc

    def _mount(self, proc: int) -> None:
        with (
            syscalls.opened("/proc/self/ns/mnt") as ours,
            syscalls.opened(f"/proc/{self.pid}/ns/mnt") as theirs,
        ):
            syscalls.enter(theirs, syscalls.NEW_NS)
            try:
                self._root.assemble(proc)
            finally:
                syscalls.enter(ours, syscalls.NEW_NS)

    def _take_descriptors(self) -> None:
        call, place = self._process.call, self._process.place
        data, control = place(bytes(16)), place(bytes(64), 64)
        vector = place(struct.pack("QQ", data, 1), 16)
        header = struct.pack("QI4xQQQQi4x", 0, 0, vector, 1, control, 64, 0)
        call("recvmsg", self._box.feed_inside, place(header, 128), 0)
        taken = struct.unpack("iii", self._process.read(control + 16, 12))
        for descriptor, wanted in ((taken[0], 0), (taken[1], 1), (taken[1], 2), (taken[2], 3)):
            if descriptor != wanted:
                call("dup3", descriptor, wanted, 0)
        call("close_range", SESSION_SOCKET + 1, _CLOSE_FROM_MAX, 0)

    def _drop_powers(self) -> None:
        call, place = self._process.call, self._process.place
        call("chdir", place(b"/\0"))
        call("setsid")
        call("umask", 0o022)
        for name, limit in self._request["limits"].items():
            call("setrlimit", _RESOURCES[name], place(struct.pack("QQ", limit, limit)))
        for change in ("setresgid", "setresuid"):
            call(change, INSIDE_UID, INSIDE_UID, INSIDE_UID)
        call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)  # a change of user took its own /proc from it
        for capability in range(64):
            try:
                call("prctl", _CAPBSET_DROP, capability, 0, 0, 0)
            except OSError as error:
                if error.errno != _EINVAL:
                    raise
                break  # there are no more
        header = place(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
        call("capset", header, place(bytes(24), 16))

    def _verify(self) -> None:
        status = status_of(self.pid)
        powers = [int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
        users = {*status["Uid"].split(), *status["Gid"].split()}
        if (
            any(powers)
            or users != {str(self._request["expected_uid"])}
            or int(status["NoNewPrivs"]) != 1
            or int(status["Seccomp"]) != 2
            or int(status["Threads"]) != 1
        ):
            raise Refused("the session's process has powers that it must not have")

    def release(self) -> None:
        self._process.release()
        self.close()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, WALL)

    def reaped(self) -> bool:
        return has_ended(self.pid)

    def close(self) -> None:
        os.close(self._held)
