"""A connection that stopped being HTTP: a WebSocket on its way from a client to a service."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from freehold.kernel.request import Request


class ClientSocket(msgspec.Struct, frozen=True, kw_only=True):
    """The client's bytes after the 101 answer. `leaving` is set when this worker is to stop."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    leaving: asyncio.Event


class Conversation(Protocol):
    """What answers a client that asked for a WebSocket: nothing is said to it yet.

    Followed by exactly one of `run` and `close`.
    """

    headers: Mapping[str, str]
    """For the 101 answer, Sec-WebSocket-Accept among them."""

    async def run(self, client: ClientSocket) -> None:
        """To its end, whoever ends it. Closes the client's connection."""

    async def close(self) -> None:
        """The client went before it could be answered."""


SocketHandler = Callable[[Request, dict[str, Any]], Awaitable[Conversation]]
"""Raises what a handler of an operation raises: the client gets it as an HTTP answer."""
