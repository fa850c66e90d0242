"""A further program in a machine, as the host sees it."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Annotated

import msgspec

from freehold.adapters.sandbox.execution.surroundings import environment_for
from freehold.adapters.sandbox.vm.guest import frames
from freehold.adapters.sandbox.vm.link import Link
from freehold.ports.sandbox import CommandOutput, CommandSpec, SandboxFailed

_KILLED, _NO_PROGRAM = 137, 127  # as shells have it
_CREDIT_STEP_BYTES = frames.WINDOW_BYTES // 4
_BEGIN_SECONDS_MAX = 20.0  # emulated machines are slow
_HANG_UP_SECONDS = 1.0
_DEATH_SECONDS_MAX = 10.0
_REASON_CHARACTERS_MAX = 500


class _NotStarted(msgspec.Struct):
    reason: str


class _Exited(msgspec.Struct):
    code: Annotated[int, msgspec.Meta(ge=0, le=255)]


class VmCommand:
    """What it writes waits here, in a window that it cannot write beyond."""

    def __init__(self, number: int, send: Callable[..., None], forget: Callable[[], None]) -> None:
        self._number = number
        self._send_frame = send
        self._forget = forget
        loop = asyncio.get_running_loop()
        self._begun: asyncio.Future[None] = loop.create_future()
        self._exit: asyncio.Future[int] = loop.create_future()
        self._output: deque[CommandOutput] = deque()
        self._arrived = asyncio.Event()
        self._all_arrived = False
        self._held_bytes = self._uncredited_bytes = 0
        self._room = asyncio.Event()
        self._allowance = frames.WINDOW_BYTES
        self._closed = False

    @classmethod
    async def begun(cls, link: Link, spec: CommandSpec) -> "VmCommand":
        """Raises SandboxFailed when there is no such program."""
        told = {**msgspec.to_builtins(spec), "defaults": environment_for(spec, {})}
        try:
            number = link.fresh_number()
        except ConnectionError as error:
            raise SandboxFailed("the session has ended") from error
        command = cls(number, link.send, lambda: link.forget(number))
        link.carry(number, command)
        try:
            link.send(frames.EXECUTE, number, msgspec.json.encode(told))
            async with asyncio.timeout(_BEGIN_SECONDS_MAX):
                await asyncio.shield(command._begun)
        except TimeoutError as error:
            command._abort()
            raise SandboxFailed(
                "the program was not started in time: is the session busy?"
            ) from error
        except BaseException:
            command._abort()
            raise
        return command

    async def read(self) -> CommandOutput | None:
        while not self._output:
            if self._all_arrived:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        piece = self._output.popleft()
        self._uncredited_bytes += len(piece.data)
        if self._uncredited_bytes >= _CREDIT_STEP_BYTES:
            self._held_bytes -= self._uncredited_bytes
            self._send(frames.CREDIT, frames.NUMBER.pack(self._uncredited_bytes))
            self._uncredited_bytes = 0
        return piece

    async def write(self, data: bytes) -> None:
        if not data:
            self._send(frames.EOF)
        rest = memoryview(data)
        while rest and not self._exit.done():
            if self._allowance <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            chunk = bytes(rest[: min(self._allowance, frames.CHUNK_BYTES_MAX)])
            rest = rest[len(chunk) :]
            self._allowance -= len(chunk)
            self._send(frames.DATA, chunk)

    def resize(self, rows: int, columns: int) -> None:
        self._send(frames.RESIZE, frames.SIZE.pack(rows, columns))

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    def line_lost(self) -> None:
        """The machine has ended, or we leave it. What came before can still be read."""
        self._closed = True
        self._not_started("the session has ended")
        self._exited(_KILLED)
        self._end_output()

    async def close(self) -> None:
        if not self._exit.done():
            self._send(frames.HANG_UP)
            await asyncio.wait([self._exit], timeout=_HANG_UP_SECONDS)
        self._abort()
        await asyncio.wait([self._exit], timeout=_DEATH_SECONDS_MAX)
        self._exited(_KILLED)  # where it does not say so: it is frozen, and dies when it thaws

    def received(self, kind: int, payload: bytes) -> None:
        """From the guest."""
        if kind == frames.OPENED:
            if not self._begun.done():
                self._begun.set_result(None)
        elif kind == frames.NOT_STARTED:
            said = msgspec.json.decode(payload, type=_NotStarted)
            self._not_started(said.reason[:_REASON_CHARACTERS_MAX])
        elif kind in (frames.DATA, frames.ERRORS):
            self._keep(kind, payload)
        elif kind == frames.EOF:
            self._end_output()
        elif kind == frames.CREDIT:
            self._allowance += frames.NUMBER.unpack(payload)[0]
            self._room.set()
        elif kind == frames.EXITED:
            self._exited(msgspec.json.decode(payload, type=_Exited).code)

    def _keep(self, kind: int, data: bytes) -> None:
        self._held_bytes += len(data)
        if self._held_bytes > frames.WINDOW_BYTES:
            raise frames.LineFailed("more was sent than there is room for")
        if not self._closed:
            output = CommandOutput("stdout" if kind == frames.DATA else "stderr", data)
            self._output.append(output)
            self._arrived.set()

    def _end_output(self) -> None:
        self._all_arrived = True
        self._arrived.set()

    def _not_started(self, reason: str) -> None:
        if not self._begun.done():
            self._begun.set_exception(SandboxFailed(reason))
            self._begun.exception()  # whoever asked may have given up
            self._exited(_NO_PROGRAM)

    def _exited(self, code: int) -> None:
        if not self._exit.done():
            self._exit.set_result(code)
            self._room.set()
        if self._closed:
            self._forget()

    def _abort(self) -> None:
        """Nothing more is read of it. Its exit still is told."""
        if self._closed:
            return
        self._send(frames.ABORT)
        self._closed = True
        self._output.clear()
        self._end_output()
        if self._exit.done():
            self._forget()

    def _send(self, kind: int, payload: bytes = b"") -> None:
        if not self._closed:
            self._send_frame(kind, self._number, payload)
