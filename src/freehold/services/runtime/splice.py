"""Two ends of a WebSocket joined as bytes, and an end of it that a client can read.

No frame is looked into. Only their lengths are followed, from the agent to the client, so that a
Close frame of ours never stands inside one of the agent's.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from freehold.kernel.sockets import ClientSocket
from freehold.ports.agents import AgentSocket

GOING_AWAY, AGENT_FAILED = 1001, 1011

_CHUNK_BYTES = 64 * 1024
_REASON_BYTES_MAX = 123
_FLUSH_SECONDS_MAX = 5.0
_CLOSE = 0x8


class FrameBounds:
    """Where the frames of one direction begin and end (RFC 6455, 5.2)."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._payload_left = 0
        self.closed = False
        """A Close frame has come: it is the last of this direction."""

    @property
    def whole(self) -> bool:
        """Between two frames."""
        return not self._head and not self._payload_left

    def feed(self, data: bytes) -> None:
        position, end = 0, len(data)
        while position < end:
            if self._payload_left:
                step = min(self._payload_left, end - position)
                self._payload_left -= step
            else:
                step = min(self._head_bytes() - len(self._head), end - position)
                self._head += data[position : position + step]
                if len(self._head) == self._head_bytes():
                    self._begin_payload()
            position += step

    def _head_bytes(self) -> int:
        """How long the head is, as far as can be told."""
        if len(self._head) < 2:
            return 2
        return 2 + self._length_bytes() + (4 if self._head[1] & 0x80 else 0)

    def _length_bytes(self) -> int:
        return {126: 2, 127: 8}.get(self._head[1] & 0x7F, 0)

    def _begin_payload(self) -> None:
        self.closed = self.closed or self._head[0] & 0x0F == _CLOSE
        further = self._length_bytes()
        self._payload_left = (
            int.from_bytes(self._head[2 : 2 + further]) if further else self._head[1] & 0x7F
        )
        self._head.clear()


def close_frame(code: int, reason: str) -> bytes:
    """A server's: unmasked, and short enough for a control frame."""
    words = reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore").encode()
    return bytes((0x80 | _CLOSE, 2 + len(words))) + code.to_bytes(2) + words


async def splice(
    client: ClientSocket,
    agent: AgentSocket,
    *,
    seconds_max: float,
    idle_seconds_max: float,
    why_agent_left: Callable[[], Awaitable[tuple[int, str]]],
) -> None:
    """Until either side ends, or a limit does. A slow reader slows its writer down.

    `why_agent_left` gives code and words for an agent that went without a Close frame.
    """
    both = _Both(client, agent)
    ends: dict[str, asyncio.Task[Any]] = {
        "client": asyncio.create_task(both.to_agent()),
        "agent": asyncio.create_task(both.to_client()),
        "leaving": asyncio.create_task(client.leaving.wait()),
    }
    try:
        code, words = 0, ""
        end = await _first(ends, both, seconds_max, idle_seconds_max)
        if end == "leaving":
            code, words = GOING_AWAY, "the platform is restarting"
        elif end == "agent" and not both.bounds.closed:
            code, words = await why_agent_left()
        elif end not in ends:
            code, words = GOING_AWAY, end
    finally:
        for task in ends.values():
            task.cancel()
        await asyncio.wait(ends.values())
        agent.writer.close()
    if code and both.bounds.whole:
        client.writer.write(close_frame(code, words))
    elif code:
        client.writer.transport.abort()  # the client sees a frame without its end
    await closed(client.writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    """What is buffered is sent first, to a client that takes it."""
    writer.close()
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(_FLUSH_SECONDS_MAX):
            await writer.wait_closed()
    writer.transport.abort()


class _Both:
    def __init__(self, client: ClientSocket, agent: AgentSocket) -> None:
        self._client, self._agent = client, agent
        self.bounds = FrameBounds()
        self.used_at = time.monotonic()

    async def to_agent(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._client.reader.read(_CHUNK_BYTES):
                self.used_at = time.monotonic()
                self._agent.writer.write(data)
                await self._agent.writer.drain()

    async def to_client(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._agent.reader.read(_CHUNK_BYTES):
                self.used_at = time.monotonic()
                self.bounds.feed(data)
                self._client.writer.write(data)
                await self._client.writer.drain()


async def _first(
    ends: Mapping[str, "asyncio.Task[Any]"],
    both: _Both,
    seconds_max: float,
    idle_seconds_max: float,
) -> str:
    """Which task ended, or in words which limit was reached."""
    until = time.monotonic() + seconds_max
    while True:
        now = time.monotonic()
        idle_until = both.used_at + idle_seconds_max
        if now >= until:
            return f"open for its limit of {seconds_max:g} s"
        if now >= idle_until:
            return f"nothing was said for {idle_seconds_max:g} s"
        done, _ = await asyncio.wait(
            ends.values(),
            timeout=min(until, idle_until) - now,
            return_when=asyncio.FIRST_COMPLETED,
        )
        # An agent's own Close counts before the client that answered it.
        for name in ("agent", "client", "leaving"):
            if ends[name] in done:
                return name
