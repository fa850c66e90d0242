"""One HTTP exchange: its answer, whole, streamed or late."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.types import Receive, Scope, Send

from freehold.edges.s3.documents import HEAD, error_document
from freehold.edges.s3.errors import S3Error, as_s3_error
from freehold.edges.s3.request import Answer, LateAnswer, xml
from freehold.edges.spool import ClientDisconnected, Inbound
from freehold.kernel.errors import FreeholdError

_NO_BODY = frozenset({204, 304})


class Exchange:
    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, patience_seconds: float
    ) -> None:
        self.inbound = Inbound(scope, receive)
        self.started = False
        self.before_end: Callable[[int], Awaitable[None]] | None = None
        """Told the status before the last byte goes, and before the first of what goes at once."""
        self._status = 0
        self._send = send
        self._is_head = scope["method"] == "HEAD"
        self._resource = scope["raw_path"].decode("latin-1")
        self._patience_seconds = patience_seconds

    async def answer(self, answer: Answer | LateAnswer, request_id: str) -> None:
        if isinstance(answer, LateAnswer):
            await self._answer_late(answer.document, request_id)
        elif isinstance(answer.body, bytes):
            if self.before_end is not None:
                await self.before_end(answer.status)
            await self._start(
                answer.status,
                {"content-length": str(len(answer.body))} | answer.headers,
                request_id,
            )
            await self._end(b"" if self._is_head else answer.body)
        else:
            await self.inbound.drain()
            await self._start(answer.status, answer.headers, request_id)
            await self._stream(answer.body)

    async def refuse(self, error: S3Error, request_id: str) -> None:
        """May come before the body was read: its rest is dropped, or the connection closed."""
        headers = dict(error.headers)
        if not await self.inbound.drain():
            headers["connection"] = "close"
        body = b""
        if error.status != 304 and not self._is_head:
            body = error_document(error, resource=self._resource, request_id=request_id)
            headers["content-type"] = "application/xml"
        await self.answer(Answer(error.status, headers, body), request_id)

    async def _answer_late(self, document: Awaitable[bytes], request_id: str) -> None:
        """As S3 does: once the client has waited long enough it gets 200 and white space, and an
        error then stands in the document.
        """
        work = asyncio.ensure_future(document)
        try:
            await asyncio.wait({work}, timeout=self._patience_seconds)
            if work.done():
                await self.answer(xml(work.result()), request_id)
                return
            await self._start(200, {"content-type": "application/xml"}, request_id)
            await self._more(HEAD.encode())
            while not work.done():
                await self._more(b" ")
                await asyncio.wait({work}, timeout=self._patience_seconds)
            try:
                body = work.result()
            except FreeholdError as error:
                refused = as_s3_error(error)
                body = error_document(refused, resource=self._resource, request_id=request_id)
            await self._end(body.removeprefix(HEAD.encode()))
        finally:
            work.cancel()

    async def _stream(self, chunks: AsyncIterator[bytes]) -> None:
        # The server swallows what is sent to a client that has gone: only a watch tells.
        gone = asyncio.create_task(self.inbound.disconnected())
        try:
            async for chunk in chunks:
                if gone.done():
                    raise ClientDisconnected
                await self._more(chunk)
            await self._end(b"")
        finally:
            gone.cancel()

    async def _start(self, status: int, headers: dict[str, str], request_id: str) -> None:
        self.started = True
        self._status = status
        named = headers | {"x-amz-request-id": request_id, "x-amz-id-2": "freehold"}
        raw = [(name.encode("latin-1"), value.encode()) for name, value in named.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _more(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def _end(self, body: bytes) -> None:
        if self.before_end is not None:
            await self.before_end(self._status)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
