"""The host's end of the serial line: streams to and from a machine, and what its agent says.

Nothing that arrives is trusted. A guest that does not keep to the protocol loses the line.
"""

import asyncio
import secrets
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from freehold.adapters.sandbox.vm import sockets
from freehold.adapters.sandbox.vm.guest import frames
from freehold.adapters.sandbox.vm.streams import Stream

_STREAMS_MAX = 1024
_BROKEN = (frames.LineFailed, msgspec.MsgspecError, struct.error, KeyError, TypeError, ValueError)


class Carried(Protocol):
    """What has a number on the line."""

    def received(self, kind: int, payload: bytes) -> None:
        """From the guest, and not believed: LineFailed, or what decoding raises."""

    def line_lost(self) -> None: ...


class Link(asyncio.Protocol):
    """`on_event` gets HELLO, READY, ENDED and FAILED with their content; `on_lost` a reason.

    `on_accepted` gets a port, or None for a mount that is returned and then its number, and gives
    the socket that a stream of the guest's is to be joined to; None refuses it.
    """

    def __init__(
        self,
        *,
        on_event: Callable[[int, dict[str, Any]], None],
        on_lost: Callable[[str], None],
        on_accepted: Callable[[int, int], socket.socket | None],
    ) -> None:
        self._on_event = on_event
        self._on_lost = on_lost
        self._on_accepted = on_accepted
        self._decoder = frames.Decoder()
        self._streams: dict[int, Carried] = {}
        self._next = 1
        self._nonce = secrets.token_bytes(16)
        self._attached = False
        self._transport: asyncio.Transport | None = None

    @property
    def connected(self) -> bool:
        return self._transport is not None

    async def connect(self, path: Path) -> None:
        stream = await sockets.connected(path)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=stream)
        assert self._transport
        self._transport.write(frames.fresh_start())
        self.send(frames.ATTACH, 0, self._nonce)

    def send(self, kind: int, stream: int = 0, payload: bytes = b"") -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(frames.encoded(kind, stream, payload))

    def tell(self, kind: int, what: dict[str, Any]) -> None:
        self.send(kind, 0, msgspec.json.encode(what))

    async def open(self, port: int, *, expect_answer: bool = True) -> socket.socket:
        """Connected to a port inside; non-blocking. Raises ConnectionError.

        Without `expect_answer` it is the caller who finds out whether anybody is there.
        """
        number = self.fresh_number()
        ours, theirs = socket.socketpair()
        stream = self._joined(number, ours)
        try:
            theirs.setblocking(False)
            self.send(frames.OPEN, number, frames.NUMBER.pack(port))
            if expect_answer:
                await asyncio.shield(stream.opened)
            await stream.start()
        except BaseException:
            theirs.close()
            stream.abort()
            raise
        return theirs

    def fresh_number(self) -> int:
        """For something new that the host begins. Raises ConnectionError."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the machine has ended")
        number, self._next = self._next, self._next + 2
        return number

    def carry(self, number: int, carried: Carried) -> None:
        self._streams[number] = carried

    def forget(self, number: int) -> None:
        self._streams.pop(number, None)

    def close(self) -> None:
        for stream in list(self._streams.values()):
            stream.line_lost()
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        try:
            for kind, stream, payload in self._decoder.frames(data):
                self._take(kind, stream, payload)
        except _BROKEN as error:
            self._on_lost(f"the machine's agent broke its protocol: {error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for stream in list(self._streams.values()):
            stream.line_lost()
        self._on_lost("the machine's line was closed")

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if not self._attached:
            # What an earlier process of ours was told, up to the answer to our own question.
            if kind == frames.HELLO:
                said = msgspec.json.decode(payload, type=dict[str, Any])
                self._attached = said.get("nonce") == self._nonce.hex()
                if self._attached:
                    self._on_event(kind, said)
        elif kind in (frames.READY, frames.ENDED, frames.FAILED):
            self._on_event(kind, msgspec.json.decode(payload, type=dict[str, Any]))
        elif kind in (frames.ACCEPTED, frames.RETURN):
            self._accepted(kind, number, *frames.NUMBER.unpack(payload))
        elif stream := self._streams.get(number):
            stream.received(kind, payload)

    def _accepted(self, kind: int, number: int, about: int) -> None:
        if number in self._streams or number % 2:
            raise frames.LineFailed("a stream was opened twice, or with a number of ours")
        full = len(self._streams) >= _STREAMS_MAX
        target = None if full else self._on_accepted(kind, about)
        if target is None:
            self.send(frames.ABORT, number)
            return
        stream = self._joined(number, target)
        stream.opened.set_result(None)
        stream.start_soon()

    def _joined(self, number: int, ours: socket.socket) -> Stream:
        stream = Stream(number, ours, self.send, lambda: self.forget(number))
        self.carry(number, stream)
        return stream
