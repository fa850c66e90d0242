"""One HTTP answer: plain JSON, unless something has to be sent before the result."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.types import Receive, Scope, Send

from freehold.edges.mcp.streams import Keeping, Stream
from freehold.edges.spool import Inbound
from freehold.kernel.errors import FreeholdError

KEEP_ALIVE_SECONDS = 15.0
_JSON = (b"content-type", b"application/json")
_EVENTS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
RawHeaders = list[tuple[bytes, bytes]]


class Answer:
    """`before` is told the status before the first byte goes. `headers` go with whatever it
    becomes."""

    keep_alive_seconds = KEEP_ALIVE_SECONDS

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inbound = Inbound(scope, receive)
        self.before: Callable[[int], Awaitable[None]] | None = None
        self.headers: RawHeaders = []
        self.begun = False
        self.complete = False
        self.stream: Stream | None = None
        self._send = send
        self._beginning = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._ping: asyncio.Task[None] | None = None

    async def whole(
        self, status: int, body: bytes = b"", headers: RawHeaders | None = None
    ) -> None:
        """Plain, unless it has become a stream by now: then it is the stream's last event."""
        self.quiet()
        async with self._beginning:
            if self.stream is not None:
                if body:
                    await self.stream.event(body)
                await self.stream.end()
                return
            if self.before is not None:
                await self.before(status)
            raw = [*self.headers, *(headers or ())]
            if body:
                raw.append(_JSON)
            raw.append((b"content-length", b"%d" % len(body)))
            self.begun = self.complete = True
            await self._send({"type": "http.response.start", "status": status, "headers": raw})
            await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def refuse(self, status: int, body: bytes, headers: RawHeaders) -> None:
        """An answer that may come before the request's body has been read."""
        if self.stream is None and not await self.inbound.drain():
            headers = [*headers, (b"connection", b"close")]
        await self.whole(status, body, headers)

    async def streaming(
        self, session: str = "", *, primed: bool = False, keeping: Keeping | None = None
    ) -> Stream | None:
        """From now on it is a stream of events. The first who asks, begins it. None: it has been
        answered whole."""
        async with self._beginning:
            if self.stream is None and not self.begun:
                if self.before is not None:
                    await self.before(200)
                stream = Stream(self.sink, session=session, primed=primed, keeping=keeping)
                self.begun = True
                start = {
                    "type": "http.response.start", "status": 200,
                    "headers": [*self.headers, *_EVENTS],
                }  # fmt: skip
                await self._send(start)
                await stream.prime()
                self.stream = stream
            return self.stream

    async def sink(self, data: bytes) -> None:
        if self.complete:
            return
        self.complete = not data
        await self._send({"type": "http.response.body", "body": data, "more_body": bool(data)})

    def keep_alive(self, begin: Callable[[], Awaitable[Stream | None]]) -> None:
        """Every so often while nothing else comes: proxies end connections that are silent.
        `begin` makes a stream of the answer, where it is none by then."""

        async def ping() -> None:
            # Where the audit does not let it begin, the call itself ends with that.
            with suppress(FreeholdError):
                stream = await begin()
                if stream is not None and not stream.ended.is_set():
                    await stream.keep_alive()
                    self.keep_alive(begin)

        def fire() -> None:
            self._ping = asyncio.create_task(ping())

        self._timer = asyncio.get_running_loop().call_later(self.keep_alive_seconds, fire)

    def quiet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
