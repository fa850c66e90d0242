"""Connections that are carried over the line, as the guest sees them."""

from __future__ import annotations

import errno
import socket

from freehold.adapters.sandbox.vm.guest import frames
from freehold.adapters.sandbox.vm.guest.line import IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from freehold.adapters.sandbox.vm.guest.line import Line, Poll

_CREDIT_STEP_BYTES = frames.WINDOW_BYTES // 4


class Streams:
    """Those of the host have odd numbers, ours even ones."""

    def __init__(self, poll: Poll, line: Line) -> None:
        self.poll = poll
        self.line = line
        self._streams: dict[int, Stream] = {}
        self._next = 2

    def open(self, number: int, port: int) -> None:
        """As the host asked."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = Stream(self, number, connection)
        self._streams[number] = stream
        stream.connect(port)

    def announce(self, kind: int, connection: socket.socket, about: int) -> int:
        """A stream of our own: its number."""
        number, self._next = self._next, self._next + 2
        connection.setblocking(False)
        self._streams[number] = stream = Stream(self, number, connection)
        self.line.send(kind, number, frames.NUMBER.pack(about))
        stream.update()
        return number

    def received(self, kind: int, number: int, payload: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return  # it was closed while this was on its way
        if kind == frames.DATA:
            stream.received(payload)
        elif kind == frames.CREDIT:
            stream.credited(frames.NUMBER.unpack(payload)[0])
        elif kind == frames.EOF:
            stream.received_end()
        else:
            stream.close()

    def closed(self, number: int) -> None:
        self._streams.pop(number, None)

    def close_all(self) -> None:
        for stream in list(self._streams.values()):
            stream.close()


class Stream:
    def __init__(self, streams: Streams, number: int, connection: socket.socket) -> None:
        self._streams = streams
        self._number = number
        self._connection = connection
        self._connecting = False
        self._inbox = bytearray()
        self._read_of_inbox = 0  # and not yet told to the host
        self._allowance = frames.WINDOW_BYTES
        self._ended_by_host = self._ended_by_guest = False

    def connect(self, port: int) -> None:
        code = self._connection.connect_ex(("127.0.0.1", port))
        self._connecting = True
        if code == errno.EINPROGRESS:
            self.update()
        else:
            self._connected(code)

    def _connected(self, code: int) -> None:
        self._connecting = False
        if code:
            self._send(frames.REFUSED, frames.NUMBER.pack(code))
            self.close()
        else:
            self._send(frames.OPENED)
            self.update()

    def received(self, data: bytes) -> None:
        self._inbox += data
        self._deliver()

    def received_end(self) -> None:
        self._ended_by_host = True
        self._deliver()

    def credited(self, count: int) -> None:
        self._allowance += count
        self.update()

    def update(self) -> None:
        """What to wait for now."""
        if self._ended_by_host and self._ended_by_guest and not self._inbox:
            self.close()
            return
        reads = not self._ended_by_guest and not self._connecting and self._allowance > 0
        events = (IN if reads else 0) | (OUT if self._inbox or self._connecting else 0)
        self._streams.poll.watch(self._connection.fileno(), events, self._ready)

    def close(self) -> None:
        if self._connection.fileno() >= 0:
            self._streams.poll.forget(self._connection.fileno())
            self._connection.close()
        self._streams.closed(self._number)

    def _ready(self, events: int) -> None:
        if self._connecting:
            self._connected(self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            return
        try:
            if events & ~OUT and not self._ended_by_guest and self._allowance > 0:
                self._read()
            if self._inbox:
                self._deliver()
            else:
                self.update()
        except OSError:
            self._abort()

    def _read(self) -> None:
        try:
            data = self._connection.recv(min(frames.CHUNK_BYTES_MAX, self._allowance))
        except BlockingIOError:
            return
        self._allowance -= len(data)
        self._ended_by_guest = not data
        self._send(frames.DATA if data else frames.EOF, data)

    def _deliver(self) -> None:
        try:
            while self._inbox and not self._connecting:
                written = self._connection.send(self._inbox)
                del self._inbox[:written]
                self._read_of_inbox += written
        except BlockingIOError:
            pass
        except OSError:
            self._abort()
            return
        if self._read_of_inbox >= _CREDIT_STEP_BYTES:
            self._send(frames.CREDIT, frames.NUMBER.pack(self._read_of_inbox))
            self._read_of_inbox = 0
        if self._ended_by_host and not self._inbox and not self._connecting:
            try:
                self._connection.shutdown(socket.SHUT_WR)
            except OSError:  # the other end has gone already
                self._abort()
                return
        self.update()

    def _abort(self) -> None:
        self._send(frames.ABORT)
        self.close()

    def _send(self, kind: int, payload: bytes = b"") -> None:
        self._streams.line.send(kind, self._number, payload)
