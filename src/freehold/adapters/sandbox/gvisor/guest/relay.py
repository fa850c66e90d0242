"""Pid 1 of a session that began from a checkpoint: relays connections, reaps, ends with it.

A checkpoint can only be taken of gVisor's own network stack, which nobody outside can enter. What
does reach the host is a folder with unix sockets:

- `tunnel.sock`: a few connections wait there. The platform takes one, says a port in two bytes, and
  is answered with an error number in one: zero, and it is connected to that port of the session.
- `PORT.sock`: to there goes what connects to that port of the loopback inside (the doorway).

SIGUSR1 says that somebody listens at `tunnel.sock` again. Standard library only.
"""
# ruff: noqa: PTH118

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_WAITING = 4
_CHUNK_BYTES = 1 << 16
_BACKLOG = 256
_DRAIN_SECONDS = 1


def listening(ports: Iterable[int]) -> list[socket.socket]:
    return [socket.create_server(("127.0.0.1", port), backlog=_BACKLOG) for port in ports]


def serve(folder: str, doorways: list[socket.socket], payload: int) -> int:
    """The session's exit code, as a shell has it."""
    loop = asyncio.SelectorEventLoop()  # whatever policy a framework has set
    return loop.run_until_complete(_Relay(folder, payload).run(doorways))


class _Relay:
    def __init__(self, folder: str, payload: int) -> None:
        self._folder = folder
        self._payload = payload
        self._ended: asyncio.Future[int] | None = None
        self._waiting: set[asyncio.Task[None]] = set()
        self._joined: set[asyncio.Task[None] | None] = set()
        self._calls = 0

    async def run(self, doorways: list[socket.socket]) -> int:
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        loop.add_signal_handler(signal.SIGTERM, self._hand_on, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGUSR1, self._called)
        self._wait_for_work()
        servers = [await asyncio.start_server(self._knock, sock=doorway) for doorway in doorways]
        self._reap()
        code = await self._ended
        for server in servers:
            server.close()
        if last_words := [task for task in self._joined if task]:
            await asyncio.wait(last_words, timeout=_DRAIN_SECONDS)
        return code

    def _reap(self) -> None:
        assert self._ended
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._payload and not self._ended.done():
                code = os.waitstatus_to_exitcode(status)
                self._ended.set_result(code if code >= 0 else 128 - code)

    def _hand_on(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and is reaped in a moment
            os.kill(self._payload, number)

    def _called(self) -> None:
        self._calls += 1
        self._wait_for_work()

    def _wait_for_work(self) -> None:
        while len(self._waiting) < _WAITING:
            task = asyncio.get_running_loop().create_task(self._work())
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _work(self) -> None:
        """One connection of the tunnel, for as long as it lives."""
        outside, calls, task = None, self._calls, asyncio.current_task()
        assert task
        try:
            path = os.path.join(self._folder, "tunnel.sock")
            outside = await asyncio.open_unix_connection(path)
            port = int.from_bytes(await outside[0].readexactly(2), "big")
        except (OSError, EOFError):
            _close(outside)
            self._waiting.discard(task)
            if calls != self._calls:  # who comes next (SIGUSR1) may do so before this end is seen
                self._wait_for_work()
            return  # nobody is there any more
        self._joined.add(task)
        self._waiting.discard(task)
        self._wait_for_work()
        try:
            inside = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            outside[1].write(bytes([error.errno or errno.ECONNREFUSED]))
            _close(outside)
        else:
            outside[1].write(b"\0")
            await _join(outside, inside)
        finally:
            self._joined.discard(task)

    async def _knock(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        try:
            path = os.path.join(self._folder, f"{port}.sock")
            outside = await asyncio.open_unix_connection(path)
        except OSError:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        self._joined.add(task)
        try:
            await _join(outside, (reader, writer))
        finally:
            self._joined.discard(task)


async def _join(
    one: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    other: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    copies = [
        asyncio.ensure_future(_copied(one[0], other[1])),
        asyncio.ensure_future(_copied(other[0], one[1])),
    ]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)  # a reset of one ends both
        _close(one)
        _close(other)


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the end of it, which is handed on."""
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


def _close(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None) -> None:
    if stream:
        stream[1].close()
