"""How tokens are forged by hand, from an honest issuer's and a stranger's keys."""

from collections.abc import Callable
from functools import cache
from typing import Any

from freehold.ports.tokens import ClaimRule, TokenRules
from token_issuer import (
    ALGORITHMS,
    PrivateKey,
    TokenIssuer,
    as_json,
    b64,
    compact,
    new_key,
    public_jwk,
    signature,
)

AUDIENCE, CLIENT, SCOPE, GROUP = "https://api.example.test", "an-app", "tools:read", "staff"
ENCRYPTION_KID, SHARED_KID = "for-encryption", "shared"
SHARED_SECRET = b"a secret that the issuer's JWKS has by mistake"

Make = Callable[[TokenIssuer], str]
FORGED: dict[str, Make] = {}
HONEST: dict[str, Make] = {
    alg: lambda issuer, alg=alg: issuer.token(alg)  # type: ignore[misc]
    for alg in ALGORITHMS
}


def rules_of(issuer: TokenIssuer) -> TokenRules:
    return TokenRules(
        discovery_url=issuer.discovery_url,
        audiences=frozenset({AUDIENCE}),
        clients=frozenset({CLIENT}),
        scopes=frozenset({SCOPE}),
        claims=(ClaimRule(name="groups", is_list=True, operator="CONTAINS", wanted=(GROUP,)),),
    )


def prepare(issuer: TokenIssuer) -> None:
    """Publishes two more keys, which are not for signatures. Before the issuer is asked."""
    issuer.keys[ENCRYPTION_KID] = new_key("RS256")
    issuer.jwks["keys"] += [
        {"kid": ENCRYPTION_KID, "use": "enc", **public_jwk(issuer.keys[ENCRYPTION_KID])},
        {"kid": SHARED_KID, "kty": "oct", "alg": "HS256", "k": b64(SHARED_SECRET)},
    ]


def forged(name: str) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        assert name not in FORGED, name
        FORGED[name] = make
        return make

    return add


@cache
def stranger(alg: str = "RS256") -> PrivateKey:
    return new_key(alg)


def made(
    issuer: TokenIssuer,
    sign: Callable[[bytes], bytes],
    *,
    alg: str = "RS256",
    header: bytes | dict[str, Any] | None = None,
    payload: bytes | dict[str, Any] | None = None,
) -> str:
    header = issuer.header(alg) if header is None else header
    payload = issuer.claims() if payload is None else payload
    return compact(
        header if isinstance(header, bytes) else as_json(header),
        payload if isinstance(payload, bytes) else as_json(payload),
        sign,
    )


def by_stranger(issuer: TokenIssuer, alg: str = "RS256", **header: Any) -> str:
    return made(
        issuer,
        lambda content: signature(alg, stranger(alg), content),
        header=issuer.header(alg, **header),
    )


def well_signed(
    issuer: TokenIssuer,
    *,
    header: bytes | dict[str, Any] | None = None,
    payload: bytes | dict[str, Any] | None = None,
) -> str:
    return made(
        issuer, lambda content: issuer.sign("RS256", content), header=header, payload=payload
    )
