"""Requests of the platform's own to hosts that tenants name, such as providers of tokens."""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import msgspec


class WebAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`headers` have lower-case names. `body` is whole: what is too long was refused."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"WebAnswer({self.status}, {len(self.body)} bytes)"  # they may be a token


class Unreachable(Exception):
    """No answer: refused by us, or failed on its way. Says why, and no secret.

    `sent`: the request may have been acted on. `timed_out`: there was no answer in time.
    """

    def __init__(self, why: str, *, sent: bool = False, timed_out: bool = False) -> None:
        super().__init__(why)
        self.sent, self.timed_out = sent, timed_out


class WebStream(Protocol):
    """An answer that has begun. `chunks` may be read once. Closing it early drops the connection,
    so that whoever answers notices."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""

    def chunks(self) -> AsyncIterator[bytes]:
        """As they come. Raises Unreachable where it breaks off."""

    async def read(self, bytes_max: int) -> bytes:
        """All that is left. Raises Unreachable where it is longer."""

    def close(self) -> None: ...


class Web(Protocol):
    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        bytes_max: int = 1 << 20,
        seconds_max: float = 10.0,
    ) -> WebAnswer:
        """One request, no redirect followed, no cookie kept. Raises Unreachable.

        The host's name is resolved once, each address judged, and the connection goes to one that
        passed. Without TLS, and to private networks, only where the operator listed the host.
        """

    async def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
        seconds_max: float = 30.0,
        idle_seconds_max: float = 300.0,
    ) -> WebStream:
        """Like `ask`, for answers that stream. `seconds_max` is to the first byte of the headers,
        `idle_seconds_max` between two pieces of the body."""
