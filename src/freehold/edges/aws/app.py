"""The AWS edge's ASGI application: route, let the governed path pass, call the handler, answer."""

import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.types import Receive, Scope, Send

from freehold.edges import sigv4
from freehold.edges.auditing import note_created
from freehold.edges.aws import model
from freehold.edges.aws.bearer import BearerAuthenticator, challenge, metadata_of, target_of
from freehold.edges.aws.errors import UnknownMethod, UnknownOperation, error_reply
from freehold.edges.aws.exchange import CancelledByDisconnect, Exchange
from freehold.edges.aws.model import Operation
from freehold.edges.aws.parse import Headers, input_parser, resource_arn
from freehold.edges.aws.reply import JSON_TYPE, Reply
from freehold.edges.aws.router import Router
from freehold.edges.aws.serialize import output_serializer
from freehold.edges.aws.sockets import PresignedForBareHost, SocketEdge
from freehold.edges.pipeline import Authenticator, Call, Pipeline
from freehold.edges.sigv4 import SignatureRules, Verifier
from freehold.edges.spool import (
    ClientDisconnected,
    SignatureAuthenticator,
    SpooledBody,
    SpoolSpace,
    StreamingBody,
)
from freehold.kernel import ids
from freehold.kernel.caller import Caller
from freehold.kernel.errors import (
    FreeholdError,
    NotImplementedYet,
    PlatformFailed,
    Unauthorized,
    Unavailable,
)
from freehold.kernel.request import Handler, Request
from freehold.kernel.session import session_caller
from freehold.kernel.sockets import SocketHandler
from freehold.ports.authorizer import AccessKeys, BearerTarget, BearerTokens

log = logging.getLogger(__name__)

DOCUMENT_BYTES_MAX = 10 * 1024 * 1024
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
AGENTCORE, REGISTRY = "bedrock-agentcore", "agent-registry"


