"""What tells requests apart: SHA-256 of their canonical JSON, or of the bytes of what is none."""

import contextlib
import hashlib
from collections.abc import Collection

import msgspec

from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.ports.exchanges.raw import recorded

_CUT = "cut:"


def digest_of(raw: bytes) -> str:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        raw = msgspec.json.encode(msgspec.json.decode(raw), order="sorted")
    return hashlib.sha256(raw).hexdigest()


def digest_of_cut(text: str) -> str:
    """Of a request that was recorded without its end."""
    return _CUT + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def digests_of(raw: bytes) -> Collection[str]:
    """Those that its record may have."""
    if len(raw) <= CONTENT_BYTES_MAX:
        return (digest_of(raw),)
    return (digest_of(raw), digest_of_cut(recorded(raw)[0]))


def digest_of_arguments(arguments: object) -> str:
    """Of a tool's call; none are an empty object."""
    return digest_of(msgspec.json.encode({} if arguments is None else arguments))
