"""The AWS edge's ASGI application: route, let the governed path pass, call the handler, answer."""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from freehold.edges import sigv4
from freehold.edges.aws import model
from freehold.edges.aws.errors import UnknownMethod, UnknownOperation, error_reply
from freehold.edges.aws.exchange import CancelledByDisconnect, Exchange
from freehold.edges.aws.model import Operation
from freehold.edges.aws.parse import Headers, input_parser, resource_arn
from freehold.edges.aws.reply import Reply
from freehold.edges.aws.router import Router
from freehold.edges.aws.serialize import output_serializer
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
    Unavailable,
)
from freehold.kernel.request import Handler, Request
from freehold.kernel.session import session_caller
from freehold.ports.authorizer import AccessKeys

log = logging.getLogger(__name__)

DOCUMENT_BYTES_MAX = 10 * 1024 * 1024
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
AGENTCORE, REGISTRY = "bedrock-agentcore", "agent-registry"


class AwsEdge:
    """`handlers` are by "{service}:{Operation}"; what has none answers 501.

    `payload_bytes_max` bounds a payload that is handed on unread (an agent's input);
    `document_bytes_max` a JSON document. `authenticators` take over requests whose Authorization
    has their scheme ("bearer"); all others must be signed.
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
        authenticators: Mapping[str, Authenticator] | None = None,
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
        self._authenticators = dict(authenticators or {})

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
        exchange = Exchange(scope, receive, send)
        try:
            await self._serve(exchange)
        except ClientDisconnected:
            log.debug("a client went away")

    async def _serve(self, exchange: Exchange) -> None:
        try:
            headers = exchange.headers()
            routed = self.route(exchange.scope)
            if routed is None:
                raise self._unknown(exchange.scope)
        except FreeholdError as error:
            await exchange.refuse(error_reply(error, None), ids.request_id())
            return
        await _Invocation(self, exchange, headers, *routed).run()

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
        self, scope: Scope, operation: Operation, headers: Headers, body_bytes_max: int
    ) -> Authenticator:
        if session_caller(scope) is not None:
            return _by_connection
        if self._authenticators:
            scheme = headers.get("authorization", "").partition(" ")[0].lower()
            other = self._authenticators.get(scheme)
            if other is not None:
                return other
        return self._signed[operation.service.signing_name, body_bytes_max]


def _origin(scope: Scope, headers: Headers) -> str:
    host = headers.get("host")
    return f"{scope['scheme']}://{host}" if host else ""


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
                self._exchange.scope, self._operation, self._headers, self._body_bytes_max
            ),
            prepare=self._prepare,
        )
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
        request = Request(
            caller=call.known_caller,
            request_id=call.request_id,
            headers=self._headers,
            origin=_origin(self._exchange.scope, self._headers),
            disconnected=self._exchange.inbound.known_gone,
        )
        async with CancelledByDisconnect(self._exchange):
            try:
                reply = await self._reply(await self._handler(request, self._params), request)
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
        return error_reply(error, self._operation)
