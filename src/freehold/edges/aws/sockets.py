"""WebSocket requests: their routes, which no model of AWS has, and the governed path for them.

A client's opening handshake is an ordinary GET until its answer. Whatever refuses it is an HTTP
answer with AWS's error shape.
"""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.types import Receive, Scope, Send

from freehold.edges.aws.bearer import BearerAuthenticator
from freehold.edges.aws.errors import error_reply
from freehold.edges.aws.exchange import CancelledByDisconnect, Exchange
from freehold.edges.aws.parse import Headers
from freehold.edges.pipeline import Authenticator, Call, Pipeline
from freehold.edges.sigv4 import SignatureMismatch
from freehold.edges.spool import ClientDisconnected
from freehold.edges.upgrade import UPGRADE
from freehold.kernel.arns import Arn, agentcore_arn
from freehold.kernel.caller import Caller
from freehold.kernel.errors import (
    FreeholdError,
    PlatformFailed,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from freehold.kernel.request import Request
from freehold.kernel.sockets import Conversation, SocketHandler

log = logging.getLogger(__name__)

SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
WEBSOCKET = "bedrock-agentcore:InvokeAgentRuntimeWithWebSocketStream"
SHELL = "bedrock-agentcore:InvokeAgentRuntimeCommandShell"
"""The operations' names in AWS's permissions: no model has them."""

_ROUTES = (
    (re.compile(rb"/runtimes/([^/]+)/ws/?"), WEBSOCKET),
    (re.compile(rb"/runtimes/([^/]+)/ws/shells/?"), SHELL),
)
_SESSION_ID_LENGTHS = range(33, 257)
_PORT = re.compile(rb":\d{1,5}$")
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
# A client library's own, and again the SDK's: only the first are what the client waits for.
_FIRST_ALONE = frozenset(
    (b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version", b"user-agent")
)

AuthenticatorFor = Callable[[str, str, Scope, Headers], Authenticator]
"""By operation and runtime."""


def socket_route(scope: Scope) -> tuple[str, str] | None:
    """(operation, runtime's ARN or id) of a client that asks for a WebSocket."""
    if UPGRADE not in scope.get("extensions", ()):
        return None
    for pattern, operation in _ROUTES:
        found = pattern.fullmatch(scope["raw_path"])
        if found is not None:
            return operation, unquote(found[1].decode("latin-1"))
    return None


def without_repeats(scope: Scope) -> Scope:
    """What clients of the SDK say twice, once. Raises ValidationFailed for two different hosts."""
    seen: dict[bytes, bytes] = {}
    headers = []
    for name, value in scope["headers"]:
        if name == b"host" and seen.get(name, value) != value:
            raise ValidationFailed("The request names two different hosts.")
        if name not in seen or not (name == b"host" or name in _FIRST_ALONE):
            headers.append((name, value))
        seen.setdefault(name, value)
    return {**scope, "headers": headers}


class PresignedForBareHost:
    """The SDK presigns WebSocket URLs for the host without its port, which clients then send."""

    def __init__(self, signed: Authenticator) -> None:
        self._signed = signed

    async def __call__(self, call: Call) -> Caller:
        try:
            return await self._signed(call)
        except SignatureMismatch:
            sent = call.scope
            bare = _with_bare_host(sent)
            if bare is None or b"X-Amz-Signature=" not in sent["query_string"]:
                raise
            call.scope = bare
            try:
                return await self._signed(call)
            finally:
                call.scope = sent


def _with_bare_host(scope: Scope) -> Scope | None:
    """None where the Host header has no port."""
    host = dict(scope["headers"]).get(b"host", b"")
    bare = _PORT.sub(b"", host)
    if bare == host:
        return None
    headers = [(n, bare if n == b"host" else v) for n, v in scope["headers"]]
    return {**scope, "headers": headers}


class SocketEdge:
    """The part of the AWS edge that answers `/runtimes/{arn}/ws` and `/ws/shells`."""

    def __init__(
        self,
        handlers: Mapping[str, SocketHandler],
        *,
        pipeline: Pipeline,
        authenticator: AuthenticatorFor,
        region: str,
    ) -> None:
        self._handlers = dict(handlers)
        self._region = region
        self._pipeline = pipeline
        self._authenticator = authenticator

    def route(self, scope: Scope) -> tuple[str, str] | None:
        routed = socket_route(scope)
        return routed if routed is not None and routed[0] in self._handlers else None

    async def serve(
        self, operation: str, runtime: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        exchange = Exchange(scope, receive, send)
        call: Call | None = None
        try:
            exchange.scope = without_repeats(scope)
            headers = exchange.headers()
            call = self._call(operation, runtime, exchange, headers)
            async with self._pipeline.governed(call):
                await self._converse(call, runtime, exchange, headers)
        except ClientDisconnected:
            raise
        except Exception as error:  # the boundary: all become an answer
            if exchange.started:
                raise
            await self._refuse(exchange, call, error)

    def _call(self, operation: str, runtime: str, exchange: Exchange, headers: Headers) -> Call:
        async def prepare(call: Call) -> None:
            _check_handshake(headers)
            tenant = call.known_caller.tenant
            arn = Arn.parse(runtime) or agentcore_arn(self._region, tenant, f"runtime/{runtime}")
            call.resource_arn = str(arn)

        return Call(
            edge="aws",
            operation=operation,
            scope=exchange.scope,
            receive=exchange.inbound,
            authenticator=self._authenticator(operation, runtime, exchange.scope, headers),
            prepare=prepare,
        )

    async def _converse(
        self, call: Call, runtime: str, exchange: Exchange, headers: Headers
    ) -> None:
        if isinstance(call.authenticator, BearerAuthenticator):
            await call.authenticator.check_method(call)
        request = Request(
            caller=call.known_caller,
            request_id=call.request_id,
            headers=headers,
            acts_in=call.tenant,
        )
        params = _params(runtime, exchange.scope["query_string"], headers)
        async with CancelledByDisconnect(exchange):
            conversation = await self._handlers[call.operation](request, params)
        try:
            answer = _switching(conversation, call.request_id)
            await call.acknowledge(101)
            client = exchange.scope["extensions"][UPGRADE](answer)
        except BaseException as error:
            await conversation.close()
            if isinstance(error, ConnectionError):
                raise ClientDisconnected from error
            raise
        exchange.started = True
        call.status = 101
        await conversation.run(client)

    async def _refuse(self, exchange: Exchange, call: Call | None, error: Exception) -> None:
        request_id = call.request_id if call is not None else ""
        if not isinstance(error, FreeholdError):
            log.error("a WebSocket request failed (%s)", request_id, exc_info=error)
            unknown = call is None or call.caller is None
            message = f"An internal error; its request id is {request_id}."
            error = Unavailable(message) if unknown else PlatformFailed(message)
        reply = error_reply(error, None)
        if isinstance(error, Unauthorized):
            reply.headers.append((b"www-authenticate", b"Bearer"))
        # What a client says after a refused handshake is no HTTP.
        reply.headers.append((b"connection", b"close"))
        await exchange.refuse(reply, request_id)


def _check_handshake(headers: Headers) -> None:
    if headers.get("sec-websocket-version") != "13":
        raise ValidationFailed("Sec-WebSocket-Version must be 13.")
    if not _KEY.fullmatch(headers.get("sec-websocket-key", "")):
        raise ValidationFailed("Sec-WebSocket-Key must be 16 bytes in base64.")


def _params(runtime: str, query_string: bytes, headers: Headers) -> dict[str, Any]:
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise ValidationFailed("The query is not valid UTF-8.", reason="CannotParse") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if name in query:
            raise ValidationFailed(f"{name} must stand in the query once only.")
        query[name] = value
    session_id = headers.get(SESSION_HEADER.lower()) or query.pop(SESSION_HEADER, None)
    if session_id is not None and len(session_id) not in _SESSION_ID_LENGTHS:
        raise ValidationFailed("runtimeSessionId must have 33 to 256 characters.")
    return {
        "agentRuntimeArn": runtime,
        "runtimeSessionId": session_id,
        "qualifier": query.pop("qualifier", None),
        "shellId": query.pop("shellId", None),
        "query": query,
    }


def _switching(conversation: Conversation, request_id: str) -> bytes:
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        **conversation.headers,
        "x-amzn-RequestId": request_id,
    }
    lines = ["HTTP/1.1 101 Switching Protocols"]
    for name, value in headers.items():
        if not value.isprintable():
            raise PlatformFailed(f"the answer's header {name} cannot be passed on")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode()
