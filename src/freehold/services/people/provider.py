"""The provider that people sign in with: OpenID Connect, authorization code with PKCE."""

import base64
import hashlib
import hmac
import logging
import time
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from freehold.kernel.errors import Unavailable
from freehold.ports.sign_in import SignInRefused
from freehold.ports.tokens import TokenRefused, TokenRules, TokenVerifier
from freehold.ports.web import Unreachable, Web
from freehold.services.people.claims import has_claim

log = logging.getLogger("freehold.people")

_METADATA_SECONDS_MAX = 3600.0
_WELL_KNOWN = "/.well-known/openid-configuration"


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`issuer` exactly as the provider spells it. `redirect_uri` is registered there as it is."""

    issuer: str
    client_id: str
    client_secret: str | None
    redirect_uri: str
    scopes: str = "openid profile email"
    roles_claim: str = "groups"

    def __repr__(self) -> str:
        return f"ProviderSettings({self.issuer}, {self.client_id})"


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What its discovery document says (OpenID Connect Discovery 1.0), as far as it is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _Tokens(msgspec.Struct, frozen=True, kw_only=True):
    id_token: str
    access_token: str = ""

    def __repr__(self) -> str:
        return "_Tokens(...)"


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """Of a person who proved who they are."""

    issuer: str
    subject: str
    all: dict[str, Any]


class Provider:
    """Verifier and nonce of a sign-in come from `binding`, which the browser alone keeps: nothing
    that is stored here could finish it."""

    def __init__(self, settings: ProviderSettings, *, web: Web, tokens: TokenVerifier) -> None:
        self.settings = settings
        self._web = web
        self._tokens = tokens
        self._metadata: tuple[float, Metadata] | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.settings.issuer).netloc

    async def authorization_url(self, state: str, binding: str) -> str:
        metadata = await self.metadata()
        challenge = hashlib.sha256(_derived(binding, "verifier").encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self.settings.redirect_uri,
            "scope": self.settings.scopes,
            "state": state,
            "nonce": _derived(binding, "nonce"),
            "code_challenge": _text(challenge),
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(metadata.authorization_endpoint).query else "?"
        return metadata.authorization_endpoint + joint + urlencode(query, quote_via=quote)

    async def check_issuer(self, said: str | None) -> None:
        """RFC 9207: whose answer it is. Raises SignInRefused."""
        metadata = await self.metadata()
        needed = metadata.authorization_response_iss_parameter_supported
        if (said is None and needed) or (said is not None and said != self.settings.issuer):
            raise SignInRefused("the answer is not of the provider that was asked")

    async def redeem(self, code: str, binding: str) -> Claims:
        """Raises SignInRefused for a code that is not good, was used, or is another sign-in's."""
        metadata = await self.metadata()
        tokens = await self._exchange(metadata, code, binding)
        rules = TokenRules(
            discovery_url=self.settings.issuer.rstrip("/") + _WELL_KNOWN,
            audiences=frozenset({self.settings.client_id}),
        )
        try:
            verified = await self._tokens.verify(tokens.id_token, rules)
        except TokenRefused as error:
            log.warning("an ID token was refused: %s", error.message)
            raise SignInRefused("the provider's token cannot be trusted") from error
        nonce = str(verified.claims.get("nonce") or "")
        azp = verified.claims.get("azp", self.settings.client_id)
        if (
            verified.issuer != self.settings.issuer
            or not verified.subject
            or azp != self.settings.client_id
            or not hmac.compare_digest(nonce.encode(), _derived(binding, "nonce").encode())
        ):
            raise SignInRefused("the provider's token belongs to another sign-in")
        claims = await self._with_userinfo(metadata, tokens, verified.claims)
        return Claims(issuer=verified.issuer, subject=verified.subject, all=claims)

    async def metadata(self) -> Metadata:
        if self._metadata is None or time.monotonic() >= self._metadata[0]:
            found = await self._discover()
            self._metadata = time.monotonic() + _METADATA_SECONDS_MAX, found
        return self._metadata[1]

    async def _discover(self) -> Metadata:
        body = await self._ask("GET", self.settings.issuer.rstrip("/") + _WELL_KNOWN)
        try:
            found = msgspec.json.decode(body, type=Metadata)
        except msgspec.DecodeError as error:
            log.error("the provider's discovery document cannot be read: %s", error)
            raise Unavailable("the sign-in provider answers what cannot be read") from error
        if found.issuer != self.settings.issuer:
            log.error("the provider says that its issuer is %r: set it so", found.issuer)
            raise Unavailable("the sign-in provider is not the one that was set")
        if not found.authorization_endpoint.startswith(("https://", "http://")):
            raise Unavailable("the sign-in provider has no page to sign in on")
        return found

    async def _exchange(self, metadata: Metadata, code: str, binding: str) -> _Tokens:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.settings.redirect_uri,
            "code_verifier": _derived(binding, "verifier"),
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        secret = self.settings.client_secret
        if secret is None:
            form["client_id"] = self.settings.client_id
        elif "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            # RFC 6749 section 2.3.1: each part is form-encoded first.
            both = f"{quote(self.settings.client_id, safe='')}:{quote(secret, safe='')}"
            headers["authorization"] = "Basic " + base64.b64encode(both.encode()).decode()
        else:
            form |= {"client_id": self.settings.client_id, "client_secret": secret}
        body = await self._ask(
            "POST", metadata.token_endpoint, headers=headers, body=urlencode(form).encode()
        )
        try:
            return msgspec.json.decode(body, type=_Tokens)
        except msgspec.DecodeError as error:
            raise SignInRefused("the provider gave no ID token") from error

    async def _with_userinfo(
        self, metadata: Metadata, tokens: _Tokens, claims: dict[str, Any]
    ) -> dict[str, Any]:
        """Providers put roles and emails in the ID token, or keep them for their userinfo."""
        enough = has_claim(claims, self.settings.roles_claim) and "email" in claims
        if enough or metadata.userinfo_endpoint is None or not tokens.access_token:
            return claims
        body = await self._ask(
            "GET",
            metadata.userinfo_endpoint,
            headers={"authorization": f"Bearer {tokens.access_token}"},
        )
        try:
            more = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError:
            return claims  # a signed one (JWT): whatever the ID token says has to do
        if more.get("sub") != claims.get("sub"):
            raise SignInRefused("the provider speaks of somebody else")
        return {**more, **claims}

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> bytes:
        """A 4xx of the token endpoint is a code that is not good; all else is the provider's."""
        try:
            answer = await self._web.ask(
                method, url, headers={"accept": "application/json", **(headers or {})}, body=body
            )
        except Unreachable as error:
            log.error("the sign-in provider: %s", error)
            raise Unavailable("the sign-in provider cannot be reached just now") from error
        if answer.status == 200:
            return answer.body
        log.warning("the sign-in provider answered %d: %s", answer.status, _reason(answer.body))
        if method == "POST" and 400 <= answer.status < 500:
            raise SignInRefused("the provider did not accept this sign-in; try again")
        raise Unavailable("the sign-in provider fails just now")


def _derived(binding: str, purpose: str) -> str:
    return _text(hmac.digest(binding.encode(), f"freehold sign-in {purpose}".encode(), "sha256"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _reason(body: bytes) -> str:
    """The `error` of RFC 6749, for the operator's log: one of a few words, no secret."""
    try:
        said = msgspec.json.decode(body, type=dict[str, Any]).get("error")
    except msgspec.DecodeError:
        return "-"
    return said if isinstance(said, str) and said.replace("_", "").isalnum() else "-"
