"""HTTP served by uvicorn: on a listening socket that came from the supervisor, and on single
connections that came from sandboxes."""

import asyncio
import logging
import socket
import ssl
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.edges.upgrade import UpgradableProtocol

log = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 75


class HttpServer:
    """One a worker. Stops by itself when `stop` is called: no new requests, old ones finish."""

    def __init__(
        self, app: ASGIApp, *, drain_seconds_max: float, tls: ssl.SSLContext | None = None
    ) -> None:
        config = uvicorn.Config(
            app,
            http=UpgradableProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(drain_seconds_max),
            h11_max_incomplete_event_size=None,
            backlog=2048,
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
        self._config = config
        self._server = _Server(config)

    async def serve(self, listening: socket.socket) -> None:
        """Until `stop` and the end of the last request, or of the time for them."""
        await self._server.serve(sockets=[listening])

    def stop(self) -> None:
        self._server.should_exit = True

    async def serve_connection(self, sock: socket.socket, state: dict[str, Any]) -> None:
        """Take over a connection; `state` stands in the scope of each of its requests."""
        protocol_class: Any = self._config.http_protocol_class
        protocol = protocol_class(
            config=self._config, server_state=self._server.server_state, app_state=state
        )
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: protocol, sock)


class _Server(uvicorn.Server):
    """Signals are the worker's business, not uvicorn's."""

    def capture_signals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()


class Root:
    """Which edge a request belongs to, by its first path segment; the AWS edge takes the rest."""

    def __init__(self, by_prefix: dict[bytes, ASGIApp], otherwise: ASGIApp) -> None:
        self._by_prefix, self._otherwise = by_prefix, otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: bytes = scope["raw_path"]
        first = b"/" + path[1:].partition(b"/")[0]
        app = self._by_prefix.get(first, self._otherwise)
        if path == b"/" and b"text/html" in dict(scope["headers"]).get(b"accept", b""):
            app = _to_console
        await app(scope, receive, send)


async def _to_console(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"location", b"/console"), (b"content-length", b"0"), (b"vary", b"Accept")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body"})
