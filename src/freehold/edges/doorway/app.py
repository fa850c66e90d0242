"""The doorway: what a session finds on its one loopback port."""

import tempfile
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.edges.doorway import otlp
from freehold.edges.doorway.credentials import marker_credentials
from freehold.edges.doorway.limits import DoorwayLimits
from freehold.edges.doorway.models import ModelPassThrough
from freehold.edges.doorway.reply import Reply
from freehold.edges.doorway.request import RequestBody
from freehold.edges.doorway.wires import WIRES, raw_path, wire_of
from freehold.edges.otlp_wire import SIGNALS
from freehold.edges.pipeline import Call, Pipeline
from freehold.edges.spool import ClientDisconnected, Inbound, SpoolSpace
from freehold.kernel.caller import Caller
from freehold.kernel.errors import AccessDenied, FreeholdError, NotFound
from freehold.kernel.session import DoorwaySession, doorway_session, session_caller
from freehold.ports.exports import Signal
from freehold.ports.models import ModelProvider
from freehold.ports.replay import Replays

_CREDENTIALS_PATH = "/credentials"
_WIRES = ", ".join(wire.prefix.removeprefix("/model/") for wire in WIRES)
_POLICY_VIOLATION = 1008
_SPOOL_BYTES_MAX = 256 << 20
# What a session says about itself in these is not listened to, and goes no further.
_IDENTITY_HEADERS = frozenset({b"authorization", b"x-amz-security-token"})


class DoorwayEdge:
    """An ASGI app for connections whose scope carries a `DoorwaySession`; it serves no other.

    `platform` gets every path that is not the doorway's own. `spool_space` is where bodies wait
    that have to be hashed before they are sent (Bedrock's); the system's temporary files when None.
    `replays` is asked about model calls of sessions that are forks.
    """

    def __init__(
        self,
        *,
        platform: ASGIApp,
        pipeline: Pipeline,
        providers: Mapping[str, ModelProvider],
        telemetry: otlp.TelemetrySink | None = None,
        limits: DoorwayLimits | None = None,
        spool_space: SpoolSpace | None = None,
        replays: Replays | None = None,
    ) -> None:
        self._platform = platform
        self._pipeline = pipeline
        self._telemetry = telemetry
        self._limits = limits or DoorwayLimits()
        self._models = ModelPassThrough(
            providers=providers,
            pipeline=pipeline,
            authenticator=_authenticate,
            limits=self._limits,
            space=spool_space or SpoolSpace(tempfile.gettempdir(), bytes_max=_SPOOL_BYTES_MAX),
            replays=replays,
        )

    async def close(self) -> None:
        """After the last request."""
        await self._models.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] in ("http", "websocket"), "the server's lifespan is not the doorway's"
        session = doorway_session(scope)
        if scope["type"] == "websocket":
            await self._websocket(session, scope, receive, send)
        elif session is None:
            await Reply(send).refuse(AccessDenied("this is no session's connection"))
        else:
            await self._http(session, scope, receive, send)

    async def _http(
        self, session: DoorwaySession, scope: Scope, receive: Receive, send: Send
    ) -> None:
        path = raw_path(scope)
        if (wire := wire_of(path)) is not None:
            await self._models.serve(wire, session, scope, receive, send)
        elif path == _CREDENTIALS_PATH:
            await self._credentials(session, scope, receive, send)
        elif path in SIGNALS:
            await self._export(SIGNALS[path], session, scope, receive, send)
        elif path.startswith("/model/"):
            await Reply(send).refuse(NotFound(f"the wires are {_WIRES}"))
        else:
            await self._platform(_without_identity(scope), receive, send)

    async def _websocket(
        self, session: DoorwaySession | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if session is None or raw_path(scope).startswith("/model/"):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        else:
            await self._platform(_without_identity(scope), receive, send)

    async def _credentials(
        self, session: DoorwaySession, scope: Scope, receive: Receive, send: Send
    ) -> None:
        reply = Reply(send)

        async def act() -> None:
            if scope["method"] != "GET":
                raise NotFound("credentials are read with GET")
            await reply.whole(200, msgspec.json.encode(marker_credentials(session)))

        try:
            await self._governed("GetCredentials", scope, receive, reply, act)
        except FreeholdError as error:
            await reply.refuse(error)

    async def _export(
        self, signal: Signal, session: DoorwaySession, scope: Scope, receive: Receive, send: Send
    ) -> None:
        reply = Reply(send)
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        body = RequestBody(Inbound(scope, receive), bytes_max=self._limits.telemetry_bytes_max)

        async def act() -> None:
            if scope["method"] != "POST":
                raise NotFound("telemetry is sent with POST")
            await otlp.export(self._telemetry, signal, session, body, headers=headers, reply=reply)

        try:
            await self._governed("ExportTelemetry", scope, receive, reply, act)
        except FreeholdError as error:
            await otlp.refuse(error, headers, reply)
        except ClientDisconnected:
            return

    async def _governed(
        self,
        operation: str,
        scope: Scope,
        receive: Receive,
        reply: Reply,
        act: Callable[[], Awaitable[None]],
    ) -> None:
        call = Call(
            edge="doorway",
            operation=f"doorway:{operation}",
            scope=scope,
            receive=receive,
            authenticator=_authenticate,
            prepare=_nothing_to_prepare,
        )
        async with self._pipeline.governed(call):
            try:
                await act()
                call.status = reply.status
            except FreeholdError as error:
                call.status = error.status
                raise


async def _authenticate(call: Call) -> Caller:
    caller = session_caller(call.scope)
    if caller is None:
        raise AccessDenied("this is no session's connection")
    return caller


async def _nothing_to_prepare(call: Call) -> None:
    pass


def _without_identity(scope: Scope) -> Scope:
    """But for a bearer token, which is of somebody else: an agent that was handed one may call
    another agent with it."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name not in _IDENTITY_HEADERS or value[:7].lower() == b"bearer "
    ]
    return {**scope, "headers": headers}
