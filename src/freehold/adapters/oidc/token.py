"""The compact form of a signed token: read strictly, and its signature verified."""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import Key
from joserfc.jws import JWSRegistry, deserialize_compact

from freehold.adapters.oidc.keys import ALGORITHMS
from freehold.ports.tokens import TokenRefused

_LENGTH_MAX = 16 << 10
_HEADER_LENGTH_MAX = 8 << 10
_KID_LENGTH_MAX = 512
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# Tokens of other purposes (proofs, logouts, events, ...) say so in their type.
_TYPES = ("jwt", "at+jwt", "application/jwt", "application/at+jwt")
# `crit`: nothing that must be understood is. `b64`, `cty`, `zip`, `enc`: not a plain signed token.
# `jwk`: brings its own key. `jku`, `x5u` and `x5c` do not matter: keys are had from the provider.
_REFUSED_HEADERS = ("crit", "b64", "cty", "zip", "enc", "jwk")


class Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None


class _Registry(JWSRegistry):
    """joserfc's limit of 512 bytes refuses honest headers, such as those with a certificate."""

    max_header_length = _HEADER_LENGTH_MAX

    def get_alg(self, name: str) -> Any:  # joserfc does not export its type
        """Without joserfc's warning that EdDSA has a newer name, which providers do not use yet."""
        if name not in ALGORITHMS:
            raise TokenRefused("The token's algorithm is not accepted.")
        return self.algorithms[name]


_REGISTRY = _Registry(algorithms=list(ALGORITHMS), strict_check_header=False)


def header_of(token: str) -> Header:
    """Raises TokenRefused. Nothing of it is proven yet."""
    if len(token) > _LENGTH_MAX or token.find(".") > _HEADER_LENGTH_MAX:
        raise TokenRefused("The token is too long.")
    if not _COMPACT.fullmatch(token):
        raise TokenRefused("The token is not a signed JWT.")
    header = _object(_decoded(token.partition(".")[0]))
    alg, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise TokenRefused("The token's algorithm is not accepted.")
    if any(name in header for name in _REFUSED_HEADERS):
        raise TokenRefused("The token's header asks for what is not supported.")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenRefused("The token is of another type than an access token.")
    if "kid" in header and (not isinstance(kid, str) or not 0 < len(kid) <= _KID_LENGTH_MAX):
        raise TokenRefused("The token's header does not name a key.")
    return Header(alg, kid)


def signed_content(token: str, keys: Sequence[Key]) -> bytes | None:
    """The content that one of the keys signed; None where none did. Raises TokenRefused."""
    for key in keys:
        try:
            content = deserialize_compact(token, key, registry=_REGISTRY).payload
        except (JoseError, ValueError, TypeError):
            continue
        _object(content)
        return content
    return None


def _object(data: bytes) -> dict[str, Any]:
    """JSON in which no two readers can see different things."""
    try:
        found = json.loads(
            data.decode(), object_pairs_hook=_without_duplicates, parse_constant=_no_number
        )
        msgspec.json.decode(data)
    except (ValueError, RecursionError):
        raise TokenRefused("The token is not well-formed.") from None
    if not isinstance(found, dict):
        raise TokenRefused("The token is not well-formed.")
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _decoded(part: str) -> bytes:
    """Base64url, and the one way to write it."""
    try:
        found = base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True)
    except binascii.Error:
        raise TokenRefused("The token is not well-formed.") from None
    if base64.urlsafe_b64encode(found).decode().rstrip("=") != part:
        raise TokenRefused("The token is not well-formed.")
    return found
