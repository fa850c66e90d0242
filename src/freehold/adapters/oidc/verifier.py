"""`ports.tokens.TokenVerifier`: a provider for each discovery URL, and what was verified before."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from freehold.adapters.oidc.claims import SKEW_SECONDS, check_rules, check_standing
from freehold.adapters.oidc.keys import candidates
from freehold.adapters.oidc.provider import Known, Provider, Times
from freehold.adapters.oidc.token import Header, header_of, signed_content
from freehold.ports.tokens import TokenRefused, TokenRules, VerifiedToken
from freehold.ports.web import Web

_PROVIDERS_MAX = 1000
_VERIFIED_MAX = 4096


class _Verified(msgspec.Struct, frozen=True):
    """Its content stays as bytes: each caller gets claims of its own. Good while `known` is."""

    known: Known
    content: bytes
    expires_at: float


class OidcVerifier:
    """`now`: the time of day. `clock`: seconds that never go back."""

    def __init__(
        self,
        web: Web,
        *,
        times: Times | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._web, self._times, self._now, self._clock = web, times or Times(), now, clock
        self._providers: OrderedDict[str, Provider] = OrderedDict()
        self._verified: OrderedDict[tuple[str, bytes], _Verified] = OrderedDict()

    async def close(self) -> None:
        for provider in self._providers.values():
            await provider.close()

    async def verify(self, token: str, rules: TokenRules) -> VerifiedToken:
        # The whole token's hash: a part of it would let one token pass for another.
        key = (rules.discovery_url, hashlib.sha256(token.encode(errors="surrogatepass")).digest())
        before = self._verified.get(key)
        header = header_of(token) if before is None else None
        provider = self._provider(rules.discovery_url)
        known = await provider.current()
        if before is None or before.known is not known:
            known, content = await self._content(token, header or header_of(token), provider, known)
            before = None
        else:
            content = before.content
        claims: dict[str, Any] = msgspec.json.decode(content)
        now = self._now()
        try:
            expires_at = check_standing(claims, known.issuer, now)
        except TokenRefused:
            self._verified.pop(key, None)
            raise
        if before is None:
            self._keep(key, _Verified(known, content, expires_at), now)
        check_rules(claims, rules)
        return VerifiedToken(
            issuer=known.issuer,
            subject=claims.get("sub", ""),
            expires_at=expires_at,
            claims=claims,
        )

    async def _content(
        self, token: str, header: Header, provider: Provider, known: Known
    ) -> tuple[Known, bytes]:
        """Verified by the keys that are known, else by those that are known after asking anew."""
        content = signed_content(token, candidates(known.keys, header.kid, header.alg))
        if content is not None:
            return known, content
        is_named = any(header.kid == each.kid for each in known.keys)
        if header.kid is None or not is_named:
            newer = await provider.after_unknown_key()
            if newer is not None and newer is not known:
                keys = candidates(newer.keys, header.kid, header.alg)
                content = signed_content(token, keys)
                if content is not None:
                    return newer, content
        raise TokenRefused("The token's signature is not its provider's.")

    def _provider(self, discovery_url: str) -> Provider:
        found = self._providers.get(discovery_url)
        if found is None:
            found = Provider(discovery_url, self._web, self._times, self._clock)
            self._providers[discovery_url] = found
            for url in list(self._providers):
                if len(self._providers) <= _PROVIDERS_MAX:
                    break
                if not self._providers[url].busy:
                    del self._providers[url]
        self._providers.move_to_end(discovery_url)
        return found

    def _keep(self, key: tuple[str, bytes], verified: _Verified, now: float) -> None:
        """The oldest goes first, and what nobody can use any more."""
        self._verified[key] = verified
        while self._verified:
            oldest = next(iter(self._verified.values()))
            if len(self._verified) <= _VERIFIED_MAX and oldest.expires_at + SKEW_SECONDS > now:
                break
            self._verified.popitem(last=False)