class AwsEdge:
    """`handlers` are by "{service}:{Operation}"; what has none answers 501. `sockets` are the
    handlers of WebSockets.

    `payload_bytes_max` bounds a payload that is handed on unread (an agent's input);
    `document_bytes_max` a JSON document. `bearer`: tokens that resources accept by authorizers of
    their own; everything else must be signed.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        pipeline: Pipeline,
        keys: AccessKeys,
        region: str,
        spool_directory: str,
        payload_bytes_max: int,
        document_bytes_max: int = DOCUMENT_BYTES_MAX,
        spool_bytes_max: int = 4 * 1024**3,
        bearer: BearerTokens | None = None,
        sockets: Mapping[str, SocketHandler] | None = None,
    ) -> None:
        operations = model.operations()
        unknown = sorted(handlers.keys() - operations.keys())
        if unknown:
            raise TypeError(f"handlers for operations that no model has: {', '.join(unknown)}")
        self.handlers = dict(handlers)
        self.pipeline = pipeline
        self.region = region
        self.payload_bytes_max = payload_bytes_max
        self.document_bytes_max = document_bytes_max
        self._routers = {
            name: Router(op for op in operations.values() if op.service.signing_name == name)
            for name in (AGENTCORE, REGISTRY)
        }
        space = SpoolSpace(spool_directory, bytes_max=spool_bytes_max)
        self._signed = {
            (name, bytes_max): SignatureAuthenticator(
                Verifier(keys, SignatureRules(region=region, services=frozenset({name}))),
                space,
                body_bytes_max=bytes_max,
            )
            for name in (AGENTCORE, REGISTRY)
            for bytes_max in {payload_bytes_max, document_bytes_max}
        }
        self._bearer = bearer
        self._sockets = SocketEdge(
            sockets or {},
            pipeline=pipeline,
            authenticator=self._socket_authenticator,
            region=region,
        )

    def matches(self, scope: Scope) -> bool:
        """Whether some operation has this method and path."""
        try:
            return self.route(scope) is not None
        except FreeholdError:
            return True  # the path is one of ours, and broken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        assert scope["type"] == "http", "the root application answers lifespan events"
        try:
            socket = self._sockets.route(scope)
            if socket is not None:
                await self._sockets.serve(*socket, scope, receive, send)
            else:
                await self._serve(Exchange(scope, receive, send))
        except ClientDisconnected:
            log.debug("a client went away")

    async def _serve(self, exchange: Exchange) -> None:
        try:
            headers = exchange.headers()
            routed = self.route(exchange.scope)
            if routed is None:
                found = await self._metadata(exchange.scope, headers)
                if found is not None:
                    await exchange.answer(found, ids.request_id())
                    return
                raise self._unknown(exchange.scope)
        except FreeholdError as error:
            await exchange.refuse(error_reply(error, None), ids.request_id())
            return
        await _Invocation(self, exchange, headers, *routed).run()

    async def _metadata(self, scope: Scope, headers: Headers) -> Reply | None:
        """Where a client without a token learns who gives one: it says nothing else."""
        runtime = metadata_of(scope)
        origin = _origin(scope, headers)
        if runtime is None or self._bearer is None or not origin:
            return None
        target = BearerTarget(operation="", resource=runtime)
        url = f"{origin}/runtimes/{quote(runtime, safe='')}/invocations"
        document = await self._bearer.metadata(target, url)
        if document is None:
            return None
        return Reply(200, [(b"content-type", JSON_TYPE)], msgspec.json.encode(document))

    def route(self, scope: Scope) -> tuple[Operation, dict[str, str]] | None:
        """The registry's own service shares paths with AgentCore's: its signature tells."""
        method, path = scope["method"], scope["raw_path"]
        claimed = sigv4.claimed_service(scope)
        if claimed == REGISTRY:
            return self._routers[REGISTRY].match(method, path)
        found = self._routers[AGENTCORE].match(method, path)
        if found is None and claimed is None:
            found = self._routers[REGISTRY].match(method, path)
        return found

    def _unknown(self, scope: Scope) -> UnknownOperation:
        """A client of MCP asks by GET and DELETE what a server can do beside POST: 405 tells it
        that this is all, and 404 that its session is lost.
        """
        allowed = [m for m in _METHODS if self.route({**scope, "method": m}) is not None]
        if allowed and scope["method"] in _METHODS:
            return UnknownMethod(allowed)
        return UnknownOperation("No operation has this method and path.")

    def authenticator(
        self,
        scope: Scope,
        operation: Operation,
        labels: Mapping[str, str],
        headers: Headers,
        body_bytes_max: int,
    ) -> Authenticator:
        signed = self._signed[operation.service.signing_name, body_bytes_max]
        return self._for_target(signed, target_of(operation.id, labels, scope), scope, headers)

    def _socket_authenticator(
        self, operation: str, runtime: str, scope: Scope, headers: Headers
    ) -> Authenticator:
        signed = PresignedForBareHost(self._signed[AGENTCORE, self.document_bytes_max])
        target = target_of(operation, {"agentRuntimeArn": runtime}, scope)
        return self._for_target(signed, target, scope, headers)

    def _for_target(
        self, signed: Authenticator, target: BearerTarget | None, scope: Scope, headers: Headers
    ) -> Authenticator:
        otherwise = signed if session_caller(scope) is None else _by_connection
        if target is None or self._bearer is None:
            return otherwise
        return BearerAuthenticator(self._bearer, target, headers, otherwise)


def _origin(scope: Scope, headers: Headers) -> str:
    host = headers.get("host")
    return f"{scope['scheme']}://{host}" if host else ""


def _notices(request: Request) -> list[tuple[bytes, bytes]]:
    """Visible ASCII alone: a header holds nothing else."""
    return [
        (b"x-freehold-notice", re.sub(r"[^\x20-\x7e]", "?", notice).encode())
        for notice in request.notices
    ]


async def _by_connection(call: Call) -> Caller:
    """A session is known by the connection that it came through; what it signed says nothing."""
    caller = session_caller(call.scope)
    assert caller is not None, "asked of a doorway's connection only"
    return caller


class _Invocation:
    """One request to one operation."""

    def __init__(
        self,
        edge: AwsEdge,
        exchange: Exchange,
        headers: Headers,
        operation: Operation,
        labels: dict[str, str],
    ) -> None:
        self._edge = edge
        self._exchange = exchange
        self._headers = headers
        self._operation = operation
        self._labels = labels
        self._parser = input_parser(operation)
        takes_body = self._parser.takes_body
        self._body_bytes_max = edge.payload_bytes_max if takes_body else edge.document_bytes_max
        self._handler = edge.handlers.get(operation.id)
        self._params: dict[str, Any] = {}

    async def run(self) -> None:
        call = Call(
            edge="aws",
            operation=self._operation.id,
            scope=self._exchange.scope,
            receive=self._exchange.inbound,
            authenticator=self._edge.authenticator(
                self._exchange.scope,
                self._operation,
                self._labels,
                self._headers,
                self._body_bytes_max,
            ),
            prepare=self._prepare,
        )
        self._exchange.before_end = call.acknowledge
        try:
            async with self._edge.pipeline.governed(call):
                await self._act(call)
        except ClientDisconnected:
            raise
        except Exception as error:
            if not self._exchange.started:
                reply = self._error_reply(call, error)
                call.status = reply.status
                await self._exchange.refuse(reply, call.request_id)
                return
            # Too late for an answer: the server breaks the connection off, and the client sees
            # that the stream is not whole.
            log.warning("the answer to request %s broke off: %s", call.request_id, error)
            if not isinstance(error, FreeholdError):
                raise
        finally:
            if isinstance(call.body, SpooledBody):
                call.body.close()

    async def _prepare(self, call: Call) -> None:
        if self._handler is None:
            raise NotImplementedYet(f"{self._operation.name} is not implemented.")
        if call.body is None:
            call.body = StreamingBody(self._exchange.inbound, bytes_max=self._body_bytes_max)
        query = self._exchange.scope["query_string"]
        self._params = await self._parser.parse(self._labels, query, self._headers, call.body)
        call.resource_arn = resource_arn(
            self._parser,
            self._params,
            tenant=call.known_caller.tenant,
            region=self._edge.region,
        )

    async def _act(self, call: Call) -> None:
        assert self._handler is not None
        if isinstance(call.authenticator, BearerAuthenticator):
            await call.authenticator.check_method(call)
        request = Request(
            caller=call.known_caller,
            request_id=call.request_id,
            headers=self._headers,
            origin=_origin(self._exchange.scope, self._headers),
            disconnected=self._exchange.inbound.known_gone,
            acts_in=call.tenant,
        )
        async with CancelledByDisconnect(self._exchange):
            try:
                output = await self._handler(request, self._params)
                note_created(call, output or {})
                reply = await self._reply(output, request)
                reply.headers += _notices(request)
            except ClientDisconnected:
                raise
            except Exception as error:  # noqa: BLE001 - the boundary: all become an answer
                # Here, and not outside the governed path: the outcome is a part of the call.
                reply = self._error_reply(call, error)
                call.status = reply.status
                await self._exchange.refuse(reply, call.request_id)
            else:
                call.status = reply.status
                await self._exchange.answer(reply, call.request_id)

    async def _reply(self, output: dict[str, Any] | None, request: Request) -> Reply:
        try:
            return output_serializer(self._operation).serialize(output, request.request_id)
        except BaseException:
            for value in (output or {}).values():
                if hasattr(value, "aclose"):
                    await value.aclose()
            raise

    def _error_reply(self, call: Call, error: Exception) -> Reply:
        if not isinstance(error, FreeholdError):
            log.error("%s failed (%s)", call.operation, call.request_id, exc_info=error)
            # A caller whom nobody could authenticate is told to come again, never let in.
            unknown = call.caller is None
            message = f"An internal error; its request id is {call.request_id}."
            error = Unavailable(message) if unknown else PlatformFailed(message)
        call.noted["error"] = error.code
        reply = error_reply(error, self._operation)
        if isinstance(error, Unauthorized):
            origin = _origin(self._exchange.scope, self._headers)
            reply.headers.append((b"www-authenticate", challenge(error, origin)))
        return reply
