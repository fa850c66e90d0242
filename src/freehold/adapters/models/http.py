"""A model provider's JSON over HTTP: one document, or a stream of server-sent events."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from freehold.kernel.errors import FreeholdError, Throttled, Unavailable, ValidationFailed
from freehold.ports.models import ModelProvider

_CONNECT_SECONDS_MAX = 10
_IDLE_SECONDS_MAX = 300
_LINE_BYTES_MAX = 1 << 20
_ERROR_CHARACTERS_MAX = 500

Document = dict[str, Any]


class ProviderHttp:
    """`headers` authenticate. Errors are the port's own, and hold no key."""

    def __init__(self, provider: ModelProvider, headers: Mapping[str, str]) -> None:
        self._provider = provider
        self._headers = {**headers, "content-type": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, path: str, document: Document) -> Document:
        async with self._posted(path, document) as response:
            answer: Document = msgspec.json.decode(await response.read(), type=dict)
            return answer

    async def events(self, path: str, document: Document) -> AsyncIterator[Document]:
        """The `data` of each event; ends at `[DONE]` or with the stream."""
        async with self._posted(path, document) as response:
            async for line in response.content:
                data = line[5:].strip() if line.startswith(b"data:") else b""
                if data == b"[DONE]":
                    return
                if data:
                    yield msgspec.json.decode(data, type=dict)

    @asynccontextmanager
    async def _posted(self, path: str, document: Document) -> AsyncIterator[aiohttp.ClientResponse]:
        kind = self._provider.kind.value
        try:
            async with self._client().post(
                self._provider.base_url.rstrip("/") + path,
                data=msgspec.json.encode(document),
                headers=self._headers,
                proxy=self._provider.proxy or None,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise await _failure(self._provider, response)
                yield response
        except (TimeoutError, aiohttp.ClientError, msgspec.DecodeError) as error:
            # The class alone: the text may hold the URL, and a URL may hold a password.
            raise Unavailable(f"{kind} cannot be reached ({type(error).__name__})") from None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=_CONNECT_SECONDS_MAX, sock_read=_IDLE_SECONDS_MAX
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_LINE_BYTES_MAX,
            )
        return self._session


async def _failure(provider: ModelProvider, response: aiohttp.ClientResponse) -> FreeholdError:
    kind, status = provider.kind.value, response.status
    if status in (401, 403):
        return Unavailable(f"{kind} refuses the platform's key ({status})")
    if status == 429:
        return Throttled(f"{kind} asks to slow down")
    if status >= 500 or status < 400:
        return Unavailable(f"{kind} answers {status}")
    text = provider.redacted(await response.text(errors="replace"))
    return ValidationFailed(
        f"{kind} refuses the request ({status}): {text[:_ERROR_CHARACTERS_MAX]}"
    )
