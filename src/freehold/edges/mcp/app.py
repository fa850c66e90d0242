"""The MCP edge of gateways: one endpoint for both eras, an ASGI application."""

import logging
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.edges.mcp.admission import Accepts, Headers, Names, check_content
from freehold.edges.mcp.answer import Answer, RawHeaders
from freehold.edges.mcp.authentication import DoorAuthenticator, challenge
from freehold.edges.mcp.metadata import ResourceMetadata, gateway_of, resource_of
from freehold.edges.mcp.modern import METHOD_HEADER, VERSION_HEADER
from freehold.edges.mcp.post import Post
from freehold.edges.mcp.standing import Listening, Standing, StandingStreams
from freehold.edges.mcp.streams import Stream
from freehold.edges.mcp.underway import UnderWay
from freehold.edges.mcp.wire import (
    CODE_OF_STATUS,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    LEGACY,
    VERSIONS,
    Id,
    Incoming,
    Refused,
    error_message,
)
from freehold.edges.pipeline import Call, Pipeline
from freehold.edges.sigv4 import SignatureRules, Verifier
from freehold.edges.spool import (
    ClientDisconnected,
    SignatureAuthenticator,
    SpooledBody,
    SpoolSpace,
)
from freehold.kernel import ids
from freehold.kernel.caller import Caller
from freehold.kernel.errors import FreeholdError, NotFound, PlatformFailed, Unavailable
from freehold.kernel.request import Request
from freehold.kernel.session import doorway_session
from freehold.ports.authorizer import AccessKeys, BearerTokens
from freehold.ports.mcp import INVOKE, Client, Door, Gateways, Handover, Session, Sessions

log = logging.getLogger(__name__)

SIGNING_NAME = "bedrock-agentcore"
SESSION_HEADER = "mcp-session-id"
ABSENT = "There is no such gateway."
_RETRY_SECONDS = 2
_SPOOL_BYTES_MAX = 1 << 30


