"""The only way out of a sandbox: a forward proxy that lets through what a list allows."""

import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import msgspec

Reach = Literal["none", "hosts", "open"]


class Destination(msgspec.Struct, frozen=True):
    """`host` is lower case: a name, an address, or `*.example.com` for every name below it.

    `private` lets the name resolve to this machine or a private network, which is refused
    otherwise: set it only where an operator named the host.
    """

    host: str
    port: int = 443
    private: bool = False


class SessionEgress(msgspec.Struct, frozen=True, kw_only=True):
    """What a session reaches beyond its doorway.

    `hosts`: its `destinations` alone. `open`: every public host on ports 80 and 443 as well.
    """

    reach: Reach = "none"
    destinations: tuple[Destination, ...] = ()


Refused = Callable[[str], None]
"""Told why a connection was refused, in words for whoever wrote what runs in the sandbox."""


class Egress(Protocol):
    def serve(
        self, listener: socket.socket, allowed: frozenset[Destination], *, refused: Refused
    ) -> AbstractAsyncContextManager[None]:
        """Proxy what connects to `listener` (which stays the caller's) inside the `async with`.

        Speaks CONNECT, and GET and HEAD for plain http. At the end every connection is cut.
        """
