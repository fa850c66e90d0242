"""Messages between processes of one machine: a length, then msgpack; descriptors beside them."""

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED)
_ACCEPT_PAUSE_SECONDS = 0.1
FRAME_BYTES_MAX = 64 << 20
_LENGTH = struct.Struct("!I")


def pack(message: Any) -> bytes:
    data = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(data)) + data


async def read(reader: asyncio.StreamReader, kind: Any) -> Any:
    """The next message; None at the end of the stream. Raises ValueError for garbage."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > FRAME_BYTES_MAX:
            raise ValueError(f"frame of {length} bytes")
        data = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return msgspec.msgpack.decode(data, type=kind)


async def send_with_descriptor(path: str, message: Any, descriptor: int | None) -> None:
    """Connect to a unix socket, send one small message (and a descriptor), close."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, path)
        send_now(sock, message, descriptor)


def send_now(sock: socket.socket, message: Any, descriptor: int | None) -> None:
    """One small message on a fresh socket: always fits its buffer."""
    data = pack(message)
    descriptors = [] if descriptor is None else [descriptor]
    sent = socket.send_fds(sock, [data], descriptors)
    assert sent == len(data), "a message with a descriptor must fit the socket's buffer"


async def receive_with_descriptor(sock: socket.socket, kind: type[T]) -> tuple[T, int | None]:
    """One message from a non-blocking stream socket. Raises ConnectionError at its end."""
    loop = asyncio.get_running_loop()
    data, descriptor = b"", None
    while len(data) < _LENGTH.size or len(data) < _LENGTH.size + _LENGTH.unpack_from(data)[0]:
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(sock, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(sock)
        chunk, descriptors, _, _ = socket.recv_fds(sock, 65536, 1)
        if not chunk:
            raise ConnectionResetError("the other side closed the connection")
        data += chunk
        descriptor = descriptors[0] if descriptors else descriptor
    return msgspec.msgpack.decode(data[_LENGTH.size :], type=kind), descriptor


async def accepted(listening: socket.socket) -> AsyncIterator[socket.socket]:
    """Connections as they come. Without descriptors to spare it waits until there are some."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            sock, _ = await loop.sock_accept(listening)
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)
        else:
            yield sock


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
