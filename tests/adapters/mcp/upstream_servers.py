"""Real MCP servers of each era on loopback, by the official SDK, and what of theirs was asked."""

import asyncio
import contextlib
import json
import socket
import warnings
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import mcp_types as types
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Eras = Literal["dual", "legacy", "modern", "stateless"]
MODERN_VERSION = "2026-07-28"


class Name(BaseModel):
    name: str


class Replays(EventStore):
    """So that a client may take up a stream again."""

    def __init__(self) -> None:
        self._events: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events) - 1)

    async def replay_events_after(
        self, last_event_id: str, send_callback: EventCallback
    ) -> str | None:
        stream = self._events[int(last_event_id)][0]
        for number, (of, message) in list(enumerate(self._events))[int(last_event_id) + 1 :]:
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


class Served:
    """`asked` is every HTTP request: its method and, for a POST, the JSON-RPC method."""

    def __init__(self, eras: Eras) -> None:
        self.eras = eras
        self.url = ""
        self.asked: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.begun, self.release, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.events = InMemorySubscriptionBus()
        self.mcp = _server(self)

    def app(self) -> ASGIApp:
        inner = self.mcp.streamable_http_app(
            stateless_http=self.eras == "stateless",
            event_store=None if self.eras == "stateless" else Replays(),
            retry_interval=10,
        )

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await inner(scope, receive, send)
                return
            headers = {k.decode(): v.decode() for k, v in scope["headers"]}
            body, receive = await _whole(receive)
            document = json.loads(body) if body else {}
            self.asked.append(
                document.get("method", "answer") if scope["method"] == "POST" else scope["method"]
            )
            self.bodies.append(document)
            self.headers.append(headers)
            modern = headers.get("mcp-protocol-version") == MODERN_VERSION
            if modern and self.eras in ("legacy", "stateless"):
                await _refuse(send, document, -32000, "Bad Request: Unsupported protocol version")
            elif not modern and self.eras == "modern":
                await _refuse(send, document, -32022, "Unsupported protocol version")
            else:
                await inner(scope, receive, send)

        return counted

    def count(self, method: str) -> int:
        return self.asked.count(method)


def _server(served: Served) -> MCPServer:
    mcp = MCPServer("upstream", instructions="Be kind.", version="1.2", subscriptions=served.events)
    _tools(mcp, served)
    _interactive_tools(mcp, served)

    @mcp.resource("test://text", mime_type="text/plain")
    def text() -> str:
        return "a text"

    @mcp.resource("test://item/{id}")
    def item(id: str) -> str:
        return f"item {id}"

    @mcp.prompt()
    def greet(name: str) -> str:
        return f"Greet {name}."

    @mcp.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> types.Completion:
        return types.Completion(values=[f"{argument.value}is"], total=1, has_more=False)

    return mcp


def _tools(mcp: MCPServer, served: Served) -> None:
    @mcp.tool()
    def echo(text: str) -> str:
        return text

    @mcp.tool()
    def region(
        name: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
        ctx: Context,
    ) -> str:
        headers = ctx.headers or {}
        return f"{name} {headers.get('mcp-param-region', 'none')}"

    @mcp.tool()
    def fails() -> str:
        raise RuntimeError("no luck")

    @mcp.tool()
    async def works(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "half")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            await ctx.info("working")
        return "worked"

    @mcp.tool()
    async def waits() -> str:
        served.begun.set()
        try:
            await served.release.wait()
        except asyncio.CancelledError:
            served.cancelled.set()
            raise
        return "waited"

    @mcp.tool()
    async def polled(ctx: Context) -> str:
        await ctx.close_sse_stream()
        await served.release.wait()
        return "polled"

    @mcp.tool()
    async def grows(ctx: Context) -> str:
        await ctx.notify_tools_changed()
        with contextlib.suppress(Exception):  # the era without sessions has no such stream
            await ctx.session.send_tool_list_changed()
        return "grown"


def _interactive_tools(mcp: MCPServer, served: Served) -> None:
    @mcp.tool()
    async def asks(ctx: Context) -> str | types.InputRequiredResult:
        """Asks for a name, as its client's era has it."""
        if ctx.protocol_version != MODERN_VERSION:
            answer = await ctx.elicit("Who are you?", Name)
            return answer.data.name if answer.action == "accept" else answer.action
        if ctx.input_responses is None:
            question = types.ElicitRequest(
                params=types.ElicitRequestFormParams(
                    message="Who are you?", requested_schema=Name.model_json_schema()
                )
            )
            return types.InputRequiredResult(input_requests={"who": question}, request_state="s1")
        said = ctx.input_responses["who"]
        assert isinstance(said, types.ElicitResult)
        return f"{(said.content or {}).get('name')} {ctx.request_state}"

    @mcp.tool()
    async def samples(ctx: Context) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = await ctx.session.create_message(
                [types.SamplingMessage(role="user", content=types.TextContent(text="Hi"))],
                max_tokens=5,
                related_request_id=ctx.request_id,
            )
        return str(getattr(result.content, "text", result.content))


@contextlib.asynccontextmanager
async def serving(eras: Eras) -> AsyncIterator[Served]:
    served = Served(eras)
    async with serving_app(served.app()) as url:
        served.url = f"{url}/mcp"
        try:
            yield served
        finally:
            served.release.set()


@contextlib.asynccontextmanager
async def serving_app(app: ASGIApp) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, log_level="error", timeout_graceful_shutdown=1, lifespan="on", ws="none"
    )
    server = uvicorn.Server(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = asyncio.create_task(server._serve([listener]))  # serve() takes the signals too
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def _whole(receive: Receive) -> tuple[bytes, Receive]:
    body, message = b"", await receive()
    first = message
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
        message = await receive()
    waiting: list[Message] = [{**first, "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return body, again


async def _refuse(send: Send, document: dict[str, Any], code: int, message: str) -> None:
    error = {"code": code, "message": message, "data": {"supported": [], "requested": ""}}
    answer = {"jsonrpc": "2.0", "id": document.get("id"), "error": error}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
