"""Agents, once their sandbox runs: a request in, the answer's bytes out."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Literal, Protocol

import msgspec

from freehold.kernel.body import Body


class AgentRequest(msgspec.Struct, frozen=True, kw_only=True):
    sandbox_id: str
    port: int
    path: str
    headers: dict[str, str]
    body: Body
    method: Literal["GET", "POST"] = "POST"


class AgentReply(Protocol):
    """The agent's answer, begun. `chunks` may be read once; closing it frees the connection."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""

    def chunks(self) -> AsyncIterator[bytes]:
        """As they come, unparsed. Raises AgentBroke when the agent dies in the middle."""

    async def read(self, bytes_max: int) -> bytes:
        """The beginning of the body, and the connection is freed."""

    def close(self) -> None: ...


class AgentClient(Protocol):
    async def send(self, request: AgentRequest) -> AgentReply:
        """Raises AgentBroke when there is no answer, or none in time."""


class AgentSocket(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's WebSocket, opened. `headers` are of its 101 answer, names in lower case."""

    headers: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class AgentSockets(Protocol):
    async def open(
        self, sandbox_id: str, port: int, path: str, headers: Mapping[str, str]
    ) -> AgentSocket:
        """`headers` are the whole request's, but for Host. Raises AgentBroke when it refuses."""


class AgentBroke(Exception):
    """The agent did not answer as an HTTP server does; the message says how, for people.

    `unreached`: there was no connection to it, and it has seen nothing of the request.
    """

    def __init__(self, message: str, *, unreached: bool = False) -> None:
        super().__init__(message)
        self.unreached = unreached
