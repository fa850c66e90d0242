"""An answer to the session: begun once, and never carrying a provider's key."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from starlette.types import Send

from freehold.edges.doorway.refusals import ProviderFailed
from freehold.kernel.errors import FreeholdError

_JSON = "application/json"


class Reply:
    """`complete`: the last byte goes out, or went. One begun and not complete is cut by the server.
    A client that was told the length may be gone as soon as it has that."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.complete = False
        self.before_end: Callable[[int], Awaitable[None]] | None = None
        """Told the status before the last byte goes, and before the first of what goes at once."""
        self._told = False
        self._left_bytes: int | None = None

    @property
    def begun(self) -> bool:
        return self.status != 0

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        for name, value in headers.items():
            if name.lower() == "content-length" and value.isdecimal():
                self._left_bytes = int(value)
        raw = [
            (name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def piece(self, data: bytes) -> None:
        if self._left_bytes is not None:
            self._left_bytes -= len(data)
            if self._left_bytes <= 0:
                await self._completes()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._completes()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(
        self,
        status: int,
        body: bytes,
        content_type: str = _JSON,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        await self._tell(status)
        length = {"content-type": content_type, "content-length": str(len(body))}
        await self.begin(status, {**length, **(headers or {})})
        await self.piece(body)
        await self.end()

    async def _completes(self) -> None:
        await self._tell(self.status)
        self.complete = True

    async def _tell(self, status: int) -> None:
        if self.before_end is not None and not self._told:
            await self.before_end(status)
            self._told = True

    async def refuse(self, error: FreeholdError) -> None:
        document = {"code": error.code, "message": error.message}
        await self.whole(error.status, msgspec.json.encode(document))


class LeakGuard:
    """Watches an answer for the key that it was asked with. A provider has no reason to repeat it.

    A key that arrives in two chunks is found as well: its first part has gone by then, and is of
    no use alone.
    """

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._tail_bytes = max(map(len, secrets), default=1) - 1
        self._tail = b""

    def check(self, data: bytes) -> None:
        seen = self._tail + data
        if any(secret in seen for secret in self._secrets):
            raise ProviderFailed("the provider's answer held the platform's key and was cut off")
        self._tail = seen[-self._tail_bytes :] if self._tail_bytes else b""
