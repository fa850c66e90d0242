"""Takes the connections that agents open to their doorway, as the node hands them over."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from freehold.adapters.placement.local import wire
from freehold.kernel import frames
from freehold.kernel.session import DoorwaySession

log = logging.getLogger(__name__)

Serve = Callable[[DoorwaySession, socket.socket], Awaitable[None]]


class DoorwayAcceptor:
    def __init__(self, path: Path, serve: Serve) -> None:
        self._path, self._serve = path, serve

    async def open(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.setblocking(False)
        self._listening.bind(str(self._path))
        self._path.chmod(0o600)
        self._listening.listen(256)
        self._task = asyncio.create_task(self._accept())

    async def close(self) -> None:
        self._task.cancel()
        self._listening.close()
        self._path.unlink(missing_ok=True)

    async def _accept(self) -> None:
        async for sock in frames.accepted(self._listening):
            try:
                await self._take(sock)
            except (OSError, msgspec.DecodeError):
                log.exception("a doorway connection could not be taken")

    async def _take(self, sock: socket.socket) -> None:
        with sock:
            sock.setblocking(False)
            said, descriptor = await frames.receive_with_descriptor(sock, wire.DoorwayConnection)
        if descriptor is None:
            raise ConnectionError("it came without its descriptor")
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        session = DoorwaySession(**msgspec.structs.asdict(said))
        await self._serve(session, connection)
