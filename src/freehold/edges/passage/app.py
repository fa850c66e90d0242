"""The edge of gateways for all that is no MCP: bytes in, bytes out, an ASGI application."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.edges.passage import refusals
from freehold.edges.pipeline import Authenticator, Call, Pipeline
from freehold.edges.sigv4 import header_text
from freehold.edges.spool import ClientDisconnected, Inbound, SpooledBody, StreamingBody
from freehold.kernel import ids
from freehold.kernel.body import Body, BytesBody
from freehold.kernel.caller import Caller
from freehold.kernel.errors import FreeholdError, NotFound, PlatformFailed, Unavailable
from freehold.kernel.request import Request
from freehold.kernel.session import doorway_session
from freehold.ports.mcp import INVOKE, Door
from freehold.ports.passages import Passages, Passed, Passing

log = logging.getLogger("freehold.gateway")

_GATEWAY = b"gateway"
_ABSENT = "There is no such gateway."
_CLIENT_CLOSED_REQUEST = 499
# An answer is a stranger's, and has the host of the console: a browser must not run it as ours.
_GUARD = ((b"content-security-policy", b"sandbox"), (b"x-content-type-options", b"nosniff"))


class Doors(Protocol):
    """Gateways' doors, and who may pass them: `edges/door.py`."""

    async def door(self, gateway_id: str) -> Door | None: ...

    def check(self, scope: Scope) -> None:
        """The request's size, host and origin. Raises FreeholdErrors."""

    def authenticator(self, door: Door, scope: Scope) -> Authenticator: ...

    def challenge(
        self, error: FreeholdError, door: Door, scope: Scope, caller: Caller | None
    ) -> bytes:
        """The WWW-Authenticate header's value, or nothing."""


class PassageEdge:
    """`/gateway/{id}/{target}/...` and `/gateway/{id}/inference/...`; the rest goes `otherwise`.

    `public_url` is how clients reach the platform; without it, what they say themselves.
    """

    def __init__(
        self,
        doors: Doors,
        passages: Passages,
        *,
        pipeline: Pipeline,
        otherwise: ASGIApp,
        public_url: str = "",
        body_bytes_max: int = 100 << 20,
    ) -> None:
        self._public_url = public_url.rstrip("/")
        self.doors, self.passages, self.pipeline = doors, passages, pipeline
        self._otherwise, self.body_bytes_max = otherwise, body_bytes_max

    def origin(self, scope: Scope, headers: Mapping[str, str]) -> str:
        return self._public_url or f"{scope['scheme']}://{headers.get('host', '')}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = scope.get("raw_path", b"").split(b"/", 3) if scope["type"] == "http" else []
        if len(parts) < 4 or parts[1] != _GATEWAY or not parts[3]:
            await self._otherwise(scope, receive, send)
            return
        visit = _Visit(self, scope, Inbound(scope, receive), send)
        try:
            await visit.run(parts[2].decode("latin-1"), "/" + parts[3].decode("latin-1"))
        except ClientDisconnected:
            log.debug("a client went away")


