"""A provider's public keys, as its JWKS has them: those that can verify a signature we accept."""

from collections.abc import Sequence
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

ALGORITHMS: dict[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),  # its name since RFC 9864
}
"""What a signature may be made with: the type of key and its curve. Nothing symmetric."""

_PUBLIC_MEMBERS: dict[str, tuple[type[RSAKey] | type[ECKey] | type[OKPKey], tuple[str, ...]]] = {
    "RSA": (RSAKey, ("n", "e")),
    "EC": (ECKey, ("crv", "x", "y")),
    "OKP": (OKPKey, ("crv", "x")),
}
_KEYS_MAX = 100
_CANDIDATES_MAX = 4  # of one name: each costs a verification
# Below the first a key protects nothing; above the second each forged token costs us a millisecond.
_RSA_BITS_MIN, _RSA_BITS_MAX, _RSA_EXPONENT_BITS_MAX = 2048, 8192, 32


class PublicKey(msgspec.Struct, frozen=True, kw_only=True):
    """`alg`: the only algorithm that it is for, where the provider says so."""

    kid: str | None
    kind: str
    curve: str | None
    alg: str | None
    key: Key

    def suits(self, alg: str) -> bool:
        return (self.kind, self.curve) == ALGORITHMS[alg] and self.alg in (None, alg)


def public_keys(jwks: Any) -> tuple[PublicKey, ...]:
    """Those that can be used; the others are for other purposes. Raises ValueError."""
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
        raise ValueError("it has no list of keys")
    if len(jwks["keys"]) > _KEYS_MAX:
        raise ValueError(f"it has more than {_KEYS_MAX} keys")
    return tuple(key for each in jwks["keys"] if (key := _public_key(each)) is not None)


def candidates(keys: Sequence[PublicKey], kid: str | None, alg: str) -> list[Key]:
    """A token that names no key is only verified where there is no choice."""
    found = [each.key for each in keys if each.suits(alg) and kid in (None, each.kid)]
    return found[:_CANDIDATES_MAX] if kid is not None or len(found) == 1 else []


def _public_key(jwk: Any) -> PublicKey | None:
    if not isinstance(jwk, dict) or not _is_for_signatures(jwk):
        return None
    kind, kid = jwk.get("kty"), jwk.get("kid")
    if not isinstance(kind, str) or kind not in _PUBLIC_MEMBERS:
        return None
    if not (kid is None or isinstance(kid, str)):
        return None
    make, names = _PUBLIC_MEMBERS[kind]
    try:
        # Only what is public of it: a provider's mistake is not to become a secret of ours.
        key = make.import_key({"kty": kind, **{name: jwk[name] for name in names}})
        native = key.public_key
    except (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None
    if isinstance(native, RSAPublicKey) and not _is_sound(native):
        return None
    curve = None if kind == "RSA" else jwk["crv"]
    return PublicKey(kid=kid, kind=kind, curve=curve, alg=jwk.get("alg"), key=key)


def _is_for_signatures(jwk: dict[str, Any]) -> bool:
    operations, alg = jwk.get("key_ops", ["verify"]), jwk.get("alg")
    return (
        jwk.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and (alg is None or (isinstance(alg, str) and alg in ALGORITHMS))
    )


def _is_sound(key: RSAPublicKey) -> bool:
    exponent = key.public_numbers().e
    return (
        _RSA_BITS_MIN <= key.key_size <= _RSA_BITS_MAX
        and exponent % 2 == 1
        and exponent.bit_length() <= _RSA_EXPONENT_BITS_MAX
    )
