"""The template's own sandbox, as the forker sees it: bubblewrap's, with a process to be copied."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from freehold.adapters.sandbox.template.namespaces import (
    made_user_namespace,
    next_pid,
    run_in_processes_of,
)
from freehold.adapters.sandbox.template.tracing import WALL, Parked, Tracee

_NOTES_BYTES_MAX = 1 << 16  # escaped, they fit a packet of ours
_NOTES = ("threads", "descriptors", "shadowed", "reads")
_SETUP_SECONDS_MAX = 10
_FIRST_PID = 1000
"""Far from every pid that a session will have: OpenSSL and others know a fork by its pid alone."""


class Unfit(Exception):
    """Why no session can be forked off this process, for people."""


class Box:
    """`descriptors` of a request: bubblewrap's arguments, the filter, the output."""

    def __init__(self, request: dict[str, Any], descriptors: list[int]) -> None:
        self.name: str = request["template"]
        self.monitor = self.init = 0
        self.process: Parked | None = None
        self._traced = 0
        self._read_only: tuple[str, ...] = tuple(request["read_only"])
        self.user_namespace = made_user_namespace(request["uid"], request["map"])
        self.feed, self._inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._feed_link = f"socket:[{os.fstat(self._inside.fileno()).st_ino}]"
        try:
            self._start(request, descriptors)
        except BaseException:
            self.end()
            raise

    def _start(self, request: dict[str, Any], descriptors: list[int]) -> None:
        info, info_end = os.pipe2(os.O_CLOEXEC)
        read, write = os.pipe2(os.O_CLOEXEC)
        # In both directions: bubblewrap then never takes our death for the signal to go on.
        block = os.open(f"/proc/self/fd/{read}", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._bwrap = self._spawned(request, descriptors, info_end, block)
            self.monitor = self._bwrap.pid
            os.close(info_end)
            info_end = -1
            self.init = _child_pid(info)
            for group in request["groups"]:
                join(group, self.init)
            run_in_processes_of(self.init, lambda: next_pid(_FIRST_PID))
            os.write(block, b"x")
        finally:
            self._inside.close()
            for descriptor in (info, info_end, read, write, block):
                if descriptor >= 0:
                    os.close(descriptor)

    def _spawned(
        self, request: dict[str, Any], descriptors: list[int], info: int, block: int
    ) -> "subprocess.Popen[bytes]":
        arguments, seccomp, output = descriptors
        feed = self._inside.fileno()
        handed = {
            "--args": arguments, "--seccomp": seccomp, "--userns": self.user_namespace,
            "--info-fd": info, "--block-fd": block,
        }  # fmt: skip
        line = [request["program"], *(str(part) for pair in handed.items() for part in pair)]
        line += ["--", *request["command"], str(feed)]
        uid, setpriv = request["uid"], shutil.which("setpriv")
        switch: dict[str, Any] = {}
        if uid is not None and setpriv:
            ids = (f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all")
            line = [setpriv, *ids, *line]
        elif uid is not None:
            switch = {"user": uid, "group": uid, "extra_groups": []}
        return subprocess.Popen(
            line,
            env=request["environment"],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[*handed.values(), feed],
            start_new_session=True,
            umask=0o022,
            **switch,
        )

    def parked(self) -> dict[str, Any]:
        """What the process says of itself. From here on it never runs again."""
        message = self.feed.recv(_NOTES_BYTES_MAX)
        if not message:
            raise Unfit("it ended while it imported")
        notes = _read(message)
        processes = children(self.init)
        if len(processes) != 1:
            raise Unfit("leaves processes running when imported")
        self._traced = processes[0]
        tracee = Tracee.seized(processes[0])
        self.process = Parked(tracee, lambda: self.feed.send(b"fork"))
        self._verify(processes[0], notes)
        return notes

    def _verify(self, pid: int, notes: dict[str, Any]) -> None:
        """What a fork would share with all others, or would lack, does not exist."""
        folder = Path(f"/proc/{pid}")
        if len(list((folder / "task").iterdir())) > 1:
            raise Unfit(f"starts threads when imported: {_listed(notes.get('threads'))}")
        if children(pid) or children(self.init) != [pid]:
            raise Unfit("leaves processes running when imported")
        if (folder / "cwd").readlink() != Path("/"):
            raise Unfit("changes the working directory when imported")
        opened = {int(each.name): str(each.readlink()) for each in (folder / "fd").iterdir()}
        feeds = [number for number, link in opened.items() if link == self._feed_link]
        kept = sorted(link for number, link in opened.items() if number > 2 and number not in feeds)
        if kept or len(feeds) != 1 or not {0, 1, 2} <= opened.keys():
            names = _listed(notes.get("descriptors"))
            raise Unfit(f"keeps files open when imported: {names} ({', '.join(kept) or 'none'})")
        self.feed_inside = feeds[0]
        for line in (folder / "maps").read_text().splitlines():
            self._verify_mapping(line)
        status = status_of(pid)
        if int(status["NSpid"].split()[-1]) < _FIRST_PID:
            raise Unfit("this kernel does not let a template choose its pid (ns_last_pid)")

    def _verify_mapping(self, line: str) -> None:
        fields = line.split(maxsplit=5)
        path = fields[5].strip() if len(fields) > 5 else ""
        if fields[1][3] == "s" and not path.startswith(self._read_only):
            raise Unfit(f"shares memory between processes when imported ({path})")

    def reaped(self) -> bool:
        """Whether the process to be copied is gone."""
        if self.monitor:
            self._bwrap.poll()
        return self.process is not None and has_ended(self.process.pid)

    def end(self) -> None:
        """Ends the process to be copied. Its pid 1 stays as long as sessions live below it: their
        pid namespaces are inside its own."""
        self.feed.close()
        self._inside.close()
        if self._traced:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._traced, signal.SIGKILL)
                os.waitpid(self._traced, WALL)  # until we have, its pid 1 cannot end
        if self.process is None and self.monitor and self._bwrap.poll() is None:
            # Nothing was forked off yet. The monitor is our child, so that its pid is its own.
            for pid in children(self.monitor):
                os.kill(pid, signal.SIGKILL)
            self._bwrap.kill()
        os.close(self.user_namespace)


def _child_pid(info: int) -> int:
    content = b""
    poll = select.poll()
    poll.register(info, select.POLLIN)
    while poll.poll(_SETUP_SECONDS_MAX * 1000):
        chunk = os.read(info, 4096)
        content += chunk
        with contextlib.suppress(ValueError):
            return int(json.loads(content)["child-pid"])
        if not chunk:
            break
    raise Unfit("bubblewrap could not set it up; its output says why")


def join(group: str, pid: int) -> None:
    Path(group, "cgroup.procs").write_text(str(pid))


def children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in listed.split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines)


def has_ended(pid: int) -> bool:
    """Of a process that we trace."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG | WALL)
    except ChildProcessError:
        return True
    return found != 0 and not os.WIFSTOPPED(status)


def _read(message: bytes) -> dict[str, list[str]]:
    """Whatever was imported may have written it."""
    try:
        said = json.loads(message)
    except (ValueError, RecursionError):
        said = None
    lists = {name: said.get(name) for name in _NOTES} if isinstance(said, dict) else {"": None}
    if not all(isinstance(each, list) for each in lists.values()):
        raise Unfit("says what makes no sense when imported")
    return {name: [str(each) for each in listed or []] for name, listed in lists.items()}


def _listed(names: Any) -> str:
    known = [str(name) for name in names] if isinstance(names, list) else []
    return ", ".join(known) or "unknown module"
