"""A plain HTTP client at a stand-in, for tests of the stand-ins themselves."""

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from yarl import URL

from connector_vendors.server import StandIn


class Caller:
    """A plain HTTP client at one stand-in, with a token of all scopes unless told another."""

    def __init__(self, vendor: StandIn, http: aiohttp.ClientSession) -> None:
        self.vendor, self._http = vendor, http
        self._token = vendor.token()
        self.headers: dict[str, str] = {}

    async def __call__(
        self, method: str, path: str, *, token: str | None = None, **options: Any
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token or self._token}", **self.headers}
        headers |= options.pop("headers", {})
        headers = {name: value for name, value in headers.items() if value}
        async with self._http.request(
            method,
            URL(self.vendor.url + path, encoded=True),
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=["User-Agent"],
            timeout=aiohttp.ClientTimeout(10),
            **options,
        ) as answer:
            self.answered = answer.headers
            if answer.content_type == "application/json":
                return answer.status, await answer.json()
            return answer.status, await answer.text()


At = Callable[[str], Awaitable[Caller]]
