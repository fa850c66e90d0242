"""One connection that is carried over a machine's line, joined to a socket of the host."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import cast

from freehold.adapters.sandbox.vm.guest import frames

_CREDIT_STEP_BYTES = frames.WINDOW_BYTES // 4


class Stream(asyncio.Protocol):
    """Both directions are bounded: neither end sends more than the other said it has room for."""

    def __init__(
        self,
        number: int,
        joined: socket.socket,
        send: Callable[[int, int, bytes], None],
        forget: Callable[[], object],
    ) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number = number
        self._socket: socket.socket | None = joined
        self._send = send
        self._forget = forget
        self._transport: asyncio.Transport | None = None
        self._starting: asyncio.Task[None] | None = None
        self._early: list[bytes] = []  # came before the socket was joined
        self._allowance = frames.WINDOW_BYTES
        self._held = bytearray()  # read from the socket, and not allowed to go on yet
        self._uncredited = 0
        self._received = 0  # since the last credit: what the guest may not go beyond
        self._room = True  # in the socket's buffer
        self._paused = False
        self._ended_here = self._ended_there = self._end_sent = self._closed = False

    async def start(self) -> None:
        if self._socket is None:
            raise ConnectionError("it was closed before it began")
        joined, self._socket = self._socket, None
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: self, sock=joined)
        except BaseException:
            joined.close()
            raise

    def start_soon(self) -> None:
        self._starting = asyncio.create_task(self._start_or_not())

    async def _start_or_not(self) -> None:
        try:
            await self.start()
        except OSError:
            self.abort()

    def received(self, kind: int, payload: bytes) -> None:
        """From the guest."""
        if kind == frames.OPENED:
            if not self.opened.done():
                self.opened.set_result(None)
        elif kind == frames.REFUSED:
            self._refused(frames.NUMBER.unpack(payload)[0])
        elif kind == frames.CREDIT:
            self._allowance += frames.NUMBER.unpack(payload)[0]
            self._send_held()
        elif kind == frames.ABORT:
            self.close()
        elif kind == frames.DATA:
            self._received += len(payload)
            if self._received > frames.WINDOW_BYTES:
                raise frames.LineFailed("more was sent than there is room for")
            self._arrived(payload)
        elif kind == frames.EOF:
            self._arrived(b"")

    def _arrived(self, data: bytes) -> None:
        """No data: the end of it."""
        if self._transport is None:
            self._early.append(data)
        elif data:
            self._deliver(data)
        elif not self._ended_there:
            self._ended_there = True
            self._transport.write_eof()
            self._close_when_over()

    def _deliver(self, payload: bytes) -> None:
        assert self._transport
        self._transport.write(payload)
        self._uncredited += len(payload)
        if self._room:
            self._credit()

    def _credit(self) -> None:
        if self._uncredited >= _CREDIT_STEP_BYTES:
            self._send(frames.CREDIT, self._number, frames.NUMBER.pack(self._uncredited))
            self._received -= self._uncredited
            self._uncredited = 0

    def _refused(self, code: int) -> None:
        if not self.opened.done():
            error = OSError(code, os.strerror(code))
            known = isinstance(error, ConnectionError)
            self.opened.set_exception(error if known else ConnectionError(str(error)))
        self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        early, self._early = self._early, []
        for data in early:
            self._arrived(data)

    def data_received(self, data: bytes) -> None:
        """From the host's socket."""
        self._held += data
        self._send_held()

    def _send_held(self) -> None:
        while self._held and self._allowance > 0:
            chunk = bytes(self._held[: min(self._allowance, frames.CHUNK_BYTES_MAX)])
            del self._held[: len(chunk)]
            self._allowance -= len(chunk)
            self._send(frames.DATA, self._number, chunk)
        if self._transport is None or self._closed:
            return
        if self._held and not self._paused:
            self._transport.pause_reading()
        elif self._paused and not self._held:
            self._transport.resume_reading()
        self._paused = bool(self._held)
        self._send_end()

    def eof_received(self) -> bool:
        self._ended_here = True
        self._send_end()
        return True  # the other direction stays

    def _send_end(self) -> None:
        if self._ended_here and not self._held and not self._end_sent:
            self._end_sent = True
            self._send(frames.EOF, self._number, b"")
            self._close_when_over()

    def _close_when_over(self) -> None:
        if self._ended_here and self._ended_there and not self._held and self._transport:
            self._forget()
            self._transport.close()  # after what is still to be written

    def pause_writing(self) -> None:
        self._room = False

    def resume_writing(self) -> None:
        self._room = True
        self._credit()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed and not (self._ended_here and self._ended_there):
            self._send(frames.ABORT, self._number, b"")
        self.close()

    def abort(self) -> None:
        """Ends it at both ends."""
        if not self._closed:
            self._send(frames.ABORT, self._number, b"")
        self.close()

    def line_lost(self) -> None:
        self.close()

    def close(self) -> None:
        """Ends it at this end."""
        self._closed = True
        self._forget()
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("the machine has ended"))
            self.opened.exception()  # nobody need have waited
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._transport:
            self._transport.abort()
