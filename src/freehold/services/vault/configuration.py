"""What a request for a provider says, checked, as the document that is stored."""

from typing import Any
from urllib.parse import urlsplit

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.services.vault.model import NewSecret, Reference
from freehold.services.vault.vendors import CUSTOM, MICROSOFT, VENDORS, Vendor

Params = dict[str, Any]

_REFUSED = {
    "privateEndpoint": "VPC Lattice is AWS's own; list the host in FREEHOLD_OUTBOUND_PRIVATE_HOSTS",
    "privateEndpointOverrides": "VPC Lattice is AWS's own; list the hosts in "
    "FREEHOLD_OUTBOUND_PRIVATE_HOSTS",
    "certificateConfigurations": "AgentCore has them with privateEndpoint alone",
}
_AUTH_METHOD = {
    "CLIENT_SECRET_BASIC": "client_secret_basic",
    "CLIENT_SECRET_POST": "client_secret_post",
    "PRIVATE_KEY_JWT": "private_key_jwt",
}
_NO_STS = "a token of AWS STS, which is not here; PRIVATE_KEY_JWT signs with a key of this platform"
_RESERVED_HEADER = frozenset({"alg", "typ", "kid", "jwk", "jku", "x5u", "x5c", "crit"})
_RESERVED_PAYLOAD = frozenset({"iss", "sub", "aud", "exp", "iat", "nbf", "jti"})


class PrivateKeyWish(msgspec.Struct, frozen=True, kw_only=True):
    """`header` and `payload` may be sensitive: they are sealed with the key. `repr` hides them."""

    algorithm: str
    kms_key_arn: str
    header: dict[str, str]
    payload: dict[str, str]

    def __repr__(self) -> str:
        return f"PrivateKeyWish({self.algorithm})"


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    vendor: str
    client_id: str
    discovery: dict[str, Any]
    auth_method: str
    secret: NewSecret | None
    on_behalf_of: dict[str, Any] | None
    private_key: PrivateKeyWish | None


def api_key_secret(params: Params) -> NewSecret:
    secret = _secret(params, "apiKey", "apiKeySecretConfig", "apiKeySecretSource")
    if secret is None:
        raise ValidationFailed("apiKey: is missing, or empty")
    return secret


def oauth2_configuration(params: Params) -> Configuration:
    name = params["credentialProviderVendor"]
    vendor = VENDORS[name]
    given: Params = params["oauth2ProviderConfigInput"]
    if set(given) != {vendor.member}:
        raise ValidationFailed(
            f"oauth2ProviderConfigInput: {name} is configured with {vendor.member}"
        )
    config: Params = given[vendor.member]
    for member, why in _REFUSED.items():
        if config.get(member):
            raise ValidationFailed(f"{member}: not available in Freehold: {why}")
    secret = _secret(config, "clientSecret", "clientSecretConfig", "clientSecretSource")
    private_key = _private_key(config)
    on_behalf_of = _on_behalf_of(config.get("onBehalfOfTokenExchangeConfig"))
    method = _method(config, secret, private_key)
    client_id = config.get("clientId") or ""
    if not client_id and not (on_behalf_of and on_behalf_of.get("no_client")):
        raise ValidationFailed("clientId: is missing")
    if secret is None and name != CUSTOM:
        raise ValidationFailed("clientSecret: is missing, or empty")
    return Configuration(
        vendor=name,
        client_id=client_id,
        discovery=_discovery(name, vendor, config),
        auth_method=method,
        secret=secret,
        on_behalf_of=on_behalf_of,
        private_key=private_key,
    )


def _secret(config: Params, value: str, reference: str, source: str) -> NewSecret | None:
    told = config.get(source) or ("EXTERNAL" if config.get(reference) else "MANAGED")
    if told == "EXTERNAL":
        if config.get(value):
            raise ValidationFailed(f"{value}: must not be given with {source} EXTERNAL")
        place = config.get(reference)
        if not place:
            raise ValidationFailed(f"{reference}: is missing, with {source} EXTERNAL")
        return NewSecret(reference=Reference(place["secretId"], place["jsonKey"]))
    if config.get(reference):
        raise ValidationFailed(f"{reference}: goes with {source} EXTERNAL")
    return NewSecret(config[value]) if config.get(value) else None


