"""The API worker's side of a command that runs in a session."""

import asyncio
import contextlib
from pathlib import Path

from freehold.adapters.placement.local import wire
from freehold.kernel import frames
from freehold.kernel.errors import Conflict, Unavailable
from freehold.ports.sandbox import CommandOutput

_WINDOW_BYTES = 64 << 10
"""Of input that the program has not taken yet: what a person types never waits."""

_PIECE_BYTES_MAX = 32 << 10
_OUTPUTS_MAX = 4
_END_SECONDS_MAX = 8.0


class RemoteCommand:
    """`wait` raises Conflict when another caller took over a named one, Unavailable when the node
    went away, and every unfinished command with it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        stays: bool,
        resumed: bool,
    ) -> None:
        self._reader, self._writer, self._stays = reader, writer, stays
        self.resumed = resumed
        self._outputs: asyncio.Queue[CommandOutput | None] = asyncio.Queue(_OUTPUTS_MAX)
        self._all_read = False
        self._not_taken = 0
        self._taken = asyncio.Event()
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._exit.add_done_callback(lambda exit: exit.cancelled() or exit.exception())
        self._writing = asyncio.Lock()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while message := await frames.read(self._reader, wire.FromCommand):
            match message:
                case wire.Output():
                    await self._outputs.put(CommandOutput(message.stream, message.data))
                case wire.Taken():
                    self._not_taken -= message.count
                    self._taken.set()
                case wire.Exited():
                    self._end(message.code)
                case wire.TakenOver():
                    self._end(Conflict("another caller took the command over"))
        self._end(Unavailable("the node of this machine went away, and the command with it"))
        await self._outputs.put(None)

    def _end(self, how: int | Exception) -> None:
        """The first word counts."""
        self._taken.set()
        if self._exit.done():
            return
        if isinstance(how, int):
            self._exit.set_result(how)
        else:
            self._exit.set_exception(how)

    async def read(self) -> CommandOutput | None:
        if self._all_read:
            return None
        output = await self._outputs.get()
        self._all_read = output is None
        return output

    async def write(self, data: bytes) -> None:
        async with self._writing:
            if not data:
                self._send(wire.Input(b""))
            for start in range(0, len(data), _PIECE_BYTES_MAX):
                await self._write(data[start : start + _PIECE_BYTES_MAX])

    async def _write(self, piece: bytes) -> None:
        while self._not_taken and self._not_taken + len(piece) > _WINDOW_BYTES:
            if self._exit.done():
                return
            self._taken.clear()
            await self._taken.wait()
        self._not_taken += len(piece)
        self._send(wire.Input(piece))

    def resize(self, rows: int, columns: int) -> None:
        self._send(wire.Resize(rows, columns))

    def _send(self, message: wire.ToCommand) -> None:
        if not self._exit.done() and not self._writer.is_closing():
            self._writer.write(frames.pack(message))

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    async def close(self) -> None:
        if not self._listening.done() and not self._stays and not self._exit.done():
            self._listening.cancel()
            await self._ended()
        self._listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listening
        self._writer.close()
        self._all_read = True
        self._end(Unavailable("the command was let go of"))

    async def _ended(self) -> None:
        """The node closes the connection when nothing of it is left."""
        with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
            await self._listening
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(_END_SECONDS_MAX):
                while await self._reader.read(1 << 16):
                    pass


async def started(run: Path, wanted: wire.Execute) -> tuple[wire.Executed, RemoteCommand | None]:
    """Raises OSError: there is no node."""
    reader, writer = await asyncio.open_unix_connection(str(run / "commands.sock"))
    try:
        writer.write(frames.pack(wanted))
        answer: wire.Executed | None = await frames.read(reader, wire.Executed)
        if answer is None:
            raise ConnectionResetError("the node of this machine went away")
    except BaseException:
        writer.close()
        raise
    if answer.code:
        writer.close()
        return answer, None
    return answer, RemoteCommand(reader, writer, stays=bool(wanted.name), resumed=answer.resumed)
