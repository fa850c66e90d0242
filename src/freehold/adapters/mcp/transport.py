"""HTTP to one MCP server, for one errand: its address, credential and headers on every request."""

from collections.abc import Mapping
from math import inf
from urllib.parse import urlencode

from freehold.adapters.mcp.wire import passed_headers
from freehold.ports.targets import Errand, Place, TargetFailed
from freehold.ports.web import Unreachable, Web, WebStream

_TELL_SECONDS_MAX = 10.0
_TELL_BYTES_MAX = 64 << 10


class NotReached(TargetFailed):
    """There was no answer, or it broke off."""


class Transport:
    def __init__(self, web: Web, place: Place, errand: Errand) -> None:
        self._web = web
        self.place, self.errand = place, errand
        endpoint = place.configuration.get("endpoint")
        if not isinstance(endpoint, str):
            raise TargetFailed(f"The target {place.name} has no endpoint.")
        if errand.query or errand.credential.query:
            query = urlencode({**errand.query, **errand.credential.query})
            endpoint += f"{'&' if '?' in endpoint else '?'}{query}"
        self._url = endpoint
        self._passed = passed_headers(errand.headers) if errand.headers else {}

    async def open(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        seconds_max: float = inf,
        idle_seconds_max: float = inf,
    ) -> WebStream:
        """Without bounds of its own where the caller has one around all that it does."""
        try:
            return await self._web.open(
                method,
                self._url,
                headers=self._signed(method, headers, body),
                body=body,
                seconds_max=seconds_max,
                idle_seconds_max=idle_seconds_max,
            )
        except Unreachable as error:
            raise self.unreachable(error) from None

    async def tell(
        self, headers: Mapping[str, str], body: bytes | None, method: str = "POST"
    ) -> int:
        """What has no answer: a notification, or our own answer. The status."""
        try:
            answer = await self._web.ask(
                method,
                self._url,
                headers=self._signed(method, headers, body),
                body=body,
                bytes_max=_TELL_BYTES_MAX,
                seconds_max=min(_TELL_SECONDS_MAX, self.errand.seconds_max),
            )
        except Unreachable as error:
            raise self.unreachable(error) from None
        return answer.status

    def unreachable(self, error: Unreachable) -> NotReached:
        return NotReached(
            f"The MCP server of {self.place.name} was not reached: {error}",
            timed_out=error.timed_out,
            retriable=not error.sent,
        )

    def _signed(
        self, method: str, headers: Mapping[str, str], body: bytes | None
    ) -> Mapping[str, str]:
        credential = self.errand.credential
        merged = {**self._passed, **headers}
        for name, value in credential.headers.items():
            merged[name.lower()] = value
        if credential.signer is not None:
            return credential.signer(method, self._url, merged, body or b"")
        return merged
