"""Agents over HTTP, on connections that the placement opens into their sandboxes.

One aiohttp pool serves all sessions: a sandbox's id is the "host" of its URLs.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import ClientTimeout
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from freehold.kernel.body import Body
from freehold.ports.agents import AgentBroke, AgentRequest

Connect = Callable[[str, int], Awaitable[socket.socket]]

_KEEP_ALIVE_SECONDS = 4.0
"""Less than uvicorn's 5: else a request may meet a connection that the agent is just closing."""


class _Unreached(aiohttp.ClientConnectionError):
    """No connection came to be."""


class _SandboxConnector(aiohttp.BaseConnector):
    """Where aiohttp would open a TCP connection, ask for one into the sandbox."""

    def __init__(self, connect: Connect) -> None:
        super().__init__(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS)
        self._connect_inside = connect

    async def _create_connection(
        self, req: Any, traces: list[Any], timeout: ClientTimeout
    ) -> ResponseHandler:
        host, port = req.url.host, req.url.port
        assert host is not None
        assert port is not None
        try:
            sock = await self._connect_inside(host, port)
        except ConnectionError as error:
            raise _Unreached(str(error)) from error
        _, protocol = await self._loop.create_connection(self._factory, sock=sock)
        return protocol


class _Reply:
    """The time for the whole answer begins with it, whoever reads it and however fast."""

    def __init__(self, response: aiohttp.ClientResponse, stream_seconds_max: float) -> None:
        self._response, self._stream_seconds_max = response, stream_seconds_max
        # One timer for the whole answer, and not a time-out for each of its pieces.
        self._timer = asyncio.get_running_loop().call_later(stream_seconds_max, self._expire)
        self._expired = False
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.headers.items()}

    def _expire(self) -> None:
        self._expired = True
        self._response.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self._more():
            yield chunk

    async def read(self, bytes_max: int) -> bytes:
        data = b""
        try:
            while len(data) < bytes_max and (chunk := await self._more()):
                data += chunk
        finally:
            self.close()
        return data[:bytes_max]

    async def _more(self) -> bytes:
        """What has come; b"" at the end."""
        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._broke() from error
        if not data and self._expired:
            raise self._broke()
        return data

    def _broke(self) -> AgentBroke:
        if self._expired:
            return AgentBroke(
                f"the agent's answer took longer than {self._stream_seconds_max:.0f} s"
            )
        return AgentBroke("the agent broke off in the middle of its answer")

    def close(self) -> None:
        """A response read to its end has given its connection back; any other is cut off."""
        self._timer.cancel()
        self._response.close()


class HttpAgents:
    """Implements ports.agents.AgentClient."""

    def __init__(
        self, connect: Connect, *, begin_seconds_max: float, stream_seconds_max: float
    ) -> None:
        self._connect = connect
        self._begin_seconds_max = begin_seconds_max
        self._stream_seconds_max = stream_seconds_max

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=_SandboxConnector(self._connect),
            timeout=ClientTimeout(total=None, sock_read=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            read_bufsize=1 << 18,
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, request: AgentRequest) -> _Reply:
        url = URL.build(
            scheme="http",
            host=request.sandbox_id,
            port=request.port,
            path=request.path,
            encoded=True,  # a path of the operator's own stays as it was written
        )
        sending = _Sending(request.body)
        try:
            async with asyncio.timeout(self._begin_seconds_max):
                response = await self._session.request(
                    request.method,
                    url,
                    data=await sending.data() if request.method == "POST" else None,
                    headers={**request.headers, "Host": f"127.0.0.1:{request.port}"},
                    allow_redirects=False,
                )
        except TimeoutError:
            raise AgentBroke(
                f"the agent did not begin its answer within {self._begin_seconds_max:.0f} s"
            ) from None
        except _Unreached as error:
            raise AgentBroke(
                f"the agent does not listen on port {request.port}", unreached=True
            ) from error
        except aiohttp.ClientResponseError as error:
            raise AgentBroke(
                f"the agent answered with something that is not HTTP ({error.message})"
            ) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            if sending.failure is not None:
                raise sending.failure from error
            raise AgentBroke("the agent closed the connection without an answer") from error
        return _Reply(response, self._stream_seconds_max)


_SMALL_BYTES_MAX = 256 * 1024


class _Sending:
    """A request's body on its way. `failure` is why it could not be read to its end: the client's
    fault, where aiohttp only knows of a connection that it had to give up.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self.failure: Exception | None = None

    async def data(self) -> bytes | AsyncIterator[bytes]:
        """Small bodies whole (one write, with a length); large ones as a stream."""
        size = self._body.size_bytes
        if size is not None and size <= _SMALL_BYTES_MAX:
            return await self._body.read()
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body.chunks():
                yield chunk
        except Exception as error:
            self.failure = error
            raise
