"""Metadata of authorization servers: OpenID Connect Discovery 1.0 and RFC 8414."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from freehold.ports.oauth import OauthUnavailable
from freehold.ports.web import Unreachable, Web

_OPENID = "/.well-known/openid-configuration"
_RFC8414 = "/.well-known/oauth-authorization-server"
_BYTES_MAX = 256 << 10
_CACHED_SECONDS = 3600.0
_FAILED_SECONDS = 5.0
_CACHED_MAX = 1000
_NEEDED = ("issuer", "token_endpoint")


class MetadataCache:
    """Asks each address once an hour, however many want it; after a failure, 5 s later at best."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._known: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._asking: dict[str, asyncio.Task[Mapping[str, Any]]] = {}

    async def get(self, url: str) -> Mapping[str, Any]:
        now = time.monotonic()
        known = self._known.get(url)
        if known is not None and known[0] > now:
            return known[1]
        failed = self._failed.get(url)
        if failed is not None and failed[0] > now:
            raise OauthUnavailable(failed[1], sent=False)
        asking = self._asking.get(url)
        if asking is None:
            asking = asyncio.create_task(self._ask(url), name="oauth metadata")
            self._asking[url] = asking
            asking.add_done_callback(lambda done: self._asked(url, done))
        return await asyncio.shield(asking)

    def _asked(self, url: str, done: asyncio.Task[Mapping[str, Any]]) -> None:
        del self._asking[url]
        if not done.cancelled():
            done.exception()  # seen, whether or not somebody still waits for it

    async def _ask(self, url: str) -> Mapping[str, Any]:
        try:
            found = await self._fetch(url)
        except OauthUnavailable as error:
            _put(self._failed, url, (time.monotonic() + _FAILED_SECONDS, str(error)))
            raise
        _put(self._known, url, (time.monotonic() + _CACHED_SECONDS, found))
        return found

    async def _fetch(self, url: str) -> Mapping[str, Any]:
        try:
            answer = await self._web.ask(
                "GET", url, headers={"accept": "application/json"}, bytes_max=_BYTES_MAX
            )
        except Unreachable as error:
            raise OauthUnavailable(f"the discovery document: {error}", sent=False) from error
        if answer.status != 200:
            raise OauthUnavailable(f"the discovery document answers {answer.status}", sent=False)
        try:
            found = msgspec.json.decode(answer.body, type=dict[str, Any])
        except msgspec.DecodeError:
            raise OauthUnavailable("the discovery document is not a JSON object") from None
        _check(url, found)
        return found


def _put(cache: dict[str, Any], url: str, value: Any) -> None:
    if len(cache) >= _CACHED_MAX:
        del cache[next(iter(cache))]
    cache[url] = value


def _check(url: str, found: Mapping[str, Any]) -> None:
    for name in (*_NEEDED, "authorization_endpoint"):
        value = found.get(name)
        usable = isinstance(value, str) and urlsplit(value).scheme in ("https", "http")
        if not usable and (name in _NEEDED or value is not None):
            raise OauthUnavailable(f"the discovery document has no usable {name}")
    if not _same(str(found["issuer"]), issuer_of(url)):
        raise OauthUnavailable("the discovery document is of another issuer than its address")


def issuer_of(url: str) -> str:
    """The issuer that an address of metadata belongs to: OpenID appends its path to the issuer's,
    RFC 8414 puts its own before."""
    parts = urlsplit(url)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path
    if path.endswith(_OPENID):
        return origin + path.removesuffix(_OPENID)
    for before in (_RFC8414, _OPENID):
        if path.startswith(before):
            return origin + path.removeprefix(before)
    return origin + path.removesuffix(_RFC8414)


def _same(issuer: str, expected: str) -> bool:
    if issuer.rstrip("/") == expected.rstrip("/"):
        return True
    # Entra ID's shared addresses name no tenant: there the issuer is a pattern, in these words.
    host = urlsplit(expected).netloc
    return host.startswith("login.microsoftonline.") and issuer == (
        f"https://{host}/{{tenantid}}/v2.0"
    )