class McpEdge:
    """`/gateway/{id}/mcp` and `/mcp/{id}`, and the metadata behind them; the rest goes
    `otherwise`. Metadata under `/.well-known/` is `metadata`, an application of its own.

    `public_url` is how clients reach the platform. `hosts` and `origins` are further names that
    it has (see `admission.Names`). `handover` joins the workers of one installation; without it
    what concerns a call has to come to the worker that has it.
    """

    def __init__(
        self,
        gateways: Gateways,
        sessions: Sessions,
        *,
        pipeline: Pipeline,
        keys: AccessKeys,
        bearer: BearerTokens,
        region: str,
        public_url: str,
        spool_directory: str,
        otherwise: ASGIApp,
        metadata_otherwise: ASGIApp | None = None,
        handover: Handover | None = None,
        payload_bytes_max: int = 6 << 20,
        hosts: tuple[str, ...] = (),
        origins: tuple[str, ...] = (),
        streams_max: int = 1000,
    ) -> None:
        self.gateways, self.sessions = gateways, sessions
        self.pipeline, self.bearer = pipeline, bearer
        self.payload_bytes_max = payload_bytes_max
        self.signed = SignatureAuthenticator(
            Verifier(keys, SignatureRules(region=region, services=frozenset({SIGNING_NAME}))),
            SpoolSpace(spool_directory, bytes_max=_SPOOL_BYTES_MAX),
            body_bytes_max=payload_bytes_max,
        )
        self.metadata = ResourceMetadata(
            gateways, bearer, public_url=public_url, otherwise=metadata_otherwise or otherwise
        )
        self.underway = UnderWay(handover)
        self.standing = StandingStreams(streams_max=streams_max)
        self.names = Names(public_url, hosts=hosts, origins=origins)
        self._otherwise = otherwise

    def stop(self) -> None:
        """Before the server drains: streams that wait for news would hold it up."""
        self.underway.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("raw_path", b"")
        gateway_id = gateway_of(path) if scope["type"] == "http" else None
        if gateway_id is None:
            metadata = scope["type"] == "http" and resource_of(path) is not None
            app = self.metadata if metadata else self._otherwise
            await app(scope, receive, send)
            return
        try:
            await self._serve(gateway_id, scope, Answer(scope, receive, send))
        except ClientDisconnected:
            log.debug("a client went away")

    async def _serve(self, gateway_id: str, scope: Scope, answer: Answer) -> None:
        request_id = ids.request_id()
        try:
            headers = Headers(scope)
            self.names.check(scope, headers)
            door = await self.gateways.door(gateway_id)
            if door is None:
                raise NotFound(ABSENT)
            if not door.ready:
                raise Unavailable("The gateway is not ready. Try again shortly.")
        except FreeholdError as error:
            answer.headers.append((b"x-amzn-requestid", request_id.encode("ascii")))
            await self.refuse(answer, error, request_id)
            return
        visit = Visit(self, scope, headers, door=door, answer=answer, request_id=request_id)
        await visit.run()

    async def refuse(
        self,
        answer: Answer,
        error: FreeholdError,
        request_id: str,
        *,
        id: Id = None,
        challenged: bytes = b"",
    ) -> None:
        """The right HTTP status, and a body that clients of MCP read."""
        code = CODE_OF_STATUS.get(
            error.status, INTERNAL_ERROR if error.status >= 500 else INVALID_REQUEST
        )
        data: object = {"code": error.code, "requestId": request_id}
        if isinstance(error, Refused):
            code = error.rpc_code
            id = error.id if error.id is not None else id
            data = error.data if error.data is not None else data
        headers: RawHeaders = []
        if challenged:
            headers.append((b"www-authenticate", challenged))
        if error.status in (429, 503):
            seconds = error.fields.get("retry_after", _RETRY_SECONDS)
            headers.append((b"retry-after", b"%d" % max(1, round(float(seconds)))))
        if error.status == 405:
            headers.append((b"allow", str(error.fields["allow"]).encode("ascii")))
        body = error_message(id, code, error.message, data)
        await answer.refuse(error.status, body, headers)


class MethodNotAllowed(FreeholdError):
    code = "MethodNotAllowed"
    status = 405


