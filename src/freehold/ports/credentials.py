"""What the vault holds for agents, as those who use it see it: OAuth 2.0 providers, API keys."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

CALLBACK_PATH = "/identities/oauth2/callback/"
"""Of the platform, followed by a provider's `callback_id`: where its user's browser comes back."""

AuthMethod = Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]
"""How the client shows the token endpoint who it is. "none": a public client, `client_id` alone."""


class AssertionSigner(Protocol):
    """Signs client assertions (RFC 7523) with a private key that never leaves the vault."""

    @property
    def public_jwk(self) -> Mapping[str, Any]:
        """To be registered with the provider; its `kid` is in every header."""

    def sign(self, *, audience: str) -> str:
        """A JWT of the provider's client for its token endpoint: iss, sub, aud, jti, iat, exp."""


class OnBehalfOf(msgspec.Struct, frozen=True, kw_only=True):
    """`actor`: what goes along as actor_token in a TOKEN_EXCHANGE. With `no_client` the exchange
    names no client at all."""

    grant: Literal["TOKEN_EXCHANGE", "JWT_AUTHORIZATION_GRANT"]
    actor: Literal["NONE", "M2M"] = "NONE"
    actor_scopes: tuple[str, ...] = ()
    no_client: bool = False


class Oauth2Provider(msgspec.Struct, frozen=True, kw_only=True):
    """Ready for use: endpoints found, secret opened. Never log, store or keep it: ask again.

    `version` counts changes of the provider: what was granted to an earlier client may be void.
    `client_secret_next` is tried when the current one is refused (two keys overlap while a
    secret is changed). `extra`: parameters that this vendor's authorization request needs;
    `scope_separator` joins scopes there. `issuer` is "" where the vendor says none.
    """

    tenant: str
    name: str
    arn: str
    vendor: str
    version: int
    client_id: str
    client_secret: str | None = None
    client_secret_next: str | None = None
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    auth_method: AuthMethod
    signer: AssertionSigner | None = None
    on_behalf_of: OnBehalfOf | None = None
    callback_id: str
    pkce: bool = True
    scope_separator: str = " "
    extra: Mapping[str, str] = {}
    machine_grant: str = "client_credentials"
    """What this vendor calls the grant for its clients themselves."""
    metadata: Mapping[str, Any] = {}
    """The discovery document, where there is one."""

    def __repr__(self) -> str:
        return f"Oauth2Provider({self.tenant}, {self.name}, {self.vendor})"


class Oauth2Providers(Protocol):
    async def oauth2_provider(self, tenant: str, name: str) -> Oauth2Provider:
        """NotFound; ValidationFailed where its configuration is of no use; Unavailable while its
        discovery document or the vault's key cannot be had."""

    async def oauth2_callback(self, callback_id: str) -> tuple[str, str] | None:
        """Tenant and name of the provider whose callback this is."""
