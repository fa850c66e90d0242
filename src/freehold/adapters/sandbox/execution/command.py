"""A program that was started beside the agent."""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import termios
from collections.abc import Mapping
from typing import Literal, Protocol

from freehold.ports.sandbox import CommandOutput

_PIECE_BYTES_MAX = 64 << 10
_LAST_WORDS_SECONDS = 0.05
_HANGUP_SECONDS = 1.0
_DEATH_SECONDS_MAX = 5.0
_END_OF_TEXT = b"\x04"  # what a person types for "no more comes"
KILLED = 128 + signal.SIGKILL

Stream = Literal["stdout", "stderr"]


class Reins(Protocol):
    """What holds a program, besides its input and output."""

    is_terminal: bool
    exit: asyncio.Future[int]

    def signal(self, number: signal.Signals) -> None:
        """To its process group, soon."""

    def resize(self, rows: int, columns: int) -> None: ...

    def let_go(self) -> None:
        """Nothing more is asked. A program that still runs is killed."""


class StarterReins:
    """`reply` is the starter's word on it, `terminal` the master of the terminal that it has."""

    def __init__(self, reply: socket.socket, *, terminal: int | None = None) -> None:
        self._reply = reply
        self._terminal = terminal
        self.is_terminal = terminal is not None
        self._loop = asyncio.get_running_loop()
        self.exit: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(reply, self._heard)

    def _heard(self) -> None:
        try:
            message = self._reply.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        # Without a last word the starter has died, and has taken the program with it.
        code = json.loads(message).get("ended") if message else KILLED
        if code is not None:
            self._end(code)

    def _end(self, code: int) -> None:
        if not self.exit.done():
            self._loop.remove_reader(self._reply)
            self._reply.close()
            self.exit.set_result(code)

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):  # the starter is gone, which is about to be heard
            self._reply.send(b"%d" % number)

    def resize(self, rows: int, columns: int) -> None:
        if self._terminal is not None:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def let_go(self) -> None:
        self._end(KILLED)
        self._terminal = None


class RunningCommand:
    """`stdin` and `outputs` do not block; of a terminal they may be the same descriptor."""

    def __init__(self, reins: Reins, *, stdin: int, outputs: Mapping[Stream, int]) -> None:
        self._reins = reins
        self._exit = reins.exit
        self._stdin = stdin
        self._outputs = dict(outputs)
        self._is_one = stdin in outputs.values()
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._reading = asyncio.Lock()
        self._turn = 0
        self._closing: asyncio.Task[None] | None = None

    async def read(self) -> CommandOutput | None:
        async with self._reading:
            return await self._next()

    async def _next(self) -> CommandOutput | None:
        while self._outputs and not self._closed.done():
            ended = self._exit.done()
            if piece := self._piece():
                return piece
            if not self._outputs:
                break
            if not await self._something_to_read(_LAST_WORDS_SECONDS if ended else None) and ended:
                break  # what it left running holds the pipes, and belongs to the session
        return None

    def _piece(self) -> CommandOutput | None:
        """What is there now. The streams take turns."""
        self._turn += 1
        names = list(self._outputs)
        for place in range(len(names)):
            name = names[(self._turn + place) % len(names)]
            try:
                data = os.read(self._outputs[name], _PIECE_BYTES_MAX)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno != errno.EIO:  # nobody has the terminal open any more
                    raise
                data = b""
            if data:
                return CommandOutput(name, data)
            self._close_output(name)
        return None

    def _close_output(self, name: Stream) -> None:
        descriptor = self._outputs.pop(name)
        if descriptor == self._stdin:
            self._stdin = -1
        os.close(descriptor)

    async def _something_to_read(self, seconds_max: float | None) -> bool:
        """Or its end, if that is not known yet."""
        ready: asyncio.Future[None] = self._loop.create_future()
        watched = list(self._outputs.values())
        for descriptor in watched:
            self._loop.add_reader(descriptor, _wake, ready)
        try:
            either: list[asyncio.Future[None] | asyncio.Future[int]] = [ready, self._closed]
            if seconds_max is None:
                either.append(self._exit)
            await asyncio.wait(either, timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
            return ready.done()
        finally:
            for descriptor in watched:
                self._loop.remove_reader(descriptor)

    async def write(self, data: bytes) -> None:
        if not data:
            if self._reins.is_terminal:
                data = _END_OF_TEXT
            else:
                self._close_stdin()
        left = memoryview(data)
        while left and self._stdin >= 0 and not self._exit.done():
            try:
                left = left[os.write(self._stdin, left) :]
            except BlockingIOError:
                await self._room_to_write()
            except OSError:
                self._close_stdin()  # it reads no more

    async def _room_to_write(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        # Of its own: the loop knows one waiting for each descriptor, and a terminal's is read too.
        descriptor = os.dup(self._stdin)
        self._loop.add_writer(descriptor, _wake, ready)
        try:
            either: list[asyncio.Future[None] | asyncio.Future[int]] = [ready, self._exit]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._loop.remove_writer(descriptor)
            os.close(descriptor)

    def _close_stdin(self) -> None:
        if self._stdin >= 0 and not self._is_one:
            os.close(self._stdin)
            self._stdin = -1

    def resize(self, rows: int, columns: int) -> None:
        if not self._exit.done() and not (self._is_one and self._stdin < 0):
            self._reins.resize(rows, columns)

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for number, seconds in (
            (signal.SIGHUP, _HANGUP_SECONDS),
            (signal.SIGKILL, _DEATH_SECONDS_MAX),
        ):
            if not self._exit.done():
                self._reins.signal(number)
                await asyncio.wait([self._exit], timeout=seconds)
        self._closed.set_result(None)
        async with self._reading:
            for name in list(self._outputs):
                self._close_output(name)
        self._close_stdin()
        self._reins.let_go()  # what is frozen dies as soon as it thaws


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
