"""A forward proxy: CONNECT for https, GET and HEAD for http, to the destinations of a list."""

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from freehold.adapters.egress.addresses import denied
from freehold.ports.egress import Destination, Refused

log = logging.getLogger("freehold.egress")

_HEAD_BYTES_MAX = 16 << 10
_CHUNK_BYTES = 64 << 10
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]{0,252}[a-z0-9])?|[0-9a-f:.]{2,45}")
# Headers of this connection, which are not for the server beyond it.
_HOP_HEADERS = {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te"}


class Refusal(Exception):
    """`status` and the message are answered to the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ForwardProxy:
    """Limits are for each listener.

    A name is resolved once, every address that it has is checked, and the connection goes to an
    address that was: a second answer of DNS plays no part. What a client then says inside TLS
    (a server name other than the one it asked for) is not looked at.
    """

    def __init__(
        self,
        *,
        connections_max: int = 64,
        head_seconds_max: float = 10,
        connect_seconds_max: float = 10,
        idle_seconds_max: float = 120,
        connection_seconds_max: float = 3600,
    ) -> None:
        self._connections_max = connections_max
        self._head_seconds_max = head_seconds_max
        self._connect_seconds_max = connect_seconds_max
        self._idle_seconds_max = idle_seconds_max
        self._connection_seconds_max = connection_seconds_max

    @asynccontextmanager
    async def serve(
        self, listener: socket.socket, allowed: frozenset[Destination], *, refused: Refused
    ) -> AsyncIterator[None]:
        running: set[asyncio.Task[None]] = set()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            running.add(task)
            try:
                await self._converse(reader, writer, allowed, refused, full=len(running))
            finally:
                running.discard(task)
                writer.close()

        start = (
            asyncio.start_unix_server if listener.family == socket.AF_UNIX else asyncio.start_server
        )
        # A duplicate: closing the server closes its socket, and the listener is not ours.
        server = await start(accepted, sock=listener.dup(), limit=_HEAD_BYTES_MAX)
        try:
            yield
        finally:
            server.close()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await server.wait_closed()

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        allowed: frozenset[Destination],
        refused: Refused,
        *,
        full: int,
    ) -> None:
        try:
            async with asyncio.timeout(self._connection_seconds_max):
                if full > self._connections_max:
                    raise Refusal(503, f"more than {self._connections_max} connections at once")
                request = await self._request(reader)
                upstream = await self._connect(request, allowed)
                try:
                    await self._relay(request, reader, writer, *upstream)
                finally:
                    upstream[1].close()
        except Refusal as refusal:
            refused(refusal.message)
            body = refusal.message.encode() + b"\n"
            writer.write(
                b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n"
                % (refusal.status, _REASONS[refusal.status], len(body))
                + body
            )
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.drain(), self._idle_seconds_max)
        except (OSError, TimeoutError) as error:
            log.debug("egress: a connection ended: %s", error)

    async def _request(self, reader: asyncio.StreamReader) -> "_Request":
        try:
            async with asyncio.timeout(self._head_seconds_max):
                head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, TimeoutError) as error:
            raise ConnectionError("no whole request came") from error
        except asyncio.LimitOverrunError as error:
            raise Refusal(400, "the request's head is too large") from error
        return _parse(head)

    async def _connect(
        self, request: "_Request", allowed: frozenset[Destination]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = f"{request.host}:{request.port}"
        destination = _allowed(request, allowed)
        if destination is None:
            raise Refusal(403, f"egress to {name} is not allowed")
        try:
            async with asyncio.timeout(self._connect_seconds_max):
                answers = await asyncio.get_running_loop().getaddrinfo(
                    request.host, request.port, type=socket.SOCK_STREAM
                )
                addresses = [str(answer[4][0]) for answer in answers]
                if not destination.private and any(denied(address) for address in addresses):
                    raise Refusal(403, f"egress to {name} leads into a private network")
                return await _open_first(addresses, request.port)
        except TimeoutError as error:
            raise Refusal(504, f"{name} did not answer in time") from error
        except OSError as error:
            raise Refusal(502, f"{name} cannot be reached: {error.strerror or error}") from error

    async def _relay(
        self,
        request: "_Request",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream_writer: asyncio.StreamWriter,
    ) -> None:
        loop = asyncio.get_running_loop()

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter | None) -> None:
            """To the end of one direction. Bytes either way show that the connection is in use."""
            while chunk := await source.read(_CHUNK_BYTES):
                idle.reschedule(loop.time() + self._idle_seconds_max)
                if sink is not None:
                    sink.write(chunk)
                    await sink.drain()
            if sink is None:
                raise ConnectionError("the client has gone")
            if sink.can_write_eof():
                sink.write_eof()

        if request.head is None:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            upstream_writer.write(request.head)
        # GET and HEAD have no body, and a second request would need its own check.
        outward = pump(reader, upstream_writer if request.head is None else None)
        async with asyncio.timeout(self._idle_seconds_max) as idle:
            tasks = [
                asyncio.create_task(outward),
                asyncio.create_task(pump(upstream_reader, writer)),
            ]
            try:
                if request.head is None:
                    await asyncio.gather(*tasks)
                else:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


class _Request:
    """`head` is what a plain http server is to be sent; None for CONNECT."""

    def __init__(self, host: str, port: int, head: bytes | None) -> None:
        self.host = host
        self.port = port
        self.head = head


_REASONS = {
    400: b"Bad Request",
    403: b"Forbidden",
    405: b"Method Not Allowed",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


def _parse(head: bytes) -> _Request:
    line, _, headers = head.partition(b"\r\n")
    try:
        method, target, version = line.decode("ascii").split(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            raise ValueError(version)
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host = (parts.hostname or "").rstrip(".")
        port = parts.port
    except ValueError as error:
        raise Refusal(400, "that is not a request to a proxy") from error
    if not _HOST.fullmatch(host):
        raise Refusal(400, "the request names no host")
    if method == "CONNECT":
        if port is None or parts.path or parts.query or parts.username is not None:
            raise Refusal(400, "CONNECT takes host:port")
        return _Request(host, port, None)
    if parts.scheme != "http":
        raise Refusal(400, "only http and CONNECT pass here")
    if method not in ("GET", "HEAD"):
        raise Refusal(405, f"{method} over plain http does not pass here")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authority = parts.netloc.rpartition("@")[2]
    forwarded = [f"{method} {path} HTTP/1.1".encode(), b"Host: " + authority.encode()]
    for header in headers.split(b"\r\n"):
        name = header.partition(b":")[0].strip().lower()
        if name and name != b"host" and name not in _HOP_HEADERS and not header[:1].isspace():
            forwarded.append(header)
    return _Request(host, port or 80, b"\r\n".join([*forwarded, b"Connection: close", b"", b""]))


def _allowed(request: _Request, allowed: frozenset[Destination]) -> Destination | None:
    """The rule that lets it through; of several, one that trusts the host most."""
    matching = [
        each
        for each in allowed
        if each.port == request.port
        and (
            request.host.endswith(each.host[1:])
            if each.host.startswith("*.")
            else request.host == each.host
        )
    ]
    return max(matching, key=lambda each: each.private, default=None)


async def _open_first(
    addresses: list[str], port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The first address that takes the connection. They are addresses: nothing resolves again."""
    failure: OSError = OSError("the name has no address")
    for address in dict.fromkeys(addresses):
        try:
            return await asyncio.open_connection(address, port)
        except OSError as error:
            failure = error
    raise failure