def _private_key(config: Params) -> PrivateKeyWish | None:
    given = config.get("privateKeyJwtConfig")
    if given is None:
        return None
    header = given.get("additionalHeaderClaims") or {}
    payload = given.get("additionalPayloadClaims") or {}
    for what, claims, reserved in (
        ("additionalHeaderClaims", header, _RESERVED_HEADER),
        ("additionalPayloadClaims", payload, _RESERVED_PAYLOAD),
    ):
        for claim in claims:
            if claim.lower() in reserved:
                raise ValidationFailed(f"{what}: {claim} is set by the platform")
    kms = (given.get("privateKeySource") or {}).get("kmsKeySource") or {}
    return PrivateKeyWish(
        algorithm=given.get("signingAlgorithm") or "RS256",
        kms_key_arn=kms.get("kmsKeyArn", ""),
        header=header,
        payload=payload,
    )


def _method(config: Params, secret: NewSecret | None, key: PrivateKeyWish | None) -> str:
    wanted = config.get("clientAuthenticationMethod")
    if wanted == "AWS_IAM_ID_TOKEN_JWT":
        raise ValidationFailed(f"clientAuthenticationMethod: {wanted} needs {_NO_STS}")
    if wanted is None:
        return "private_key_jwt" if key is not None else "" if secret is not None else "none"
    if (wanted == "PRIVATE_KEY_JWT") != (key is not None):
        raise ValidationFailed(
            "clientAuthenticationMethod: PRIVATE_KEY_JWT and privateKeyJwtConfig go together"
        )
    if wanted.startswith("CLIENT_SECRET") and secret is None:
        raise ValidationFailed(f"clientAuthenticationMethod: {wanted} needs a client secret")
    return _AUTH_METHOD[wanted]


def _on_behalf_of(given: Params | None) -> dict[str, Any] | None:
    if not given:
        return None
    grant = given["grantType"]
    exchange = given.get("tokenExchangeGrantTypeConfig") or {}
    if exchange and grant != "TOKEN_EXCHANGE":
        raise ValidationFailed("tokenExchangeGrantTypeConfig: goes with TOKEN_EXCHANGE")
    actor = exchange.get("actorTokenContent", "NONE")
    if actor == "AWS_IAM_ID_TOKEN_JWT":
        raise ValidationFailed(f"actorTokenContent: {actor} needs {_NO_STS}")
    scopes = exchange.get("actorTokenScopes") or []
    if scopes and actor != "M2M":
        raise ValidationFailed("actorTokenScopes: goes with actorTokenContent M2M")
    return {
        "grant": grant,
        "actor": actor,
        "actor_scopes": scopes,
        "no_client": bool(given.get("onBehalfOfAuthenticationConfig")),
        "given": given,
    }


def _discovery(name: str, vendor: Vendor, config: Params) -> dict[str, Any]:
    if name == CUSTOM:
        given: dict[str, Any] = config["oauthDiscovery"]
        metadata = given.get("authorizationServerMetadata")
        if metadata:
            for member in ("issuer", "authorizationEndpoint", "tokenEndpoint"):
                _checked_url(member, metadata[member])
        else:
            _checked_url("discoveryUrl", given.get("discoveryUrl", ""))
        return given
    if name == MICROSOFT:
        tenant = config.get("tenantId") or "common"
        if not all(c.isalnum() or c in "-._" for c in tenant):
            raise ValidationFailed("tenantId: expected an id or a domain")
        return {"discoveryUrl": vendor.discovery_url.format(tenant=tenant)}
    if vendor.discovery_url:
        return {"discoveryUrl": vendor.discovery_url}
    return _included(name, vendor, config)


def _included(name: str, vendor: Vendor, config: Params) -> dict[str, Any]:
    """A vendor's own addresses; the request may say others, and must for a customer's server."""
    issuer = config.get("issuer") or vendor.issuer
    authorization = config.get("authorizationEndpoint") or vendor.authorize_at
    token = config.get("tokenEndpoint") or vendor.exchange_at
    if vendor.isolated and not (authorization and token):
        if not issuer:
            raise ValidationFailed(
                f"issuer: {name} has a server for each customer; say whose, and with "
                "authorizationEndpoint and tokenEndpoint where they cannot be discovered"
            )
        _checked_url("issuer", issuer)
        return {"discoveryUrl": issuer.rstrip("/") + "/.well-known/openid-configuration"}
    addresses = {
        "issuer": issuer, "authorizationEndpoint": authorization, "tokenEndpoint": token,
    }  # fmt: skip
    for member, url in addresses.items():
        if url or not vendor.isolated:
            _checked_url(member, url)
    return {"authorizationServerMetadata": addresses}


def _checked_url(member: str, url: str) -> None:
    """Its shape alone: whether its host may be asked is judged with each request."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or parts.username or parts.fragment or not url.isprintable() or " " in url:
        raise ValidationFailed(f"{member}: expected an https address")
