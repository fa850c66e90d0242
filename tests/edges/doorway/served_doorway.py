"""A doorway as a session has it: a real server on loopback, whose connections carry the session."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import uvicorn
from aiohttp import web
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from freehold.edges.doorway import DoorwayEdge
from freehold.edges.pipeline import Pipeline
from freehold.kernel.caller import Caller
from freehold.kernel.errors import AccessDenied
from freehold.kernel.session import SESSION_STATE, DoorwaySession
from freehold.kernel.tracing import Span
from freehold.ports.models import ModelKind, ModelProvider
from kept_spans import KeptSpans

SESSION = DoorwaySession(
    tenant="123456789012",
    runtime_id="hello-Abc123Def4",
    runtime_arn="arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/hello-Abc123Def4",
    endpoint="DEFAULT",
    session_id="session-of-the-doorway-tests-0001",
    sandbox_id="sandbox-1",
)


class Authorizing:
    """Allows all but `denied`, and remembers who asked for what."""

    def __init__(self, denied: frozenset[str] = frozenset()) -> None:
        self.asked: list[tuple[Caller, str]] = []
        self._denied = denied

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        self.asked.append((caller, operation))
        if operation in self._denied:
            raise AccessDenied(f"a session may not call {operation}")
        return caller.tenant


class Platform:
    """Stands for the AWS edge: answers any call, and remembers the scopes it was given."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body = await Request(scope, receive).body()
        answer = {"agentRuntimes": [], "bytes": len(body)}
        await JSONResponse(answer)(scope, receive, send)


@dataclass
class Doorway:
    """A served doorway, and the spans of what came through it."""

    port: int
    edge: DoorwayEdge
    http: aiohttp.ClientSession
    kept: KeptSpans
    authorizing: Authorizing
    platform: Platform = field(default_factory=Platform)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def calls(self) -> list[Span]:
        """Of models, after the edge was closed and all requests have ended."""
        await self.edge.close()
        return [s for s in self.kept.spans if "gen_ai.provider.name" in s.attributes]


@asynccontextmanager
async def open_doorway(
    providers: Mapping[str, ModelProvider] | None = None,
    *,
    session: DoorwaySession | None = SESSION,
    denied: frozenset[str] = frozenset(),
    audit: Any = None,
    tracing: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Doorway]:
    """`tracing`: of the pipeline, besides its recorder."""
    kept, authorizing, platform = KeptSpans(), Authorizing(denied), Platform()
    edge = DoorwayEdge(
        platform=platform,
        pipeline=Pipeline(
            authorizer=authorizing,
            calls_in_flight_max=1000,
            audit=audit,
            recorder=kept,
            **(tracing or {}),
        ),
        providers=providers or {},
        **options,
    )
    async with served(edge, session) as port, aiohttp.ClientSession() as http:
        yield Doorway(port, edge, http, kept, authorizing, platform)
        await edge.close()


@asynccontextmanager
async def served(app: Any, session: DoorwaySession | None) -> AsyncIterator[int]:
    """As an API worker serves a session's connections: the state of each carries the session."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    config.load()
    state = ServerState()
    listener = socket.create_server(("127.0.0.1", 0))
    app_state = {SESSION_STATE: session} if session is not None else {}
    server = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state=app_state),
        sock=listener,
    )
    try:
        yield listener.getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=5)
        for connection in list(state.connections):
            connection.transport.close()


@asynccontextmanager
async def upstream(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    """A provider that behaves as `handle` does, for every path; its base URL."""
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def openai_at(base_url: str, key: str = "sk-upstream") -> dict[str, ModelProvider]:
    return {"openai": ModelProvider(kind=ModelKind.OPENAI, base_url=base_url, api_key=key)}
