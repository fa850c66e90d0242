"""JSON Web Tokens of the platform's own: signed, and read as strictly as they are written."""

import base64
import binascii
from typing import Any, Literal

import msgspec
from joserfc import jws
from joserfc.errors import JoseError

from freehold.ports.tokens import TokenRefused
from freehold.services.identity.keys import ALGORITHM, SigningKeys

ACCESS_TOKEN = "workload-access-token+jwt"  # noqa: S105 - a type, no token
ASSERTION = "JWT"

_TOKEN_CHARS_MAX = 16 * 1024
_REGISTRY = jws.JWSRegistry(algorithms=[ALGORITHM])


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a header of ours says: one that says more is not ours."""

    alg: Literal["ES256"]
    typ: str
    kid: str


class Jwts:
    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    def sign(self, claims: Any, typ: str) -> str:
        id, key = self._keys.signing()
        header = {"alg": ALGORITHM, "typ": typ, "kid": id}
        return jws.serialize_compact(header, msgspec.json.encode(claims), key, registry=_REGISTRY)

    async def verified(self, token: str, typ: str) -> bytes:
        """The claims of a token that this platform signed as this type. Nothing else is checked."""
        header = _header(token)
        if header.typ != typ:
            raise TokenRefused("this token is not a workload access token")
        key = await self._keys.verifying(header.kid)
        if key is None:
            raise TokenRefused("this platform did not sign the token, or long ago")
        try:
            found = jws.deserialize_compact(token, key, registry=_REGISTRY)
        except JoseError:
            raise TokenRefused("the token's signature is wrong") from None
        return bytes(found.payload or b"")


def _header(token: str) -> _Header:
    if len(token) > _TOKEN_CHARS_MAX or token.count(".") != 2 or not token.isascii():
        raise TokenRefused("this is not a token of this platform")
    encoded = token.partition(".")[0]
    try:
        text = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        return msgspec.json.decode(text, type=_Header)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise TokenRefused("this is not a token of this platform") from None
