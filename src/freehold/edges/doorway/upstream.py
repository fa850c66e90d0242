"""The far side of a model call: the provider, over kept connections, streaming both ways."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping

import aiohttp
from multidict import CIMultiDictProxy
from starlette.types import Scope
from yarl import URL

from freehold.edges.doorway.injection import Injection, injection_for
from freehold.edges.doorway.limits import DoorwayLimits
from freehold.edges.doorway.passage import Passage
from freehold.edges.doorway.refusals import ProviderFailed, ProviderTimedOut, ProviderUnusable
from freehold.edges.doorway.reply import LeakGuard, Reply
from freehold.edges.doorway.wires import Wire
from freehold.edges.spool import SpoolSpace
from freehold.ports.models import ModelProvider
from freehold.ports.usage import usage_reader

log = logging.getLogger("freehold.doorway")

_CONNECTIONS_MAX = 512
_KEEPALIVE_SECONDS = 30.0
_WHOLE_BYTES_MAX = 256 << 10
_REFUSAL_BYTES_MAX = 16 << 10
_RESPONSE_HEADERS = frozenset(
    {
        "cache-control",
        "content-encoding",
        "content-length",
        "content-type",
        "openai-processing-ms",
        "request-id",
        "retry-after",
        "retry-after-ms",
        "x-request-id",
        "x-should-retry",
    }
)
_RESPONSE_PREFIXES = ("anthropic-ratelimit-", "x-amzn-", "x-freehold-", "x-ratelimit-")


class Upstreams:
    """`providers` by the name of their kind; one that is absent is not configured."""

    def __init__(
        self, providers: Mapping[str, ModelProvider], limits: DoorwayLimits, space: SpoolSpace
    ) -> None:
        self._space = space
        self._providers: dict[str, tuple[ModelProvider, Injection]] = {
            name: (provider, injection_for(provider)) for name, provider in providers.items()
        }
        self._call_seconds_max = limits.call_seconds_max
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            connect=limits.connect_seconds_max,
            sock_read=limits.idle_seconds_max,
        )
        self._session: aiohttp.ClientSession | None = None

    def provider(self, wire: Wire) -> tuple[ModelProvider, Injection]:
        found = self._providers.get(wire.kind)
        if found is None:
            raise ProviderUnusable(
                f"this platform has no {wire.kind} models: its operator must set {wire.settings}"
            )
        return found

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def exchange(self, passage: Passage, reply: Reply) -> None:
        """Ask, and answer to the last byte. What it raises is safe to show to the session."""
        kind = passage.wire.kind.value
        try:
            async with asyncio.timeout(self._call_seconds_max):
                await self._exchange(passage, reply)
        except TimeoutError:
            raise ProviderTimedOut(f"{kind} did not answer in time") from None
        except aiohttp.ClientError as error:
            if passage.body.failure is not None:
                raise passage.body.failure from None
            # The class alone: aiohttp's text may hold the URL, and a URL may hold a password.
            raise ProviderFailed(f"{kind} cannot be reached ({type(error).__name__})") from None

    async def _exchange(self, passage: Passage, reply: Reply) -> None:
        provider, injection = self.provider(passage.wire)
        method = passage.scope["method"]
        url = _url(provider, passage)
        headers = _request_headers(passage.scope, passage.wire)
        async with contextlib.AsyncExitStack() as stack:
            body: AsyncIterator[bytes] | bytes | None
            body, sha256 = passage.body.chunks(), ""
            length = passage.body.declared_bytes
            if injection.signs_body:
                whole = await passage.body.spool(self._space)
                stack.callback(whole.close)
                body, length, sha256 = whole.chunks(), whole.size_bytes, whole.sha256
            elif method == "GET":
                await passage.body.read()  # of no use, but the connection goes on after it
                body = None
            elif length is not None and length <= _WHOLE_BYTES_MAX:
                body = await passage.body.read()  # a slow sender holds no provider's connection
            headers |= await injection.headers(method, url, headers, sha256)
            if body is not None and length is not None:
                headers["content-length"] = str(length)
            response = await stack.enter_async_context(
                self._client().request(
                    method,
                    URL(url, encoded=True),
                    headers=headers,
                    data=body,
                    proxy=provider.proxy or None,
                    allow_redirects=False,
                )
            )
            await _answer(passage, response, LeakGuard(injection.secrets()), reply)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=_CONNECTIONS_MAX, keepalive_timeout=_KEEPALIVE_SECONDS
                ),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Content-Type"),
            )
        return self._session


async def _answer(
    passage: Passage, response: aiohttp.ClientResponse, guard: LeakGuard, reply: Reply
) -> None:
    head = await _usable_head(passage.wire, response)
    headers = _response_headers(response.headers)
    for value in headers.values():
        guard.check(value.encode() + b"\n")
    content_type = headers.get("content-type", "")
    passage.answering(content_type, usage_reader(content_type, headers))
    await reply.begin(response.status, headers)
    async for chunk in _chunks(head, response):
        guard.check(chunk)
        passage.heard(chunk)
        await reply.piece(chunk)
    await reply.end()


async def _chunks(head: bytes, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for chunk in response.content.iter_any():
        yield chunk


async def _usable_head(wire: Wire, response: aiohttp.ClientResponse) -> bytes:
    """An answer about our own key, or one that leads elsewhere, is not for the session.

    What had to be read of the body to know.
    """
    head = b""
    code = response.headers.get("x-amzn-errortype", "").partition(":")[0]
    refused = response.status == 401 or code in wire.key_refused_codes
    if wire.key_refused_mark and response.status in (400, 403):
        while len(head) < _REFUSAL_BYTES_MAX and not response.content.at_eof():
            head += await response.content.readany()
        refused = refused or wire.key_refused_mark in head
    if refused:
        log.error("%s refuses the platform's key (%d %s)", wire.kind.value, response.status, code)
        raise ProviderUnusable(
            f"{wire.kind} refuses the platform's key: its operator must check {wire.settings}"
        )
    if 300 <= response.status < 400:
        raise ProviderFailed(f"{wire.kind} redirects elsewhere: its base URL is not the API's own")
    return head


def _url(provider: ModelProvider, passage: Passage) -> str:
    query = passage.wire.query(passage.scope["query_string"].decode("latin-1"))
    return provider.base_url.rstrip("/") + passage.target.path + (f"?{query}" if query else "")


def _request_headers(scope: Scope, wire: Wire) -> dict[str, str]:
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name.decode("latin-1") in wire.request_headers
    }
    # Not compressed, so that the token counts can be read as they pass.
    headers["accept-encoding"] = "identity"
    return headers


def _response_headers(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    return {
        name: value
        for name, value in ((name.lower(), value) for name, value in headers.items())
        if name in _RESPONSE_HEADERS or name.startswith(_RESPONSE_PREFIXES)
    }
