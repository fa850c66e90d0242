"""Pages of a list: opaque continuation tokens."""

import base64
import binascii
from typing import Generic, TypeVar

import msgspec

from freehold.kernel.errors import ValidationFailed

T = TypeVar("T")

PAGE_ITEMS_DEFAULT = 100
PAGE_ITEMS_MAX = 1000


class Page(msgspec.Struct, Generic[T], frozen=True):
    items: list[T]
    next_token: str | None = None


def encode_token(*position: str | int) -> str:
    """A token that names the last row seen. Opaque to clients, no secret in it."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def decode_token(token: str | None) -> list[str | int] | None:
    """The position a token names. Raises ValidationFailed for a token that we never made."""
    if token is None:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=list[str | int])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise ValidationFailed("nextToken is not a token that this API returned") from error
