"""One HTTP client for key services: the operator named them, so they may be anywhere."""

from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

_ANSWER_BYTES_MAX = 1 << 16


class KeyServiceClient:
    """Follows no redirect, keeps no cookie; `close` at the end. Answers are JSON objects."""

    def __init__(self, *, seconds_max: float = 5.0) -> None:
        self._seconds_max = seconds_max
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, Any]]:
        """Raises aiohttp.ClientError, or TimeoutError. What is no JSON object is an empty one."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._seconds_max),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,
            )
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            data = await answer.content.read(_ANSWER_BYTES_MAX)
            try:
                document = msgspec.json.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                document = None
            return answer.status, document if isinstance(document, dict) else {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
