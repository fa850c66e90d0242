"""The platform's public keys, for whoever checks a token that it signed."""

from typing import Any

import msgspec

from freehold.kernel.operation import Operation, Params
from freehold.kernel.request import Request
from freehold.services.identity.keys import ALGORITHM, SigningKeys
from freehold.services.identity.tokens import WorkloadTokenService

JWKS_PATH = "/jwks.json"
DISCOVERY_PATH = "/.well-known/openid-configuration"


class PublicKey(msgspec.Struct, frozen=True):
    """A JSON Web Key (RFC 7517)."""

    kid: str
    kty: str
    crv: str
    x: str
    y: str
    use: str
    alg: str


class KeySet(msgspec.Struct, frozen=True):
    """The key that signs, the one that comes after it, and those whose tokens still live."""

    keys: list[PublicKey]


class Discovery(msgspec.Struct, frozen=True, omit_defaults=True):
    """As of OpenID Connect Discovery, for checking signatures: nobody signs in here."""

    issuer: str
    jwks_uri: str
    id_token_signing_alg_values_supported: list[str]
    subject_types_supported: list[str]
    response_types_supported: list[str]
    claims_supported: list[str]


def operations(tokens: WorkloadTokenService, keys: SigningKeys) -> list[Operation]:
    async def jwks(_: Request, __: Params, ___: Any) -> KeySet:
        return KeySet([PublicKey(**key) for key in keys.published()])

    async def discovery(_: Request, __: Params, ___: Any) -> Discovery:
        return Discovery(
            issuer=tokens.issuer,
            jwks_uri=tokens.issuer + JWKS_PATH,
            id_token_signing_alg_values_supported=[ALGORITHM],
            subject_types_supported=["public"],
            response_types_supported=["none"],
            claims_supported=["iss", "sub", "aud", "iat", "exp", "jti"],
        )

    return [
        Operation(
            name="GetSigningKeys", method="GET", path=JWKS_PATH, act=jwks, answer=KeySet,
            summary="The public keys of the platform's tokens (JWKS)", open=True,
        ),
        Operation(
            name="GetOpenIdConfiguration", method="GET", path=DISCOVERY_PATH, act=discovery,
            summary="Who signs the platform's tokens, and where the keys are", answer=Discovery,
            open=True,
        ),
    ]  # fmt: skip
