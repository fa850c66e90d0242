"""Starts templates, and forks sessions off them: run as a program of its own, by `forking.py`.

It is trusted and small, and traces what is not (see docs/decisions/0010-templates.md). It speaks
JSON over a socket of packets: one request, one answer with the same number; and news of templates
without a number. It is single-threaded, as tracing and namespaces want it, and when it dies so do
its templates and what was not yet released; released sessions go on.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from freehold.adapters.sandbox.template import syscalls
from freehold.adapters.sandbox.template.box import Box
from freehold.adapters.sandbox.template.session import Session
from freehold.adapters.sandbox.template.tracing import Refused

_PACKET_BYTES_MAX = 1 << 20
_DESCRIPTORS_MAX = 8


class Forker:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._boxes: dict[str, Box] = {}
        self._sessions: dict[int, Session] = {}
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        wakeup, wakeup_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup_end)
        self._selector.register(self._control, selectors.EVENT_READ, self._on_request)
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: self._on_deaths(wakeup))
        while True:
            for key, _ in self._selector.select():
                if key.fileobj in self._selector.get_map():
                    key.data()

    def _on_request(self) -> None:
        packet, descriptors, _, _ = socket.recv_fds(
            self._control, _PACKET_BYTES_MAX, _DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC
        )
        if not packet:
            self._leave()
        request = json.loads(packet)
        try:
            answer = getattr(self, f"_{request['do']}")(request, descriptors)
        # A boundary: what one session does to us must not end the templates of all the others.
        except Exception as error:  # noqa: BLE001
            answer = {"error": str(error) or repr(error)}
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._tell(number=request["number"], **answer)

    def _tell(self, **message: Any) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except (BrokenPipeError, ConnectionResetError):
            self._leave()

    def _leave(self) -> NoReturn:
        """The driver has gone."""
        for box in self._boxes.values():
            box.end()
        sys.exit(0)

    def _on_deaths(self, wakeup: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 4096)
        for pid in [pid for pid, session in self._sessions.items() if session.reaped()]:
            self._sessions.pop(pid).close()
        for box in list(self._boxes.values()):
            if box.reaped():
                self._drop(box, "its process ended")

    def _open(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        box = Box(request, descriptors)
        self._boxes[request["template"]] = box
        self._selector.register(box.feed, selectors.EVENT_READ, lambda: self._on_feed(box))
        return {"monitor": box.monitor, "init": box.init}

    def _on_feed(self, box: Box) -> None:
        """It has imported what it was to import, or it ended."""
        self._selector.unregister(box.feed)
        try:
            notes = box.parked()
        # A boundary, as above.
        except Exception as error:  # noqa: BLE001
            self._drop(box, str(error) or repr(error))
        else:
            self._tell(template=box.name, ready=True, notes=notes)

    def _drop(self, box: Box, reason: str) -> None:
        if self._boxes.pop(box.name, None):
            with contextlib.suppress(KeyError):
                self._selector.unregister(box.feed)
            box.end()
            self._tell(template=box.name, ready=False, reason=reason)

    def _close(self, request: dict[str, Any], _: list[int]) -> dict[str, Any]:
        if box := self._boxes.get(request["template"]):
            self._drop(box, "closed")
        return {}

    def _fork(self, request: dict[str, Any], _: list[int]) -> dict[str, Any]:
        """Told twice: when the process is there, and when it is confined."""
        box = self._boxes.get(request["template"])
        if box is None:
            raise Refused("the template has ended")
        number = request["number"]
        session = Session(box, number, user=request["user"], seen_as=request["seen_as"])
        self._sessions[session.pid] = session
        try:
            self._tell(number=number, pid=session.pid)
            session.confine()
        except BaseException:
            self._end(session)
            raise
        return {}

    def _complete(self, request: dict[str, Any], _: list[int]) -> dict[str, Any]:
        return self._worked_on(request, Session.complete)

    def _furnish(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        return self._worked_on(request, lambda each: each.furnish(request, descriptors))

    def _worked_on(
        self, request: dict[str, Any], work: Callable[[Session], None]
    ) -> dict[str, Any]:
        session = self._session(request["pid"])
        try:
            work(session)
        except BaseException:
            self._end(session)
            raise
        return {}

    def _session(self, pid: int) -> Session:
        if pid not in self._sessions:
            raise Refused("the session ended while it was set up")
        return self._sessions[pid]

    def _end(self, session: Session) -> None:
        self._sessions.pop(session.pid)
        session.kill()
        session.close()

    def _abandon(self, request: dict[str, Any], _: list[int]) -> dict[str, Any]:
        """Whatever became of that request to fork, nothing of it is left."""
        for session in list(self._sessions.values()):
            if session.number == request["of"]:
                self._end(session)
        return {}

    def _release(self, request: dict[str, Any], _: list[int]) -> dict[str, Any]:
        answer = self._worked_on(request, Session.release)
        self._sessions.pop(request["pid"]).close()
        return answer


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    os.umask(0)
    try:
        if os.geteuid() == 0:
            syscalls.own_mounts()
        else:
            _become_root_of_our_own()
        control.send(b"{}")
    except OSError as error:
        control.send(json.dumps({"error": str(error)}).encode())
        return
    Forker(control).serve()


def _become_root_of_our_own() -> None:
    """A normal user has these powers in a user namespace of its own only."""
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.NEW_USER)
    for name, content in (
        ("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")
    ):  # fmt: skip
        Path(f"/proc/self/{name}").write_text(content)
    syscalls.own_mounts()
