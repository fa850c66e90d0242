"""Server-sent events that outlive their connection: numbered, kept for a while, sent again."""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

Sink = Callable[[bytes], Awaitable[None]]
"""Where an event's bytes go; an empty one is the end."""

EVENTS_MAX = 512
BYTES_MAX = 2 * 1024 * 1024
"""What one stream keeps for a client that comes back; of more, the oldest is lost to it."""
BYTES_OF_ALL_MAX = 64 * 1024 * 1024
RETRY_MILLISECONDS = 1000
KEEP_ALIVE = b": keep-alive\n\n"


class Keeping:
    """How much the streams of one worker keep together."""

    def __init__(self, bytes_max: int = BYTES_OF_ALL_MAX) -> None:
        self.bytes_max, self.used_bytes = bytes_max, 0


class Stream:
    """One answer as events. With a `session` it can be resumed, by that session's client alone;
    its events have ids then, and the first of them says the id and nothing else."""

    def __init__(
        self,
        sink: Sink,
        *,
        session: str = "",
        primed: bool = False,
        keeping: Keeping | None = None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.session = session
        self.ended = asyncio.Event()
        self._sink: Sink | None = sink
        self._joined, self._left = asyncio.Event(), asyncio.Event()
        self._joined.set()
        self._hopeless = False
        self._primed = primed
        self._number = 0
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0
        self._keeping = keeping or Keeping()
        self._turn = asyncio.Lock()

    @property
    def connected(self) -> bool:
        return self._sink is not None

    async def prime(self) -> None:
        if self.session and self._primed:
            self._number += 1
            await self._send(b"id: %b\nretry: %d\ndata: \n\n" % (self._name(), RETRY_MILLISECONDS))

    async def event(self, message: bytes) -> None:
        async with self._turn:
            if self.ended.is_set():
                return
            if not self.session:
                await self._send(b"event: message\ndata: %b\n\n" % message)
                return
            self._number += 1
            event = b"event: message\nid: %b\ndata: %b\n\n" % (self._name(), message)
            self._keep(event)
            await self._send(event)

    async def keep_alive(self) -> None:
        if not self._turn.locked():
            await self._send(KEEP_ALIVE)

    async def end(self) -> None:
        async with self._turn:
            if not self.ended.is_set():
                self.ended.set()
                await self._send(b"")

    def detach(self, sink: Sink) -> None:
        """The connection is gone, unless another has taken its place."""
        if self._sink == sink:  # a bound method is another object each time
            self._sink = None
            self._joined.clear()
            self._left.set()

    async def abandoned(self, seconds: float) -> None:
        """Returns once no client has been there for that long."""
        while True:
            await self._left.wait()
            if self._hopeless:
                return
            try:
                async with asyncio.timeout(seconds):
                    await self._joined.wait()
            except TimeoutError:
                return

    def give_up(self) -> None:
        """Nobody will come back: the worker ends."""
        self._hopeless = True
        self._joined.set()

    async def attach(self, sink: Sink, after: int) -> None:
        """What came after the event with that number, and what is still to come."""
        async with self._turn:
            for number, event in list(self._kept):
                if number > after:
                    await sink(event)
            if self.ended.is_set():
                await sink(b"")
            else:
                before, self._sink = self._sink, sink
                self._left.clear()
                self._joined.set()
                if before is not None:
                    with suppress(ConnectionError):
                        await before(b"")

    async def _send(self, data: bytes) -> None:
        if self._sink is not None:
            await self._sink(data)

    def _name(self) -> bytes:
        return b"%b-%d" % (self.id.encode("ascii"), self._number)

    def _keep(self, event: bytes) -> None:
        self._kept.append((self._number, event))
        self._count(len(event))
        while self._kept and (
            len(self._kept) > EVENTS_MAX
            or self._kept_bytes > BYTES_MAX
            or self._keeping.used_bytes > self._keeping.bytes_max
        ):
            self._count(-len(self._kept.popleft()[1]))

    def forget(self) -> None:
        """Nobody can resume it any more."""
        self._kept.clear()
        self._count(-self._kept_bytes)

    def _count(self, more: int) -> None:
        self._kept_bytes += more
        self._keeping.used_bytes += more


def event_position(text: str) -> tuple[str, int] | None:
    """The stream and the number that a Last-Event-ID names."""
    stream, _, number = text.rpartition("-")
    if len(stream) == 16 and number.isascii() and number.isdigit() and len(number) < 10:
        return stream, int(number)
    return None
