"""A POST over a connection that is kept already: what most calls of targets are.

aiohttp makes such a request of some ten objects and a task, which costs a gateway more than all of
its own work on the call; the bytes that go out, and who reads what comes back, are the same here.
What this does not know (a new connection, another method, a body that streams, an unusual header)
goes aiohttp's whole way.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

_BODY_BYTES_MAX = 64 * 1024
_KNOWN_MAX = 4096
# Of these aiohttp or we say what they are.
_NOT_PLAIN = frozenset(
    {
        "accept-encoding", "connection", "content-encoding", "content-length", "expect", "host",
        "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
    }
)  # fmt: skip


class KeptAnswer:
    """As much of an `aiohttp.ClientResponse` as `AnswerStream` needs."""

    __slots__ = ("_connection", "content", "content_length", "headers", "host", "status")

    def __init__(
        self, connection: Connection, host: str | None, message: Any, content: Any
    ) -> None:
        self._connection, self.host = connection, host
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers
        length = message.headers.get("Content-Length")
        self.content_length = int(length) if length is not None and length.isdecimal() else None
        self.content: aiohttp.StreamReader = content
        # To its end: then the next request may have the connection.
        content.on_eof(connection.release)

    def close(self) -> None:
        self._connection.close()  # nothing, once it was given back


class Posting(NamedTuple):
    """What to write, and to which connection."""

    key: ConnectionKey
    host: str | None
    request: bytes


class KeptConnections:
    """Of one session's connector. `learn` what the connections to an address go by, from whoever
    opened one."""

    def __init__(self, connector: aiohttp.TCPConnector, headers: Mapping[str, str]) -> None:
        self._connector = connector
        self._always = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._known: dict[URL, tuple[ConnectionKey, str]] = {}

    def learn(self, target: URL, key: ConnectionKey) -> None:
        # What has a query is asked once, and may have a secret there.
        if target in self._known or target.raw_query_string:
            return
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        head = (
            f"POST {target.raw_path_qs} HTTP/1.1\r\nHost: {target.host_port_subcomponent}\r\n"
            f"{self._always}"
        )
        self._known[target] = key, head

    def request(
        self, method: str, target: URL, headers: Mapping[str, str] | None, body: object
    ) -> Posting | None:
        """None for what goes the whole way."""
        if method != "POST" or type(body) is not bytes or len(body) > _BODY_BYTES_MAX:
            return None
        known = self._known.get(target)
        if known is None:
            return None
        key, head = known
        lines, accepts = [head], False
        for name, value in (headers or {}).items():
            lower = name.lower()
            # Tabs are no printable characters, and neither is what ends a line.
            if lower in _NOT_PLAIN or not name.isprintable() or not value.isprintable():
                return None
            accepts = accepts or lower == "accept"
            lines.append(f"{name}: {value}\r\n")
        if not accepts:
            lines.append("Accept: */*\r\n")
        lines.append(f"Content-Length: {len(body)}\r\n\r\n")
        return Posting(key, target.host, "".join(lines).encode() + body)

    async def taken(self, key: ConnectionKey) -> Connection | None:
        """A connection that is idle, or None; to be given back, or closed."""
        return await self._connector._get(key, [])

    async def posted(self, connection: Connection, posting: Posting) -> KeptAnswer:
        """Raises aiohttp's ClientError, as its own client does."""
        protocol = connection.protocol
        try:
            if protocol is None or protocol.transport is None:
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            protocol.transport.write(posting.request)
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code < 200 or message.code == 101:
                    return KeptAnswer(connection, posting.host, message, content)
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientPayloadError from error
        except BaseException:
            connection.close()
            raise
