"""Sockets that live inside a sandbox's network namespace and are held on the host."""

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

from freehold.adapters.sandbox import opener_child

_PROGRAM = Path(opener_child.__file__)
_ANSWER_SECONDS_MAX = 5.0


class Opener:
    """Speaks to one long-lived child process, started at first need and again if it dies."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    async def streams(self, netns: int, count: int) -> list[socket.socket]:
        """Unconnected, non-blocking TCP sockets: one trip buys several connections."""
        return await self._request(netns, opener_child.STREAM, 0, count)

    async def listener(self, netns: int, port: int) -> socket.socket:
        """Listening on 127.0.0.1:port inside."""
        (listener,) = await self._request(netns, opener_child.LISTENER, port, 1)
        return listener

    async def _request(self, netns: int, kind: bytes, port: int, count: int) -> list[socket.socket]:
        message = opener_child.REQUEST.pack(kind, port, count)
        control = self._running()
        try:
            return await _exchange(control, message, netns, count)
        except (BrokenPipeError, ConnectionResetError):
            if control is self._control:
                self.close()  # it died; another request may have found out first
            return await _exchange(self._running(), message, netns, count)

    def _running(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._child = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-E", str(_PROGRAM), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the platform, which then closes this
                )
            ours.setblocking(False)
            self._control = ours
        return self._control

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def close(self) -> None:
        if self._control:
            self._control.close()
            self._control = None
        if self._child:
            self._child.kill()
            self._child.wait()
            self._child = None


async def _exchange(
    control: socket.socket, message: bytes, netns: int, count: int
) -> list[socket.socket]:
    """ConnectionResetError or BrokenPipeError: nobody is there."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        try:
            socket.send_fds(control, [message], [netns, theirs.fileno()])
        except BlockingIOError as error:
            raise ConnectionError("the opener of sockets does not keep up") from error
        theirs.close()
        return await _answer(ours, count)


async def _answer(end: socket.socket, count: int) -> list[socket.socket]:
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(end, lambda: None if readable.done() else readable.set_result(None))
    try:
        async with asyncio.timeout(_ANSWER_SECONDS_MAX):
            await readable
    except TimeoutError as error:
        raise ConnectionError("the sandbox's network did not answer") from error
    finally:
        loop.remove_reader(end)
    message, descriptors, _, _ = socket.recv_fds(end, 4, count, socket.MSG_CMSG_CLOEXEC)
    opened = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    with contextlib.ExitStack() as unwanted:
        for each in opened:
            unwanted.enter_context(each)
        if not message:
            raise ConnectionResetError("the opener of sockets died")
        (number,) = struct.unpack("!i", message)
        if number:
            raise OSError(number, os.strerror(number))
        unwanted.pop_all()
    for each in opened:
        each.setblocking(False)
    return opened
