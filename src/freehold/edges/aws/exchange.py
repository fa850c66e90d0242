"""One HTTP exchange over ASGI: its headers, whether the client is still there, the answer."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from starlette.types import Receive, Scope, Send

from freehold.edges.aws.parse import Headers
from freehold.edges.aws.reply import Reply
from freehold.edges.sigv4 import header_text
from freehold.edges.spool import ClientDisconnected, Inbound
from freehold.kernel.errors import ValidationFailed

# The server in front may be stricter.
PATH_BYTES_MAX = 8 * 1024
QUERY_BYTES_MAX = 32 * 1024
HEADERS_BYTES_MAX = 64 * 1024

_NO_BODY = frozenset({204, 304})


class Exchange:
    """`answered` once the last byte is on its way: a client may leave then."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.inbound = Inbound(scope, receive)
        self.started = False
        self.answered = False
        self.before_end: Callable[[int], Awaitable[None]] | None = None
        """Told the status before the last byte goes, and before the first of what goes at once."""
        self._send = send

    def headers(self) -> Headers:
        """Raises ValidationFailed where the request line or the headers are too large."""
        if len(self.scope["raw_path"]) > PATH_BYTES_MAX:
            raise ValidationFailed(f"The path is longer than {PATH_BYTES_MAX} bytes.")
        if len(self.scope["query_string"]) > QUERY_BYTES_MAX:
            raise ValidationFailed(f"The query is longer than {QUERY_BYTES_MAX} bytes.")
        found = Headers()
        size = 0
        for raw_name, raw_value in self.scope["headers"]:
            size += len(raw_name) + len(raw_value)
            name, value = raw_name.decode("latin-1"), header_text(raw_value)
            if name in found:
                found.repeated.add(name)
                found[name] = f"{found[name]}, {value}"
            else:
                found[name] = value
        if size > HEADERS_BYTES_MAX:
            raise ValidationFailed(f"The headers are larger than {HEADERS_BYTES_MAX} bytes.")
        return found

    async def answer(self, reply: Reply, request_id: str) -> None:
        """Chunk by chunk: a slow client slows the stream's source, and nothing piles up."""
        reply.headers.append((b"x-amzn-requestid", request_id.encode("ascii")))
        if isinstance(reply.body, bytes):
            if reply.status not in _NO_BODY:
                reply.headers.append((b"content-length", b"%d" % len(reply.body)))
            if self.before_end is not None:
                await self.before_end(reply.status)
            await self._start(reply)
            await self._end(reply.body)
            return
        try:
            await self._start(reply)
            async for chunk in reply.body:
                if chunk:
                    message = {"type": "http.response.body", "body": chunk, "more_body": True}
                    await self._send(message)
            if self.before_end is not None:
                await self.before_end(reply.status)
            await self._end(b"")
        finally:
            close = getattr(reply.body, "aclose", None)
            if close is not None:
                await close()

    async def refuse(self, reply: Reply, request_id: str) -> None:
        """An answer that may come before the request's body has been read."""
        if not await self.inbound.drain():
            reply.headers.append((b"connection", b"close"))
        await self.answer(reply, request_id)

    async def _start(self, reply: Reply) -> None:
        self.started = True
        await self._send(
            {"type": "http.response.start", "status": reply.status, "headers": reply.headers}
        )

    async def _end(self, body: bytes) -> None:
        self.answered = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


class CancelledByDisconnect:
    """Inside, the running task is cancelled when the client goes; outside, that is
    ClientDisconnected. A cancellation from elsewhere stays one.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._client_gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._watch = asyncio.create_task(self._wait())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watch.cancel()
        if not self._client_gone:
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientDisconnected from error

    async def _wait(self) -> None:
        await self._exchange.inbound.disconnected()
        if not self._exchange.answered:
            self._client_gone = True
            self._task.cancel()
