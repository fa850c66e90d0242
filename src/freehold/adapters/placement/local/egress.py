"""Connections that agents open to the network: from the node to the process that proxies them.

In a process of its own, so that bytes in bulk hold up neither the node nor a request. What a
session may reach comes with each connection: the process knows nothing that a restart could lose.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import msgspec

from freehold.adapters.placement.local import wire
from freehold.kernel import frames
from freehold.ports.egress import SessionEgress

log = logging.getLogger(__name__)

EGRESS_PORT = 7401
_SOCKET = "egress.sock"
_RECONNECT_SECONDS = 0.2
_LINES_AT_ONCE = 10
_SECONDS_A_LINE = 15.0
_SESSIONS_MAX = 10_000


class EgressGate:
    """The node's side."""

    def __init__(self, run: Path) -> None:
        self._path = str(run / _SOCKET)

    async def take(self, sandbox_id: str, egress: SessionEgress, connection: socket.socket) -> None:
        """The session's own socket says whose connection it is. Without the process it is closed:
        the agent's client tries again."""
        message = wire.EgressConnection(sandbox_id, egress)
        try:
            await frames.send_with_descriptor(self._path, message, connection.fileno())
        except OSError as error:
            log.warning("no egress for %s just now: %s", sandbox_id, error)

    async def cut(self, sandbox_id: str) -> None:
        """What a session had ends with it, though the other side is silent."""
        with contextlib.suppress(OSError):  # without the process there is nothing to end
            await frames.send_with_descriptor(
                self._path, wire.EgressConnection(sandbox_id, None), None
            )


Take = Callable[[str, SessionEgress, socket.socket], None]


class EgressAcceptor:
    """The egress process's side. `take` gets each connection, which is then its own; `cut` hears
    of sessions that have ended."""

    def __init__(self, run: Path, *, take: Take, cut: Callable[[str], None]) -> None:
        self._path, self._take_connection, self._cut = run / _SOCKET, take, cut

    async def open(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.setblocking(False)
        self._listening.bind(str(self._path))
        self._path.chmod(0o600)
        self._listening.listen(1024)
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
                log.exception("an egress connection could not be taken")

    async def _take(self, sock: socket.socket) -> None:
        with sock:
            sock.setblocking(False)
            said, descriptor = await frames.receive_with_descriptor(sock, wire.EgressConnection)
        if said.egress is None:
            self._cut(said.sandbox_id)
            return
        if descriptor is None:
            raise ConnectionError("it came without its descriptor")
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        self._take_connection(said.sandbox_id, said.egress, connection)


class RefusalNotes:
    """Tells the node what was refused, for the logs of sessions: a line each, and of an agent that
    insists a line now and then. Those that come while the node is away are only counted.
    """

    def __init__(self, run: Path) -> None:
        self._node = str(run / "node.sock")
        self._writer: asyncio.StreamWriter | None = None
        self._said: OrderedDict[str, _Said] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.create_task(self._keep_linked())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def refused(self, sandbox_id: str, why: str) -> None:
        said = self._said.setdefault(sandbox_id, _Said())
        if len(self._said) > _SESSIONS_MAX:
            self._said.popitem(last=False)
        said.count += 1
        if self._writer is not None and said.may_say(why):
            note = wire.EgressRefused(sandbox_id, why, said.count)
            self._writer.write(frames.pack(note))

    def forget(self, sandbox_id: str) -> None:
        self._said.pop(sandbox_id, None)

    async def _keep_linked(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._node)
            except OSError:
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            self._writer = writer
            try:
                await reader.read()  # the node says nothing here: this is its end
            finally:
                self._writer = None
                writer.close()


class _Said:
    """Of one session. Lines are spent, and come back one after the other."""

    def __init__(self) -> None:
        self.count = 0
        self._lines = float(_LINES_AT_ONCE)
        self._at = time.monotonic()
        self._last = ""

    def may_say(self, why: str) -> bool:
        at = time.monotonic()
        self._lines = min(_LINES_AT_ONCE, self._lines + (at - self._at) / _SECONDS_A_LINE)
        self._at = at
        cost = 1.0 if why != self._last else _LINES_AT_ONCE / 2
        if self._lines < cost:
            return False
        self._lines -= cost
        self._last = why
        return True
