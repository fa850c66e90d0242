"""A gVisor sandbox that began from a checkpoint: reached through unix sockets in a folder."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
from typing import Any

from freehold.adapters.sandbox.gvisor.sandbox import GvisorSandbox
from freehold.adapters.sandbox.gvisor.template import TemplateLost
from freehold.adapters.sandbox.readiness import readable
from freehold.ports.sandbox import Exit

_CONNECT_SECONDS_MAX = 5.0
_BACKLOG = 64


class RestoredSandbox(GvisorSandbox):
    """Both ends of the sockets in the `relay` folder: ours, and those of guest/relay.py inside."""

    kept_environment = "/proc/1/fd/0"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._tunnel: socket.socket | None = None
        self._taking = asyncio.Lock()
        self._frozen = False

    async def listen(self, ports: tuple[int, ...]) -> None:
        self._tunnel = self._listening("tunnel.sock")
        for port in ports:
            self.listeners[port] = self._listening(f"{port}.sock")
        with contextlib.suppress(ConnectionError):  # as long as it does not run
            await self._control.signal(signal.SIGUSR1)

    def _listening(self, name: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        folder = os.open(self._relay, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            path = f"/proc/self/fd/{folder}/{name}"  # a socket's own may have 107 bytes
            listener.bind(path)
            if self.record.uid is not None:
                os.chown(path, self.record.uid, self.record.uid)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        finally:
            os.close(folder)
        listener.setblocking(False)
        return listener

    async def _set_frozen(self, frozen: bool) -> None:
        await super()._set_frozen(frozen)
        self._frozen = frozen

    async def arrived(self) -> None:
        """Its relay is there: what the checkpoint held runs again."""
        assert self._tunnel
        knock = asyncio.ensure_future(readable(self._tunnel.fileno()))
        try:
            either: list[asyncio.Future[None] | asyncio.Future[Exit]] = [knock, self._end]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not knock.done():
                raise TemplateLost("it did not come back from the checkpoint; its output says why")
        finally:
            knock.cancel()

    async def connect(self, port: int) -> socket.socket:
        if self._end.done() or self._gone or not self._tunnel:
            raise ConnectionError("the sandbox has ended")
        if self._frozen:
            raise ConnectionError("the sandbox is frozen, and its relay with it")
        try:
            async with asyncio.timeout(_CONNECT_SECONDS_MAX):
                while (stream := await self._connected(self._tunnel, port)) is None:
                    pass
        except TimeoutError as error:
            raise ConnectionError(f"port {port} inside does not accept connections") from error
        return stream

    async def _connected(self, tunnel: socket.socket, port: int) -> socket.socket | None:
        """None: that connection of the tunnel was none any more."""
        loop = asyncio.get_running_loop()
        async with self._taking:
            stream, _ = await loop.sock_accept(tunnel)
        with contextlib.ExitStack() as unless_connected:
            unless_connected.enter_context(stream)
            try:
                await loop.sock_sendall(stream, port.to_bytes(2, "big"))
                said = await loop.sock_recv(stream, 1)
            except ConnectionError:
                return None
            if not said:
                return None
            if said[0] == errno.ECONNREFUSED:
                raise ConnectionRefusedError(f"nothing listens on port {port} inside")
            if said[0]:
                raise ConnectionError(os.strerror(said[0]))
            unless_connected.pop_all()
        return stream

    def _release(self) -> None:
        super()._release()
        if self._tunnel:
            self._tunnel.close()
