"""The HTTP server's connections, and how one of them becomes a WebSocket's.

Uvicorn would give the connection to a WebSocket library that insists on one header of each kind
(AgentCore's SDK repeats them) and reads every frame. Here the request goes through the governed
path as any other, and the application takes the bare connection over.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from freehold.kernel.sockets import ClientSocket

UPGRADE = "freehold.upgrade"
"""In the `extensions` of a scope whose client asks for a WebSocket: a function of the bytes of
the 101 answer that returns the ClientSocket. ConnectionError: the client is gone."""

EARLY_BYTES_MAX = 64 * 1024
_BUFFER_BYTES = 64 * 1024
_GOODBYE_SECONDS_MAX = 0.5


class UpgradableProtocol(HttpToolsProtocol):
    """One a connection. `uvicorn.Config(http=UpgradableProtocol, ws="none")`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._early: bytearray | None = None
        """Frames that came before the answer; a client should not send any."""
        self._leaving: asyncio.Event | None = None

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self._get_upgrade() == b"websocket":
            extensions: dict[str, Any] = {UPGRADE: self._take_over}
            self.scope["extensions"] = extensions
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self._early is not None:
            self._keep(data)
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if UPGRADE in self.scope.get("extensions", ()):
                self._early = bytearray()
                self._keep(data[upgrade.args[0] :])
            else:
                self._unsupported_upgrade_warning()
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def shutdown(self) -> None:
        if self._leaving is not None:
            self._leaving.set()
            return
        super().shutdown()
        if self.transport.is_closing() and self.scheme == "https":
            # A client that keeps an idle connection does not answer TLS's own goodbye.
            self.loop.call_later(_GOODBYE_SECONDS_MAX, self.transport.abort)

    def _keep(self, data: bytes) -> None:
        assert self._early is not None
        self._early += data
        if len(self._early) > EARLY_BYTES_MAX:
            self.flow.pause_reading()

    def _take_over(self, answer: bytes) -> ClientSocket:
        if self._early is None or self.cycle.disconnected or self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self.cycle.response_started = self.cycle.response_complete = True
        self._leaving = asyncio.Event()
        reader = asyncio.StreamReader(limit=_BUFFER_BYTES, loop=self.loop)
        protocol = _TakenOver(reader, self)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if self._early:
            reader.feed_data(bytes(self._early))
        self.flow.resume_reading()
        writer = asyncio.StreamWriter(self.transport, protocol, reader, self.loop)
        writer.write(answer)
        return ClientSocket(reader=reader, writer=writer, leaving=self._leaving)


class _TakenOver(asyncio.StreamReaderProtocol):
    """The server still counts the connection among its own, and waits for it when it stops."""

    def __init__(self, reader: asyncio.StreamReader, before: UpgradableProtocol) -> None:
        super().__init__(reader, loop=before.loop)
        self._before = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._before.connections.discard(self._before)
