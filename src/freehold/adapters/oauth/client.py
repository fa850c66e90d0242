"""The grants of OAuth 2.0 as forms: RFC 6749, 7523, 7636, 8693, 8707."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit, urlunsplit

from freehold.adapters.oauth.answers import tokens_of
from freehold.adapters.oauth.metadata import MetadataCache
from freehold.ports.credentials import Oauth2Provider
from freehold.ports.oauth import Asked, OauthRefused, OauthUnavailable, Tokens
from freehold.ports.web import Unreachable, Web

_Form = list[tuple[str, str]]

SECONDS_MAX = 10.0
_BYTES_MAX = 512 << 10
_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_OURS = frozenset(
    [
        "grant_type", "code", "redirect_uri", "code_verifier", "code_challenge",
        "code_challenge_method", "client_id", "client_secret", "client_assertion",
        "client_assertion_type", "scope", "state", "response_type", "response_mode",
        "refresh_token", "assertion", "subject_token", "subject_token_type", "actor_token",
        "actor_token_type", "request", "request_uri",
    ]
)  # fmt: skip
"""Parameters of the standards that flows set: nobody's custom parameters do."""


class HttpOauthClient:
    """Implements `ports.oauth.OauthClient` over checked requests."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._metadata = MetadataCache(web)

    async def discover(self, url: str) -> Mapping[str, Any]:
        return await self._metadata.get(url)

    async def client_credentials(self, provider: Oauth2Provider, asked: Asked) -> Tokens:
        grant = ("grant_type", provider.machine_grant)
        form = [grant, *_wanted(asked), *_custom(asked)]
        return await self._ask(provider, form)

    def authorization_url(
        self,
        provider: Oauth2Provider,
        asked: Asked,
        *,
        redirect_uri: str,
        state: str,
        verifier: str,
    ) -> str:
        """`extra` of the vendor's and an address's own query may be overridden; the rest not."""
        parts = urlsplit(provider.authorization_endpoint)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        given |= provider.extra
        given |= dict(_custom(asked))
        query: _Form = [
            ("response_type", "code"),
            ("client_id", provider.client_id),
            ("redirect_uri", redirect_uri),
            ("state", state),
        ]
        if provider.pkce:
            query += [("code_challenge", _challenge(verifier)), ("code_challenge_method", "S256")]
        query += _wanted(asked, separator=provider.scope_separator)
        set_here = {name for name, _ in query}
        query += [(name, value) for name, value in given.items() if name not in set_here]
        return urlunsplit(parts._replace(query=urlencode(query), fragment=""))

    async def redeem(
        self, provider: Oauth2Provider, asked: Asked, *, code: str, redirect_uri: str, verifier: str
    ) -> Tokens:
        form: _Form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
        ]
        if provider.pkce:
            form.append(("code_verifier", verifier))
        form += [("resource", resource) for resource in asked.resources]
        return await self._ask(provider, form)

    async def refresh(self, provider: Oauth2Provider, asked: Asked, refresh_token: str) -> Tokens:
        form: _Form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)]
        form += [("resource", resource) for resource in asked.resources]
        return await self._ask(provider, form)

    async def on_behalf_of(
        self, provider: Oauth2Provider, asked: Asked, *, user_token: str
    ) -> Tokens:
        how = provider.on_behalf_of
        if how is None:
            raise OauthUnavailable("the provider is not configured for exchange", sent=False)
        if how.grant == "JWT_AUTHORIZATION_GRANT":
            form: _Form = [("grant_type", _JWT_BEARER), ("assertion", user_token)]
            if provider.vendor == "MicrosoftOauth2":
                form.append(("requested_token_use", "on_behalf_of"))
        else:
            form = [
                ("grant_type", _TOKEN_EXCHANGE),
                ("subject_token", user_token),
                ("subject_token_type", _ACCESS_TOKEN),
            ]
            if how.actor == "M2M":
                actor = await self.client_credentials(provider, Asked(scopes=how.actor_scopes))
                form += [("actor_token", actor.access_token), ("actor_token_type", _ACCESS_TOKEN)]
        form += [*_wanted(asked), *_custom(asked)]
        return await self._ask(provider, form, named=not how.no_client)

    async def _ask(self, provider: Oauth2Provider, form: _Form, *, named: bool = True) -> Tokens:
        try:
            return await self._post(provider, form, provider.client_secret, named=named)
        except OauthRefused as error:
            # While a secret is changed two are good, here or there: a client that is not known
            # has used up neither code nor refresh token.
            if error.error != "invalid_client" or not named or provider.client_secret_next is None:
                raise
        return await self._post(provider, form, provider.client_secret_next, named=named)

    async def _post(
        self, provider: Oauth2Provider, form: _Form, secret: str | None, *, named: bool
    ) -> Tokens:
        headers = {
            "accept": "application/json",
            "content-type": "application/x-www-form-urlencoded",
        }
        shown = _authentication(provider, secret, headers) if named else []
        try:
            answer = await self._web.ask(
                "POST", provider.token_endpoint, headers=headers,
                body=urlencode(form + shown).encode(), bytes_max=_BYTES_MAX,
                seconds_max=SECONDS_MAX,
            )  # fmt: skip
        except Unreachable as error:
            raise OauthUnavailable(f"the token endpoint: {error}") from error
        return tokens_of(answer)


def _authentication(provider: Oauth2Provider, secret: str | None, headers: dict[str, str]) -> _Form:
    """Fields of the form; for the basic method a header instead."""
    name = ("client_id", provider.client_id)
    if provider.auth_method == "none":
        return [name]
    if provider.auth_method == "private_key_jwt" and provider.signer is not None:
        return [
            name,
            ("client_assertion_type", _ASSERTION),
            ("client_assertion", provider.signer.sign(audience=provider.token_endpoint)),
        ]
    if secret is None or provider.auth_method not in ("client_secret_basic", "client_secret_post"):
        raise OauthUnavailable(
            f"the client cannot authenticate by {provider.auth_method}", sent=False
        )
    if provider.auth_method == "client_secret_post":
        return [name, ("client_secret", secret)]
    # RFC 6749, 2.3.1: each half is form-encoded before the two are joined.
    pair = f"{quote_plus(provider.client_id)}:{quote_plus(secret)}"
    headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return []


def _wanted(asked: Asked, *, separator: str = " ") -> _Form:
    form: _Form = [("scope", separator.join(asked.scopes))] if asked.scopes else []
    form += [("resource", resource) for resource in asked.resources]
    form += [("audience", audience) for audience in asked.audiences]
    return form


def _custom(asked: Asked) -> _Form:
    """`resource` and `audience` come so from older clients; what was asked for properly counts."""
    given = {"resource": asked.resources, "audience": asked.audiences}
    return [
        (name, value)
        for name, value in asked.parameters.items()
        if name.lower() not in _OURS and not given.get(name.lower())
    ]


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
