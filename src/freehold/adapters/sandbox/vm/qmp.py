"""QEMU's own control line: JSON, one object a line."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from freehold.adapters.sandbox.vm import sockets

_LINE_BYTES_MAX = 1 << 20
_ANSWER_SECONDS_MAX = 20.0


class QmpFailed(ConnectionError):
    """QEMU refused, or is gone."""


class Qmp:
    """One connection. `on_event` gets an event's name and data."""

    def __init__(self, on_event: Callable[[str, dict[str, Any]], None]) -> None:
        self._on_event = on_event
        self._writer: asyncio.StreamWriter | None = None
        self._raw: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._next = 0

    async def connect(self, path: Path) -> None:
        stream = await sockets.connected(path)
        self._raw = stream.dup()  # a transport cannot send descriptors
        reader, self._writer = await asyncio.open_connection(sock=stream, limit=_LINE_BYTES_MAX)
        async with asyncio.timeout(_ANSWER_SECONDS_MAX):
            await reader.readline()  # the greeting
        self._reading = asyncio.create_task(self._read(reader))
        await self.ask("qmp_capabilities")

    async def give(self, name: str, descriptor: int) -> None:
        """QEMU has it then, as `fd:NAME`."""
        await self._asked_for("getfd", {"fdname": name}, descriptor)

    async def ask(self, command: str, **arguments: object) -> Any:
        return await self._asked_for(command, arguments, None)

    async def _asked_for(
        self, command: str, arguments: dict[str, object], descriptor: int | None
    ) -> Any:
        if self._writer is None or self._reading is None or self._reading.done():
            raise QmpFailed("the machine's control line is closed")
        self._next += 1
        answer = self._asked[self._next] = asyncio.get_running_loop().create_future()
        number = self._next
        asked = {"execute": command, "arguments": arguments, "id": number}
        message = msgspec.json.encode(asked) + b"\n"
        try:
            if descriptor is None:
                self._writer.write(message)
            else:
                assert self._raw
                socket.send_fds(self._raw, [message], [descriptor])
            async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                return await answer
        except TimeoutError as error:
            raise QmpFailed(f"QEMU does not answer {command}") from error
        finally:
            del self._asked[number]

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(msgspec.json.decode(line))
        except (OSError, ValueError, msgspec.DecodeError):
            pass  # what is left of a QEMU that died, or was taken over: its end is seen elsewhere
        finally:
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(QmpFailed("QEMU closed its control line"))

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._on_event(message["event"], message.get("data", {}))
            return
        answer = self._asked.get(message.get("id", 0))
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(QmpFailed(message["error"].get("desc", "refused")))
        else:
            answer.set_result(message.get("return"))

    def close(self) -> None:
        if self._reading:
            self._reading.cancel()
        if self._writer:
            with contextlib.suppress(OSError):
                self._writer.transport.abort()
        if self._raw:
            self._raw.close()
