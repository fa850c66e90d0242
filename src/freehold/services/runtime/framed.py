"""The server's end of a WebSocket: whole binary messages, one of them read at a time."""

from collections import deque

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from freehold.kernel.sockets import ClientSocket
from freehold.services.runtime.splice import closed

_CHUNK_BYTES = 64 * 1024
_UNSUPPORTED = 1003


class BinaryWebSocket:
    """After the handshake. A message longer than `message_bytes_max` ends it with code 1009."""

    def __init__(self, client: ClientSocket, *, message_bytes_max: int) -> None:
        self._reader, self._writer = client.reader, client.writer
        self._protocol = Protocol(Side.SERVER, max_size=message_bytes_max)
        self._frames: deque[Frame] = deque()
        self._parts: list[bytes] = []

    async def receive(self) -> bytes | None:
        """The next message; None: the client has closed, or is gone."""
        while True:
            while self._frames:
                message = self._assembled(self._frames.popleft())
                if message is not None:
                    return message
            if self._protocol.state is not State.OPEN:
                return None
            try:
                data = await self._reader.read(_CHUNK_BYTES)
            except ConnectionError:
                return None
            if not data:
                return None
            self._protocol.receive_data(data)
            await self._flush()
            self._frames.extend(f for f in self._protocol.events_received() if isinstance(f, Frame))

    async def send(self, message: bytes) -> None:
        """Waits for a slow client. To one that is gone, nothing."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_binary(message)
            await self._flush()

    async def close(self, code: int, reason: str = "") -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._write()
        await closed(self._writer)

    def _assembled(self, frame: Frame) -> bytes | None:
        if frame.opcode is Opcode.TEXT:
            self._protocol.fail(_UNSUPPORTED, "binary messages are expected")
            self._write()
        elif frame.opcode in (Opcode.BINARY, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                message = b"".join(self._parts)
                self._parts.clear()
                return message
        return None

    async def _flush(self) -> None:
        self._write()
        try:
            await self._writer.drain()
        except ConnectionError:
            self._protocol.receive_eof()

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            if data:  # an empty one stands for the end: `close` closes
                self._writer.write(data)
