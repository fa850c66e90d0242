"""An HTTP answer before it is sent."""

from collections.abc import AsyncIterator

import msgspec

JSON_TYPE = b"application/json"


class Reply(msgspec.Struct):
    """A body that is an iterator is sent as it comes."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes | AsyncIterator[bytes] = b""