class _Visit:
    """One request."""

    def __init__(self, edge: PassageEdge, scope: Scope, inbound: Inbound, send: Send) -> None:
        self._edge, self._scope, self._inbound, self._send = edge, scope, inbound, send
        self._headers = _joined(scope)
        self._request_id = ids.request_id()
        self._begun = self._complete = False
        self._call: Call | None = None

    async def run(self, gateway_id: str, path: str) -> None:
        door: Door | None = None
        try:
            self._edge.doors.check(self._scope)
            door = await self._edge.doors.door(gateway_id)
            if door is None:
                raise NotFound(_ABSENT)
            if not door.ready:
                raise Unavailable("The gateway is not ready. Try again shortly.")
            await self._governed(door, path)
        except ClientDisconnected:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: whatever it is becomes an answer
            await self._refuse(error, door)
        finally:
            if self._call is not None and isinstance(self._call.body, SpooledBody):
                self._call.body.close()

    async def _governed(self, door: Door, path: str) -> None:
        async def prepare(call: Call) -> None:
            self._inbound.refuse_over(self._edge.body_bytes_max)

        call = self._call = Call(
            edge="passage",
            operation=INVOKE,
            scope=self._scope,
            receive=self._inbound,
            authenticator=self._edge.doors.authenticator(door, self._scope),
            prepare=prepare,
            request_id=self._request_id,
            resource_arn=door.arn,
        )
        admitted = False
        try:
            async with self._edge.pipeline.governed(call):
                admitted = True
                await self._acted(call, door, path)
        except NotFound:
            if admitted:
                raise
            # Another account's gateway is as absent as one that never was, to the letter.
            raise NotFound(_ABSENT) from None

    async def _acted(self, call: Call, door: Door, path: str) -> None:
        call.status = _CLIENT_CLOSED_REQUEST
        try:
            await self._while_client_listens(self._act(call, door, path))
        except FreeholdError as error:
            call.status = error.status
            raise

    async def _act(self, call: Call, door: Door, path: str) -> None:
        client = self._scope.get("client")
        passing = Passing(
            request=Request(
                caller=call.known_caller,
                request_id=call.request_id,
                headers=self._headers,
                origin=self._edge.origin(self._scope, self._headers),
                acts_in=call.tenant,
                source=str(client[0]) if client else "",
                session=doorway_session(self._scope),
            ),
            door=door,
            method=self._scope["method"],
            path=path,
            query=self._scope["query_string"].decode("latin-1"),
            body=call.body or await self._body(),
            noted=call.noted,
        )
        answer = await self._edge.passages.answer(passing)
        try:
            await self._begin(answer.status, answer.headers)
            last = await self._pieces(answer)
            call.status = answer.status
            await call.acknowledge(answer.status)
            await self._end(last)
        finally:
            await answer.close()

    async def _pieces(self, answer: Passed) -> bytes:
        """All but what would tell the client that it is the end; that."""
        left = int(answer.headers.get("content-length", -1))
        last = b""
        async for chunk in answer.chunks():
            left -= len(chunk)
            if left == 0:
                last = chunk
            else:
                await self._piece(chunk)
        return last

    async def _body(self) -> Body:
        headers, inbound = self._headers, self._inbound
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return StreamingBody(inbound, bytes_max=self._edge.body_bytes_max)
        if not inbound.body_ended:
            await inbound.chunk()  # the end, from where on a disconnect is noticed
        return BytesBody(b"")

    async def _while_client_listens(self, act: Coroutine[Any, Any, None]) -> None:
        work = asyncio.ensure_future(act)
        gone = asyncio.ensure_future(self._inbound.disconnected())
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            # A server says "disconnected" after the last byte as well.
            if not work.done() and not self._complete:
                raise ClientDisconnected
            await work
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self._begun = True
        raw = [
            (name.encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in headers.items()
        ]
        raw += [*_GUARD, (b"x-amzn-requestid", self._request_id.encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _piece(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _end(self, data: bytes = b"") -> None:
        self._complete = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def _refuse(self, error: Exception, door: Door | None) -> None:
        call = self._call
        if self._begun:
            # Without its last chunk the answer is seen to be cut, not taken for whole.
            log.warning("an answer was cut (%s): %s", self._request_id, error)
            return
        if not isinstance(error, FreeholdError):
            log.error("%s failed (%s)", INVOKE, self._request_id, exc_info=error)
            message = f"An internal error; its request id is {self._request_id}."
            # A caller whom nobody could authenticate is told to come again, never let in.
            error = PlatformFailed(message) if call and call.caller else Unavailable(message)
        challenged = b""
        if door is not None:
            caller = call.caller if call is not None else None
            challenged = self._edge.doors.challenge(error, door, self._scope, caller)
        body = refusals.document(error, self._request_id)
        headers = {**refusals.headers(error, challenged), "content-length": str(len(body))}
        if not await self._inbound.drain():
            headers["connection"] = "close"
        await self._begin(error.status, headers)
        await self._end(body)


def _joined(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), header_text(raw_value).strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
