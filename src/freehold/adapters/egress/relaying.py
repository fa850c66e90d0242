"""Bytes between a sandbox and a server beyond: a tunnel, or one plain http request."""

import asyncio
import contextlib
import re
from collections.abc import Coroutine
from typing import Any

from freehold.adapters.egress.requests import (
    CHUNKED,
    HEAD_BYTES_MAX,
    Malformed,
    ProxyRequest,
    body_length,
    end_to_end,
    parse_headers,
    written,
)

_CHUNK_BYTES = 64 << 10
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,12})[\t ]*(;[\t\x20-\x7e]*)?\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])( [\t\x20-\x7e\x80-\xff]*)?")
_TRAILERS_MAX = 100
_BODILESS = (204, 304)


class BadAnswer(Malformed):
    """The server's, not the client's."""


class Flow:
    """`reader` and `writer` lead into the sandbox, `far` to the server. Bytes of either direction
    show that the connection is in use."""

    def __init__(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        idle_seconds_max: float,
    ) -> None:
        self._reader, self._writer = near
        self._far_reader, self._far_writer = far
        self._idle_seconds_max = idle_seconds_max
        self.bytes_out = self.bytes_in = 0
        self.answered = False
        """Something of the server's answer has gone into the sandbox."""

    async def tunnel(self) -> None:
        """To the end of both directions. Raises TimeoutError, OSError."""
        self.answered = True
        self._writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self._both(
            self._pump(self._reader, self._far_writer), self._pump(self._far_reader, self._writer)
        )

    async def exchange(self, request: ProxyRequest) -> None:
        """Exactly one request and its answer: a second one would need its own check.

        Raises Malformed for a body that cannot be read, BadAnswer, TimeoutError, OSError.
        """
        assert request.head is not None
        self._far_writer.write(request.head)
        await self._first(self._request_body(request.body_bytes), self._answered(request.method))

    async def _both(self, *ways: Coroutine[Any, Any, None]) -> None:
        await self._under_way(ways, asyncio.FIRST_EXCEPTION)

    async def _first(self, *ways: Coroutine[Any, Any, None]) -> None:
        await self._under_way(ways, asyncio.FIRST_COMPLETED)

    async def _under_way(self, ways: tuple[Coroutine[Any, Any, None], ...], until: str) -> None:
        async with asyncio.timeout(self._idle_seconds_max) as self._idle:
            tasks = [asyncio.create_task(way) for way in ways]
            try:
                done, _ = await asyncio.wait(tasks, return_when=until)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    def _in_use(self) -> None:
        self._idle.reschedule(asyncio.get_running_loop().time() + self._idle_seconds_max)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(_CHUNK_BYTES):
            await self._pass(chunk, sink)
        if sink.can_write_eof():
            sink.write_eof()

    async def _pass(self, chunk: bytes, sink: asyncio.StreamWriter) -> None:
        self._in_use()
        if sink is self._far_writer:
            self.bytes_out += len(chunk)
        else:
            self.bytes_in += len(chunk)
            self.answered = True
        sink.write(chunk)
        await sink.drain()

    async def _exactly(
        self, count: int, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        while count:
            chunk = await source.read(min(count, _CHUNK_BYTES))
            if not chunk:
                raise ConnectionError("a body ended before its time")
            count -= len(chunk)
            await self._pass(chunk, sink)

    # -- the request

    async def _request_body(self, length: int) -> None:
        """Returns when the client has gone."""
        if length == CHUNKED:
            await self._request_chunks()
        else:
            await self._exactly(length, self._reader, self._far_writer)
        while await self._reader.read(_CHUNK_BYTES):
            pass  # of a second request
        raise ConnectionError("the client has gone")

    async def _request_chunks(self) -> None:
        while size := await self._chunk_size():
            self._far_writer.write(b"%x\r\n" % size)
            await self._exactly(size, self._reader, self._far_writer)
            if await self._reader.readexactly(2) != b"\r\n":
                raise Malformed("a chunk longer than it says")
            self._far_writer.write(b"\r\n")
        for _ in range(_TRAILERS_MAX):
            if await self._reader.readuntil(b"\r\n") == b"\r\n":
                self._far_writer.write(b"0\r\n\r\n")
                return
        raise Malformed("too many trailers")

    async def _chunk_size(self) -> int:
        found = _CHUNK_LINE.fullmatch(await self._reader.readuntil(b"\r\n"))
        if found is None:
            raise Malformed("a chunk with no certain length")
        return int(found[1], 16)

    # -- the answer

    async def _answered(self, method: str) -> None:
        try:
            await self._answer(method)
        except (Malformed, asyncio.LimitOverrunError) as error:
            raise BadAnswer(str(error)) from error

    async def _answer(self, method: str) -> None:
        """Interim answers go on as they are. What follows says that this connection ends."""
        status = 100
        while status < 200:
            first, rest = await self._answer_head()
            line = _STATUS_LINE.fullmatch(first)
            if line is None or (status := int(line[1])) == 101:
                raise Malformed("the server's answer is not HTTP")
            headers = list(parse_headers(rest))
            if status < 200:
                lines = [first, *([rest] if rest else ()), b"", b""]
                await self._pass(b"\r\n".join(lines), self._writer)
        length = body_length(headers)
        await self._pass(written(first, list(end_to_end(headers))), self._writer)
        if method == "HEAD" or status in _BODILESS:
            return
        if length is None or length == CHUNKED:
            while chunk := await self._far_reader.read(_CHUNK_BYTES):
                await self._pass(chunk, self._writer)
        else:
            await self._exactly(length, self._far_reader, self._writer)

    async def _answer_head(self) -> tuple[bytes, bytes]:
        try:
            head = await self._far_reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise Malformed("the server's answer has too large a head") from error
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the server gave no answer") from error
        if len(head) > 2 * HEAD_BYTES_MAX:
            raise Malformed("the server's answer has too large a head")
        first, _, rest = head.removesuffix(b"\r\n\r\n").partition(b"\r\n")
        return first, rest

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._far_writer.close()
