"""A loopback API that keeps what it was sent, and a target client in front of it."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartParser

from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.targets.openapi.client import OpenApiTargets
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.ports.targets import Definition, Described, Errand, Json, Place

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """One request as the server has it, read by parsers that are not ours."""

    method: str
    raw_path: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.raw_path.split("?", 1)[0]

    @property
    def segments(self) -> list[str]:
        return [unquote(part) for part in self.path.split("/")[1:]]

    @property
    def raw_query(self) -> str:
        return self.raw_path.partition("?")[2]

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(
            self.raw_query, keep_blank_values=True, strict_parsing=bool(self.raw_query)
        )

    @property
    def cookies(self) -> dict[str, str]:
        jar: SimpleCookie = SimpleCookie(self.headers.get("cookie", ""))
        return {name: unquote(morsel.value) for name, morsel in jar.items()}

    @property
    def form(self) -> list[tuple[str, str]]:
        assert self.headers["content-type"] == "application/x-www-form-urlencoded"
        return parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True)

    def json(self) -> Any:
        return json.loads(self.body)

    async def parts(self) -> FormData:
        async def stream() -> AsyncIterator[bytes]:
            yield self.body

        return await MultiPartParser(Headers(self.headers), stream()).parse()


@dataclass
class Api:
    port: int
    seen: list[Seen] = field(default_factory=list)
    answer: Answering | None = None
    documents: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Seen:
        return self.seen[-1]


async def _ok(request: web.Request) -> web.StreamResponse:
    return web.json_response({"ok": True})


@contextlib.asynccontextmanager
async def api() -> AsyncIterator[Api]:
    found = Api(0)

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.path in found.documents:
            return web.Response(text=found.documents[request.path])
        headers = {name.lower(): value for name, value in request.headers.items()}
        found.seen.append(Seen(request.method, request.raw_path, headers, await request.read()))
        return await (found.answer or _ok)(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def checked_web(*listed: str) -> AsyncIterator[CheckedWeb]:
    destinations = Destinations(
        denied=denied, forbidden=forbidden, listed=frozenset(listed or ("127.0.0.1",)),
        setting="FREEHOLD_OUTBOUND_PRIVATE_HOSTS",
    )  # fmt: skip
    client = CheckedWeb(destinations)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def place(document: Any, name: str = "shop") -> Place:
    text = document if isinstance(document, str) else json.dumps(document)
    return Place(
        tenant="111122223333", gateway_id="g", gateway_arn="arn", target_id="T", name=name,
        kind="mcp.openApiSchema", configuration={"inlinePayload": text},
    )  # fmt: skip


def errand(**more: Any) -> Errand:
    return Errand(**{"request_id": "r", "owner": "someone", "seconds_max": 10.0, **more})


class Target:
    """A document as a target, called by its tools' names."""

    def __init__(self, targets: OpenApiTargets, at: Place, described: Described) -> None:
        self._targets, self._place, self.described = targets, at, described
        self.tools: dict[str, Definition] = {d.name: d for d in described.definitions}

    def arguments_of(self, tool: str) -> Json:
        properties: Json = self.tools[tool].document["inputSchema"]["properties"]
        return properties

    async def call(self, tool: str, arguments: Json | None = None, **more: Any) -> Json:
        definition = self.tools[tool]
        return await self._targets.call(self._place, definition, arguments or {}, errand(**more))


async def target(web_: CheckedWeb, document: Any, **more: Any) -> Target:
    targets, at = OpenApiTargets(web_, **more), place(document)
    return Target(targets, at, await targets.describe(at, errand()))


def operation(url: str, method: str = "get", path: str = "/things", **members: Any) -> Json:
    """A document with one operation, `do`."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "One", "version": "1"},
        "servers": [{"url": url}],
        "paths": {path: {method: {"operationId": "do", "responses": {}, **members}}},
    }


def texts(result: Json) -> str:
    return "\n".join(c["text"] for c in result["content"] if c["type"] == "text")
