"""The client's side of OAuth 2.0: what is asked of a provider's authorization server."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from freehold.ports.credentials import Oauth2Provider


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a token is to be good for. `parameters` are added to the request and override nothing
    of the standard's."""

    scopes: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    parameters: Mapping[str, str] = {}


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """`expires_in` in seconds; None where the provider says nothing. `scopes` as granted, or None
    where it did not say."""

    access_token: str
    refresh_token: str | None = None
    expires_in: float | None = None
    scopes: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"Tokens(expires_in={self.expires_in})"


class OauthRefused(Exception):
    """The provider said no. `error` is its code ("invalid_grant"), cleaned; never its words, which
    may repeat what was sent."""

    def __init__(self, error: str) -> None:
        super().__init__(f"the provider answered {error}")
        self.error = error


class OauthUnavailable(Exception):
    """No answer, or none that can be used. Says why, and no secret. `sent`: the request may have
    been acted on."""

    def __init__(self, why: str, *, sent: bool = True) -> None:
        super().__init__(why)
        self.sent = sent


class OauthClient(Protocol):
    """Every method but `authorization_url` makes one or two requests and raises OauthRefused or
    OauthUnavailable."""

    async def client_credentials(self, provider: Oauth2Provider, asked: Asked) -> Tokens: ...

    def authorization_url(
        self,
        provider: Oauth2Provider,
        asked: Asked,
        *,
        redirect_uri: str,
        state: str,
        verifier: str,
    ) -> str:
        """Where a browser goes for a code; with the S256 challenge of `verifier`."""

    async def redeem(
        self, provider: Oauth2Provider, asked: Asked, *, code: str, redirect_uri: str, verifier: str
    ) -> Tokens: ...

    async def refresh(self, provider: Oauth2Provider, asked: Asked, refresh_token: str) -> Tokens:
        """`refresh_token` of the answer is None where the old one stays good."""

    async def on_behalf_of(
        self, provider: Oauth2Provider, asked: Asked, *, user_token: str
    ) -> Tokens:
        """RFC 8693 or RFC 7523, as the provider's `on_behalf_of` says."""

    async def discover(self, url: str) -> Mapping[str, Any]:
        """The metadata (OpenID Connect Discovery, RFC 8414) behind a .well-known address, whose
        issuer is the one that the address belongs to. Cached for an hour."""
