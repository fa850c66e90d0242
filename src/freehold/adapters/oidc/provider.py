"""One OpenID provider: its issuer and its keys, fetched seldom and kept for a bounded time."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from freehold.adapters.oidc.issuer import speaks_for
from freehold.adapters.oidc.keys import PublicKey, public_keys
from freehold.kernel.errors import Unavailable
from freehold.ports.tokens import TokenRefused
from freehold.ports.web import Unreachable, Web

_Kind = TypeVar("_Kind")
log = logging.getLogger("freehold.oidc")

_DOCUMENT_BYTES_MAX = 256 << 10
_ANSWER_SECONDS_MAX = 5.0


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """In seconds. Keys older than `fresh` are fetched anew while they still serve; older than
    `stale`, callers wait for that; while it fails they serve up to `limit`. `cooldown`: between
    fetches for the sake of keys that we do not know. `retry`: between fetches that fail.
    `document`: how long the discovery document is kept.
    """

    fresh: float = 300
    stale: float = 600
    limit: float = 3600
    cooldown: float = 30
    retry: float = 5
    document: float = 3600


class Known(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The same object for as long as the keys are the same."""

    issuer: str
    keys: tuple[PublicKey, ...]
    source: bytes


class _Document(msgspec.Struct, frozen=True):
    issuer: str
    jwks_uri: str


class _Broken(Exception):
    """What the provider answers is not what it has to be."""


class Provider:
    """`clock` counts seconds and never goes back."""

    def __init__(
        self, discovery_url: str, web: Web, times: Times, clock: Callable[[], float]
    ) -> None:
        self._url, self._web, self._times, self._clock = discovery_url, web, times, clock
        self._document: _Document | None = None
        self._document_at = 0.0
        self._known: Known | None = None
        self._known_at = 0.0
        self._tried_at = float("-inf")
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self._fetching is not None

    async def current(self) -> Known:
        """What is known, without waiting where that may be. Raises Unavailable; TokenRefused where
        keys were known and may not serve any longer.
        """
        age = self._age()
        if age < self._times.fresh and self._known is not None:
            return self._known
        may_fetch = self._clock() - self._tried_at >= self._times.retry
        fetching = self._fetch() if may_fetch else self._fetching
        if age < self._times.limit and self._known is not None:
            # A provider that is down holds up those who come first, and nobody after them.
            if fetching is not None and age >= self._times.stale and not self._failing:
                await asyncio.shield(fetching)
            return self._known
        if fetching is not None:
            await asyncio.shield(fetching)
        if self._known is None:
            raise Unavailable("The keys of the token's provider cannot be had just now.")
        if self._age() >= self._times.limit:
            raise TokenRefused("The token cannot be verified: its provider gives no keys.")
        return self._known

    async def after_unknown_key(self) -> Known | None:
        """Fetches, unless that was done a moment ago: a flood of made-up keys costs one request a
        cooldown.
        """
        if self._fetching is not None or self._clock() - self._tried_at >= self._times.cooldown:
            await asyncio.shield(self._fetch())
        return self._known

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _age(self) -> float:
        return self._clock() - self._known_at if self._known is not None else float("inf")

    def _fetch(self) -> asyncio.Task[None]:
        """One at a time, whoever waits; a caller that leaves does not end it for the others."""
        if self._fetching is None:
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._learn())
            self._fetching.add_done_callback(self._fetched)
        return self._fetching

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the keys of %s were not fetched", self._url, exc_info=error)

    async def _learn(self) -> None:
        began = self._clock()
        try:
            document = await self._discovered()
            source = await self._get(document.jwks_uri)
            keys = public_keys(_decoded(source, Any))
        except (Unreachable, _Broken, ValueError) as error:
            self._document = None  # it may be what leads astray
            self._failing = True
            log.warning("the keys of %s cannot be had: %s", self._url, error)
            return
        same = self._known is not None and self._known.source == source
        if not same or self._known is None or self._known.issuer != document.issuer:
            self._known = Known(issuer=document.issuer, keys=keys, source=source)
        self._known_at, self._failing = began, False

    async def _discovered(self) -> _Document:
        if self._document is None or self._clock() - self._document_at >= self._times.document:
            document = _decoded(await self._get(self._url), _Document)
            if not speaks_for(self._url, document.issuer):
                raise _Broken("its discovery document speaks for an issuer elsewhere")
            self._document, self._document_at = document, self._clock()
        return self._document

    async def _get(self, url: str) -> bytes:
        answer = await self._web.ask(
            "GET", url, headers={"Accept": "application/json"},
            bytes_max=_DOCUMENT_BYTES_MAX, seconds_max=_ANSWER_SECONDS_MAX,
        )  # fmt: skip
        if answer.status != 200:
            raise _Broken(f"it answers {answer.status}")
        return answer.body


def _decoded(data: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Broken("it answers what cannot be read") from error
