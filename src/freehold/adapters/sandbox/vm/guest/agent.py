"""The first process of the machine: does what the host says on the line, and tells it what was.

When this program dies the machine's kernel panics, and the host sees the machine's end.
"""
# ruff: noqa: PTH118, PTH123, PTH208

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
import time

from freehold.adapters.sandbox.vm.guest import cell, frames, tree
from freehold.adapters.sandbox.vm.guest import kernel_calls as k
from freehold.adapters.sandbox.vm.guest.commands import Commands
from freehold.adapters.sandbox.vm.guest.line import IN, OUT, Line, Poll
from freehold.adapters.sandbox.vm.guest.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PORTS = "/sys/class/virtio-ports"
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_OUTPUT_BYTES_MAX, _SAID_BYTES_MAX = 64 << 10, 1 << 20
_OPEN_FILES_MAX = 1 << 16
_PORT_ATTEMPTS_MAX, _PORT_PAUSE_SECONDS = 500, 0.01
IDLE, READY, RUNNING, ENDED, FAILED = "idle", "ready", "running", "ended", "failed"


class Agent:
    def __init__(self) -> None:
        self.poll = Poll()
        self.line = Line(self.poll, _open_port("control"), self._on_frame)
        self.streams = Streams(self.poll, self.line)
        self.commands = Commands(self.poll, self.line)
        self._output_port = _open_port("output")
        self._output = b""
        self._cell: cell.Cell | None = None
        self._writable: list[str] = []
        self._heard = b""  # of the cell's first process
        self._returning: dict[int, int] = {}
        self._writers: set[int] = set()
        self._state: dict[str, Any] = {"state": IDLE}

    def run(self) -> None:
        while True:
            self.poll.once()
            self._reap_writers()

    def _on_frame(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == frames.ATTACH:
            self._attach(payload)
        elif kind == frames.JOB:
            self._do(json.loads(payload))
        elif kind == frames.GO:
            self._go(json.loads(payload))
        elif kind == frames.CLOCK:
            _refresh(json.loads(payload))
        elif kind == frames.SIGNAL:
            if self._cell:
                self._cell.signal(stream)
        elif kind == frames.OPEN:
            self.streams.open(stream, frames.NUMBER.unpack(payload)[0])
        elif kind == frames.EXECUTE:
            running = self._cell if self._state["state"] == RUNNING else None
            self.commands.execute(stream, running, json.loads(payload))
        elif kind == frames.EOF and stream in self._returning:
            self._returned(stream)
        elif not self.commands.received(kind, stream, payload):
            self.streams.received(kind, stream, payload)

    def _attach(self, nonce: bytes) -> None:
        self.streams.close_all()
        self.commands.close_all()
        self.line.start_over()
        self._tell(frames.HELLO, {"nonce": nonce.hex(), **self._state})
        if self._state["state"] == "returning":
            self._return_mounts()  # once more: it cannot be known how far it went

    def _tell(self, kind: int, what: dict[str, Any]) -> None:
        self.line.send(kind, 0, json.dumps(what).encode())

    def _do(self, job: dict[str, Any]) -> None:
        try:
            made = cell.made(job)
            self._writable = [each["target"] for each in job["images"] if each["writable"]]
        except OSError as error:
            self._fail(f"{error.strerror}: {error.filename or ''}")
            return
        self._cell = made
        self.poll.watch(made.control.fileno(), IN, self._on_cell_says)
        self.poll.watch(made.output, IN, self._on_output)
        self.poll.watch(made.pidfd, IN, self._on_cell_end)

    def _fail(self, reason: str) -> None:
        self._state = {"state": FAILED, "reason": reason}
        self._tell(frames.FAILED, self._state)

    def _listen(self, port: int) -> None:
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        listener.setblocking(False)

        def accept(events: int) -> None:
            with contextlib.suppress(OSError):
                self.streams.announce(frames.ACCEPTED, listener.accept()[0], port)

        self.poll.watch(listener.fileno(), IN, accept)

    def _on_cell_says(self, events: int) -> None:
        """One line."""
        assert self._cell
        self._heard += self._cell.control.recv(_SAID_BYTES_MAX)
        if not events & IN or self._heard.endswith(b"\n") or len(self._heard) > _SAID_BYTES_MAX:
            self.poll.forget(self._cell.control.fileno())
        if self._heard.startswith(b"ready") and self._heard.endswith(b"\n"):
            self._state = {"state": READY}
            self.line.send(frames.READY, 0, self._heard[len(b"ready") :])
        elif self._heard.endswith(b"\n"):
            self._fail(self._heard.decode().strip())

    def _go(self, told: dict[str, Any]) -> None:
        if self._cell is None or self._state["state"] != READY:
            return
        try:
            for port in told["ports"]:
                self._listen(port)
            self._state = {"state": RUNNING}
            self._cell.go(told)
        except BrokenPipeError:
            pass  # it has died; its end tells
        except OSError as error:
            self._fail(f"{error.strerror}: {error.filename or ''}")

    def _on_output(self, events: int) -> None:
        """Reads on only when what was read is written: who does not drain it, holds it up."""
        assert self._cell
        self._output = os.read(self._cell.output, _OUTPUT_BYTES_MAX)
        self.poll.forget(self._cell.output)
        if self._output:
            self._write_output(0)
        elif self._state["state"] == ENDED:
            self._finish()

    def _write_output(self, events: int) -> None:
        assert self._cell
        with contextlib.suppress(BlockingIOError):
            while self._output:
                self._output = self._output[os.write(self._output_port, self._output) :]
        self.poll.watch(self._output_port, OUT if self._output else 0, self._write_output)
        if not self._output:
            self.poll.watch(self._cell.output, IN, self._on_output)

    def _on_cell_end(self, events: int) -> None:
        assert self._cell
        self.poll.forget(self._cell.pidfd)
        code = self._cell.reap()
        early = self._state["state"] == IDLE
        self._state = {"state": ENDED, "code": code, "memory_kills": cell.memory_kills()}
        if early:
            self._state["reason"] = "the command could not be prepared"
        # Nobody writes any more: its end is told when the output's end was read.
        if not self._output:
            self.poll.watch(self._cell.output, IN, self._on_output)

    def _finish(self) -> None:
        if self._writable:
            self._return_mounts()
        else:
            self._tell(frames.ENDED, self._state)

    def _return_mounts(self) -> None:
        self._state["state"] = "returning"
        self._returning.clear()
        for number, target in enumerate(self._writable):
            ours, theirs = socket.socketpair()
            writer = os.fork()
            if writer == 0:
                ours.close()
                _write_tree(cell.ROOT + target, theirs)
            self._writers.add(writer)
            theirs.close()
            self._returning[self.streams.announce(frames.RETURN, ours, number)] = number

    def _returned(self, stream: int) -> None:
        """The host has it all: its end of the stream says so."""
        del self._returning[stream]
        self.streams.received(frames.EOF, stream, b"")
        if not self._returning:
            self._state["state"] = ENDED
            self._tell(frames.ENDED, self._state)

    def _reap_writers(self) -> None:
        for pid in list(self._writers):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self._writers.discard(pid)


def _write_tree(root: str, target: socket.socket) -> None:
    """In a child of its own. Never returns."""
    status = 1
    try:
        with target.makefile("wb") as file:
            tree.write(root, file)
        status = 0
    finally:
        os._exit(status)


def _open_port(name: str) -> int:
    for _ in range(_PORT_ATTEMPTS_MAX):  # the driver announces ports after it was loaded
        for port in os.listdir(_PORTS):
            with open(os.path.join(_PORTS, port, "name")) as file:
                if file.read().strip() == name:
                    return os.open(f"/dev/{port}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        time.sleep(_PORT_PAUSE_SECONDS)
    raise FileNotFoundError(name)


def _refresh(now: dict[str, Any]) -> None:
    time.clock_settime_ns(time.CLOCK_REALTIME, now["time_ns"])
    entropy = base64.b64decode(now["entropy"])
    with open("/dev/urandom", "wb") as file:
        head = struct.pack("ii", len(entropy) * 8, len(entropy))
        fcntl.ioctl(file, k.RNDADDENTROPY, head + entropy)
        fcntl.ioctl(file, k.RNDRESEEDCRNG)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES_MAX, _OPEN_FILES_MAX))
    _raise_loopback()
    sys.stdin.close()
    Agent().run()
