"""Compressed bodies, bounded by what they become: a bomb is given up as soon as it is one."""

import asyncio
import zlib

from freehold.kernel.errors import ValidationFailed
from freehold.ports.exports import RequestTooLarge

INFLATED_BYTES_MAX = 32 << 20
_PIECE_BYTES = 1 << 20
_IN_THREAD_BYTES = 64 << 10
_GZIP = 16 + zlib.MAX_WBITS


class UnknownEncoding(ValidationFailed):
    status = 415


async def inflated(body: bytes, encoding: str, *, bytes_max: int = INFLATED_BYTES_MAX) -> bytes:
    """Raises ValidationFailed for what is no gzip or was cut off, RequestTooLarge."""
    named = encoding.strip().lower()
    if named in ("", "identity"):
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
        return body
    if named not in ("gzip", "x-gzip"):
        raise UnknownEncoding("content-encoding must be gzip or identity")
    if len(body) < _IN_THREAD_BYTES:
        return _gunzip(body, bytes_max)
    return await asyncio.to_thread(_gunzip, body, bytes_max)


def _gunzip(body: bytes, bytes_max: int) -> bytes:
    """All members of the file, one after the other, as gzip itself has it."""
    pieces: list[bytes] = []
    size = 0
    stream = zlib.decompressobj(_GZIP)
    rest = body
    try:
        while True:
            piece = stream.decompress(rest, _PIECE_BYTES)
            size += len(piece)
            if size > bytes_max:
                raise _too_large(bytes_max)
            pieces.append(piece)
            rest = stream.unconsumed_tail
            if stream.eof:
                rest = stream.unused_data
                if not rest:
                    return b"".join(pieces)
                stream = zlib.decompressobj(_GZIP)
            elif not rest and not piece:
                raise ValidationFailed("the gzip body was cut off")
    except zlib.error:
        raise ValidationFailed("the body is not gzip, as content-encoding says") from None


def _too_large(bytes_max: int) -> RequestTooLarge:
    return RequestTooLarge(f"the body is larger than {bytes_max >> 20} MiB; send less at once")