class Visit:
    """One HTTP request to a gateway that is there."""

    def __init__(
        self,
        edge: McpEdge,
        scope: Scope,
        headers: Headers,
        *,
        door: Door,
        answer: Answer,
        request_id: str,
    ) -> None:
        self.edge, self.scope, self.headers = edge, scope, headers
        self.door, self.answer = door, answer
        self.accepts = Accepts(headers)
        self.supported = door.versions or VERSIONS
        answer.headers.append((b"x-amzn-requestid", request_id.encode("ascii")))
        self.call = Call(
            edge="mcp",
            operation=INVOKE,
            scope=scope,
            receive=answer.inbound,
            authenticator=DoorAuthenticator(door, headers, bearer=edge.bearer, signed=edge.signed),
            prepare=self._nothing,
            request_id=request_id,
            resource_arn=door.arn,
        )
        self.message_id: Id = None
        self.after: Callable[[], Awaitable[None]] | None = None
        """What goes on once the call is over: a stream that stands would hold a place among the
        calls in flight for ever."""

    async def run(self) -> None:
        call, answer = self.call, self.answer
        answer.before = call.acknowledge
        try:
            act = self._method()
            async with self.edge.pipeline.governed(call):
                try:
                    await act()
                except ClientDisconnected:
                    raise
                except Exception as error:  # noqa: BLE001 - the boundary: all become an answer
                    # Here, and not outside the governed path: the outcome is a part of the call.
                    await self._refuse(error)
            if self.after is not None:
                await self.after()
        except ClientDisconnected:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: refusals of the governed path
            if answer.begun:
                log.warning("the answer to request %s broke off: %s", call.request_id, error)
                return
            if type(error) is NotFound:
                # Another account's gateway is as absent as one that never was, to the letter.
                error, self.message_id = NotFound(ABSENT), None
            await self._refuse(error)
        finally:
            answer.quiet()
            if isinstance(call.body, SpooledBody):
                call.body.close()
            if answer.stream is not None:
                await answer.stream.end()
                self.edge.underway.forget_later(answer.stream)

    def _method(self) -> Callable[[], Awaitable[None]]:
        method = self.scope["method"]
        if method == "POST":
            check_content(self.headers)
            if not (self.accepts.json or self.accepts.events):
                message = "Accept must allow application/json or text/event-stream."
                raise Refused(406, INVALID_REQUEST, message)
            if (self.answer.inbound.declared_bytes or 0) > self.edge.payload_bytes_max:
                message = f"The body must not exceed {self.edge.payload_bytes_max} bytes."
                raise Refused(413, INVALID_REQUEST, message)
            post = Post(self)
            self.call.prepare = post.prepare
            return post.act
        named = self.headers.get(VERSION_HEADER, LEGACY[0])
        legacy = [each for each in self.supported if each in LEGACY]
        if named not in legacy or METHOD_HEADER in self.headers:
            raise MethodNotAllowed("This revision has POST alone.", allow="POST")
        if method == "DELETE":
            self.call.noted["method"] = "DELETE"
            return self._end_session
        if method == "GET":
            self.call.noted["method"] = "GET"
            standing = Standing(self)
            self.call.prepare = standing.prepare
            return standing.act
        raise MethodNotAllowed("MCP has GET, POST and DELETE.", allow="GET, POST, DELETE")

    async def _nothing(self, call: Call) -> None:
        pass

    @property
    def caller(self) -> Caller:
        return self.call.known_caller

    def request(self) -> Request:
        client = self.scope.get("client")
        return Request(
            caller=self.caller,
            request_id=self.call.request_id,
            headers=self.headers,
            origin=self.edge.metadata.origin(self.scope, self.headers),
            disconnected=self.answer.inbound.known_gone,
            acts_in=self.call.tenant,
            source=str(client[0]) if client else "",
            query=self.scope["query_string"].decode("latin-1"),
            session=doorway_session(self.scope),
        )

    async def session(self) -> Session | None:
        """Of the header. Raises 404 where it is over, or somebody else's."""
        id = self.headers.get(SESSION_HEADER)
        if id is None:
            return None
        session = None
        if len(id) <= 128 and SESSION_HEADER not in self.headers.repeated:
            session = await self.edge.sessions.find(id, self.door, self.caller)
        if session is None:
            raise Refused(404, CODE_OF_STATUS[404], "There is no such session.")
        return session

    async def listen(self, message: Incoming, client: Client) -> None:
        await Listening(self, message, client).act()

    async def begin_standing(self) -> Stream:
        self.call.status = 200
        stream = await self.answer.streaming()
        assert stream is not None, "nothing has been answered"

        async def begun() -> Stream:
            return stream

        self.answer.keep_alive(begun)
        return stream

    async def _end_session(self) -> None:
        session = await self.session()
        if session is None:
            raise Refused(400, INVALID_REQUEST, f"{SESSION_HEADER} is missing.")
        await self.edge.sessions.end(session)
        self.call.status = 204
        await self.answer.whole(204)

    async def _refuse(self, error: Exception) -> None:
        call = self.call
        if not isinstance(error, FreeholdError):
            log.error("%s failed (%s)", call.operation, call.request_id, exc_info=error)
            message = f"An internal error; its request id is {call.request_id}."
            # A caller whom nobody could authenticate is told to come again, never let in.
            error = Unavailable(message) if call.caller is None else PlatformFailed(message)
        call.noted["error"] = error.code
        call.status = error.status
        url = self.edge.metadata.url(self.scope, self.headers)
        await self.edge.refuse(
            self.answer,
            error,
            call.request_id,
            id=self.message_id,
            challenged=challenge(error, self.door, url, call.caller),
        )
