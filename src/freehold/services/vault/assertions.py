"""Private keys of OAuth 2.0 clients, made here, and the assertions that they sign (RFC 7523)."""

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, KeyParameters, RSAKey

from freehold.services.vault.configuration import PrivateKeyWish

_SECONDS = 300
_RSA_BITS = 2048


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """As sealed. `jwk` is private. `repr` hides all but the algorithm."""

    algorithm: str
    jwk: dict[str, Any]
    header: dict[str, str]
    payload: dict[str, str]

    def __repr__(self) -> str:
        return f"SigningKey({self.algorithm})"


def new_key(algorithm: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Private and public JWK, of the same `kid`."""
    parameters: KeyParameters = {"alg": algorithm, "use": "sig", "kid": str(uuid.uuid4())}
    key: ECKey | RSAKey
    if algorithm == "ES256":
        key = ECKey.generate_key("P-256", parameters, private=True)
    else:
        key = RSAKey.generate_key(_RSA_BITS, parameters, private=True)
    return dict(key.as_dict(private=True)), dict(key.as_dict(private=False))


def sealed_key(wish: PrivateKeyWish, private: dict[str, Any]) -> bytes:
    return msgspec.json.encode(
        SigningKey(algorithm=wish.algorithm, jwk=private, header=wish.header, payload=wish.payload)
    )


class JwtSigner:
    """Implements `ports.credentials.AssertionSigner`."""

    def __init__(self, opened: bytes, *, client_id: str, public_jwk: Mapping[str, Any]) -> None:
        stored = msgspec.json.decode(opened, type=SigningKey)
        self._key: ECKey | RSAKey = (
            ECKey.import_key(stored.jwk)
            if stored.algorithm == "ES256"
            else RSAKey.import_key(stored.jwk)
        )
        self._stored = stored
        self._client_id = client_id
        self._public = dict(public_jwk)

    def __repr__(self) -> str:
        return f"JwtSigner({self._stored.algorithm})"

    @property
    def public_jwk(self) -> Mapping[str, Any]:
        return self._public

    def sign(self, *, audience: str) -> str:
        now = int(time.time())
        header = {**self._stored.header, "alg": self._stored.algorithm, "typ": "JWT"}
        header["kid"] = str(self._public["kid"])
        claims = {
            **self._stored.payload,
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": audience,
            "jti": str(uuid.uuid4()),
            "iat": now,
            "exp": now + _SECONDS,
        }
        return jwt.encode(header, claims, self._key, algorithms=[self._stored.algorithm])


async def new_key_in_thread(algorithm: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An RSA key takes a tenth of a second of computing: not on the event loop."""
    return await asyncio.to_thread(new_key, algorithm)
