"""GET /ping of an agent, by hand: one small request, over a stream that a sandbox gave."""

import asyncio
import socket
from enum import StrEnum

import msgspec

_ANSWER_BYTES_MAX = 65536


class Health(StrEnum):
    HEALTHY = "Healthy"
    BUSY = "HealthyBusy"
    UNHEALTHY = "Unhealthy"


class _Ping(msgspec.Struct):
    status: str = Health.HEALTHY


async def ping(sock: socket.socket, *, seconds_max: float) -> Health:
    """Takes the socket over. Raises ConnectionError or TimeoutError when nobody answers HTTP.

    An agent that has no /ping (404) but answers is Healthy; a 5xx is Unhealthy.
    """
    async with asyncio.timeout(seconds_max):
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            writer.write(b"GET /ping HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")
            await writer.drain()
            answer = b""
            while len(answer) < _ANSWER_BYTES_MAX and (
                data := await reader.read(_ANSWER_BYTES_MAX)
            ):
                answer += data
        finally:
            writer.close()
    return _read(answer)


def _read(answer: bytes) -> Health:
    head, _, body = answer.partition(b"\r\n\r\n")
    first = head.split(b"\r\n", 1)[0].split(b" ")
    if not first[0].startswith(b"HTTP/1.") or len(first) < 2:
        raise ConnectionError("it answers /ping with something that is not HTTP")
    if first[1].startswith(b"5"):
        return Health.UNHEALTHY
    try:
        start = body.index(b"{")
        said = msgspec.json.decode(body[start : body.rindex(b"}") + 1], type=_Ping)
        return Health(said.status)
    except (ValueError, msgspec.DecodeError):
        return Health.HEALTHY
