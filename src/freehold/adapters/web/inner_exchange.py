"""One request to an ASGI application of this process, as a `ports.web.WebStream`."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from math import inf
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from freehold.ports.web import Unreachable

log = logging.getLogger(__name__)

_WAITING_BYTES_MAX = 256 * 1024


class InnerExchange:
    """`run` is a task of its own; it ends by itself when the stream is closed, as a server's does
    when its client goes."""

    def __init__(
        self, body: bytes | AsyncIterator[bytes] | None, *, idle_seconds_max: float
    ) -> None:
        self._body, self._idle_seconds_max = body, idle_seconds_max
        self._asked = False
        self._gone, self._answering = asyncio.Event(), asyncio.Event()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes, self._ended = 0, False
        self._broken: str = ""
        self.status = 0
        self.headers: Mapping[str, str] = {}

    # -- the application's side

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception:  # the boundary: a server would log it, too, and break the connection off
            log.exception("an inner call broke")
        finally:
            if not self._ended:
                self._broken = "the platform broke off its answer"
            self._ended = True
            self._answering.set()
            self._news.set()
            self._gone.set()

    async def _receive(self) -> Message:
        if isinstance(self._body, AsyncIterator):
            try:
                chunk = await anext(self._body)
            except StopAsyncIteration:
                self._body, self._asked = None, True
                return {"type": "http.request", "body": b"", "more_body": False}
            return {"type": "http.request", "body": chunk, "more_body": True}
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._body or b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set():
            return  # nobody listens any more
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = _joined(message["headers"])
            self._answering.set()
            return
        piece = message.get("body", b"")
        if piece:
            self._pieces.append(piece)
            self._waiting_bytes += len(piece)
        if not message.get("more_body", False):
            self._ended = True
            self._gone.set()  # as servers have it: after the last byte, too
        self._news.set()
        if self._waiting_bytes > _WAITING_BYTES_MAX and not self._ended:
            self._room.clear()
            await self._room.wait()

    # -- the caller's side

    async def begun(self) -> None:
        """Once there is a status. Raises Unreachable."""
        await self._answering.wait()
        if not self.status:
            raise Unreachable(self._broken or "the platform did not answer", sent=True)

    async def chunks(self) -> AsyncIterator[bytes]:
        while piece := await self._next():
            yield piece

    async def read(self, bytes_max: int) -> bytes:
        content = bytearray()
        while piece := await self._next():
            content += piece
            if len(content) > bytes_max:
                raise Unreachable(f"the answer is longer than {bytes_max} bytes", sent=True)
        return bytes(content)

    def close(self) -> None:
        self._gone.set()
        self._pieces.clear()
        self._room.set()

    async def _next(self) -> bytes:
        """Empty at the end."""
        idle = self._idle_seconds_max
        while not self._pieces:
            if self._broken:
                raise Unreachable(self._broken, sent=True)
            if self._ended:
                return b""
            self._news.clear()
            try:
                async with asyncio.timeout(idle if idle < inf else None):
                    await self._news.wait()
            except TimeoutError:
                if idle == inf:
                    raise  # the caller's own
                raise Unreachable(
                    f"the platform sent nothing for {idle:g} seconds", sent=True, timed_out=True
                ) from None
        piece = self._pieces.popleft()
        self._waiting_bytes -= len(piece)
        if self._waiting_bytes <= _WAITING_BYTES_MAX:
            self._room.set()
        return piece


def _joined(headers: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
