"""An agent's WebSocket: the opening handshake alone. The frames are the two ends' own business."""

import asyncio
import re
from collections.abc import Mapping

from freehold.adapters.agents.http import Connect
from freehold.ports.agents import AgentBroke, AgentSocket

_BUFFER_BYTES = 64 * 1024
_HEAD_BYTES_MAX = 32 * 1024
_REFUSAL_BYTES_SHOWN = 2000
_REFUSAL_SECONDS_MAX = 5.0
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class WebSocketAgents:
    """Implements ports.agents.AgentSockets."""

    def __init__(self, connect: Connect, *, begin_seconds_max: float) -> None:
        self._connect = connect
        self._begin_seconds_max = begin_seconds_max

    async def open(
        self, sandbox_id: str, port: int, path: str, headers: Mapping[str, str]
    ) -> AgentSocket:
        try:
            sock = await self._connect(sandbox_id, port)
        except ConnectionError as error:
            raise AgentBroke(f"the agent does not listen on port {port}", unreached=True) from error
        reader, writer = await asyncio.open_connection(sock=sock, limit=_BUFFER_BYTES)
        try:
            async with asyncio.timeout(self._begin_seconds_max):
                writer.write(_request(path, {"Host": f"127.0.0.1:{port}", **headers}))
                status, answered = _parsed(await reader.readuntil(b"\r\n\r\n"))
                if status != 101:
                    raise await _refusal(reader, status, answered)
        except BaseException as error:
            writer.transport.abort()
            raise _meant(error, self._begin_seconds_max) from error
        return AgentSocket(headers=answered, reader=reader, writer=writer)


def _request(path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"GET {path} HTTP/1.1"]
    for name, value in headers.items():
        assert not _CONTROL.search(name + value), "a line break would begin a header of its own"
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8")


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    """Status, and headers by lower-case name. Raises AgentBroke."""
    first, *lines = head[:-4].split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None or len(head) > _HEAD_BYTES_MAX:
        raise AgentBroke("the agent answered with something that is not HTTP")
    headers = {}
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(status[1]), headers


async def _refusal(
    reader: asyncio.StreamReader, status: int, headers: dict[str, str]
) -> AgentBroke:
    said = b""
    length = headers.get("content-length", "")
    if length.isdigit():
        try:
            async with asyncio.timeout(_REFUSAL_SECONDS_MAX):
                said = await reader.readexactly(min(int(length), _REFUSAL_BYTES_SHOWN))
        except (TimeoutError, asyncio.IncompleteReadError):
            pass
    words = said.decode(errors="replace").strip()
    return AgentBroke(
        f"the agent refused the WebSocket with HTTP {status}{f': {words}' if words else ''}"
    )


def _meant(error: BaseException, begin_seconds_max: float) -> BaseException:
    if isinstance(error, TimeoutError):
        return AgentBroke(
            f"the agent did not answer the WebSocket's request within {begin_seconds_max:.0f} s"
        )
    if isinstance(error, asyncio.LimitOverrunError):
        return AgentBroke("the agent answered with something that is not HTTP")
    if isinstance(error, asyncio.IncompleteReadError | ConnectionError):
        return AgentBroke("the agent closed the connection without an answer")
    return error
