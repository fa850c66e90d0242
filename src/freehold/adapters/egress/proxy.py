"""A forward proxy: CONNECT for https, plain requests for http."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from freehold.adapters.egress.boundary import Boundary
from freehold.adapters.egress.relaying import BadAnswer, Flow
from freehold.adapters.egress.requests import (
    HEAD_BYTES_MAX,
    Malformed,
    ProxyRequest,
    Refusal,
    parse_request,
)
from freehold.adapters.egress.resolving import Resolve, SystemResolver
from freehold.adapters.egress.rules import ListRules, Rules
from freehold.ports.egress import Destination, Refused

log = logging.getLogger("freehold.egress")

_STREAM_BYTES = 64 << 10
_RESOLVING_AT_ONCE_MAX = 4
_LINGER_SECONDS = 5
_TOLD_WHY = 2  # times a user's connections: who comes in such a flood is cut without a word
_REASONS = {
    400: b"Bad Request",
    403: b"Forbidden",
    405: b"Method Not Allowed",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Totals(msgspec.Struct):
    """Of one user's connections, as they end."""

    connections: int = 0
    refused: int = 0
    bytes_out: int = 0
    bytes_in: int = 0


class User:
    """Whose connections these are: what they may reach, and how much of us they use."""

    def __init__(self, rules: Rules, refused: Refused) -> None:
        self.rules, self.refused = rules, refused
        self.totals = Totals()
        self.running: set[asyncio.Task[None]] = set()
        self.resolving = asyncio.Semaphore(_RESOLVING_AT_ONCE_MAX)

    async def cut(self) -> None:
        """Ends all connections that are under way."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)


class ForwardProxy:
    """`connections_max` is for each user, `connections_max_all` for all together. Of those that
    are too many some are told so, which takes a while, and the others are cut.

    A name is resolved once, every address that it has is checked, and the connection goes to an
    address that was: a second answer of DNS plays no part. What a client then says inside TLS
    (a server name other than the one it asked for) is not looked at.
    """

    def __init__(
        self,
        *,
        boundary: Boundary | None = None,
        resolve: Resolve | None = None,
        connections_max: int = 64,
        connections_max_all: int = 4096,
        head_seconds_max: float = 10,
        connect_seconds_max: float = 10,
        idle_seconds_max: float = 120,
        connection_seconds_max: float = 3600,
    ) -> None:
        self._boundary = boundary or Boundary()
        self._resolve = resolve or SystemResolver()
        self._connections_max = connections_max
        self._connections_max_all = connections_max_all
        self._head_seconds_max = head_seconds_max
        self._connect_seconds_max = connect_seconds_max
        self._idle_seconds_max = idle_seconds_max
        self._connection_seconds_max = connection_seconds_max
        self._open = 0

    @asynccontextmanager
    async def serve(
        self, listener: socket.socket, allowed: frozenset[Destination], *, refused: Refused
    ) -> AsyncIterator[None]:
        user = User(ListRules(allowed), refused)

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._run(reader, writer, user)

        start = (
            asyncio.start_unix_server if listener.family == socket.AF_UNIX else asyncio.start_server
        )
        # A duplicate: closing the server closes its socket, and the listener is not ours.
        server = await start(accepted, sock=listener.dup(), limit=_STREAM_BYTES)
        try:
            yield
        finally:
            server.close()
            await user.cut()
            await server.wait_closed()

    async def take(self, connection: socket.socket, user: User) -> None:
        """Proxy one accepted connection, which becomes ours, to its end."""
        reader = asyncio.StreamReader(limit=_STREAM_BYTES)
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(reader), connection
        )
        await self._run(reader, asyncio.StreamWriter(transport, protocol, reader, loop), user)

    async def _run(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: User
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        user.totals.connections += 1
        if len(user.running) >= _TOLD_WHY * self._connections_max:
            user.totals.refused += 1
            writer.transport.abort()
            return
        user.running.add(task)
        try:
            async with asyncio.timeout(self._connection_seconds_max):
                await self._converse(reader, writer, user)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.debug("egress: a connection ended: %s", error)
        finally:
            user.running.discard(task)
            if task.cancelling():
                writer.transport.abort()
            writer.close()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: User
    ) -> None:
        try:
            if len(user.running) > self._connections_max:
                raise Refusal(503, f"more than {self._connections_max} connections at once")
            if self._open >= self._connections_max_all:
                raise Refusal(503, "the platform proxies as many connections as it can")
            self._open += 1
            try:
                await self._proxied(reader, writer, user)
            finally:
                self._open -= 1
        except Refusal as refusal:
            user.totals.refused += 1
            user.refused(refusal.message)
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_LINGER_SECONDS):
                    await _say(_refusal(refusal), reader, writer)

    async def _proxied(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: User
    ) -> None:
        request = parse_request(await self._head(reader))
        far = await self._connect(request, user)
        flow = Flow((reader, writer), far, idle_seconds_max=self._idle_seconds_max)
        try:
            await self._relay(flow, request)
        finally:
            flow.close()
            user.totals.bytes_out += flow.bytes_out
            user.totals.bytes_in += flow.bytes_in

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._head_seconds_max):
                head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, TimeoutError) as error:
            raise ConnectionError("no whole request came") from error
        except asyncio.LimitOverrunError as error:
            raise Refusal(400, "the request's head is too large") from error
        if len(head) > HEAD_BYTES_MAX:
            raise Refusal(400, "the request's head is too large")
        return head

    async def _connect(self, request: ProxyRequest, user: User) -> Stream:
        trusted = user.rules.admit(request)
        try:
            async with asyncio.timeout(self._connect_seconds_max):
                addresses = await self._addresses(request.host, user)
                for address in addresses:
                    objection = self._boundary.objection(
                        request.host, request.port, address, trusted=trusted
                    )
                    if objection is not None:
                        raise Refusal(403, f"egress to {request.name} {objection}")
                return await _open_first(addresses, request.port)
        except TimeoutError as error:
            raise Refusal(504, f"{request.name} did not answer in time") from error
        except OSError as error:
            raise Refusal(
                502, f"{request.name} cannot be reached: {error.strerror or error}"
            ) from error

    async def _addresses(self, host: str, user: User) -> list[str]:
        """What takes too long goes on without who asked, and counts as his until its end: the
        threads that resolve cannot be stopped, and are for all."""
        await user.resolving.acquire()
        resolving = asyncio.ensure_future(self._resolve(host))

        def done(resolved: asyncio.Future[list[str]]) -> None:
            user.resolving.release()
            if not resolved.cancelled():
                resolved.exception()  # nobody else may be there to look at it

        resolving.add_done_callback(done)
        return await asyncio.shield(resolving)

    async def _relay(self, flow: Flow, request: ProxyRequest) -> None:
        if request.head is None:
            await flow.tunnel()
            return
        try:
            await flow.exchange(request)
        except (Malformed, asyncio.LimitOverrunError) as error:
            if not flow.answered:
                status = 502 if isinstance(error, BadAnswer) else 400
                raise Refusal(status, f"plain http with {request.name}: {error}") from error
            raise ConnectionError(str(error)) from error


def _refusal(refusal: Refusal) -> bytes:
    body = refusal.message.encode() + b"\n"
    return (
        b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n"
        % (refusal.status, _REASONS[refusal.status], len(body))
        + body
    )


async def _say(words: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """And read what the client still sends: closed over that, its answer would be lost."""
    writer.write(words)
    await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    while await reader.read(_STREAM_BYTES):
        pass


async def _open_first(addresses: list[str], port: int) -> Stream:
    """The first address that takes the connection. They are addresses: nothing resolves again."""
    failure: OSError = OSError("the name has no address")
    for address in addresses:
        try:
            return await asyncio.open_connection(address, port, limit=_STREAM_BYTES)
        except OSError as error:
            failure = error
    raise failure
