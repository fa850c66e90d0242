"""Digests that a client declares of what it sends."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from freehold.edges.s3.errors import S3Error, not_implemented

PREFIX = "x-amz-checksum-"
# Not checksums, though their names begin like one.
_WORDS = (PREFIX + "algorithm", PREFIX + "mode", PREFIX + "type")
_INLINE_BYTES_MAX = 32 * 1024
_BATCH_BYTES = 1 << 20


class Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _md5() -> Digest:
    return hashlib.md5(usedforsecurity=False)


def _sha1() -> Digest:
    return hashlib.sha1(usedforsecurity=False)


# CRC32C, CRC64NVME and XXHASH need a C library that nothing else here needs.
ALGORITHMS: Mapping[str, Callable[[], Digest]] = {
    "crc32": _Crc32,
    "md5": _md5,
    "sha1": _sha1,
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
}


def is_checksum(header: str) -> bool:
    return header.startswith(PREFIX) and header not in _WORDS


def algorithm_named(name: str) -> Callable[[], Digest]:
    """Raises NotImplemented: a checksum that nobody verifies must not look verified."""
    algorithm = ALGORITHMS.get(name.lower())
    if algorithm is None:
        known = ", ".join(ALGORITHMS).upper()
        raise not_implemented(f"the checksum {name.upper()[:32]}; it has {known}")
    return algorithm


def decoded(value: str, algorithm: Callable[[], Digest]) -> bytes:
    """The digest that a base64 header declares, or InvalidDigest."""
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise S3Error("InvalidDigest", "a checksum is not base64") from error
    if len(digest) != len(algorithm().digest()):
        raise S3Error("InvalidDigest", "a checksum has not its algorithm's length")
    return digest


def encoded(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


class Expectation:
    """One digest that the body must have. `expected` may be set as late as the trailer comes."""

    def __init__(
        self, algorithm: Callable[[], Digest], expected: bytes | None, mismatch: S3Error
    ) -> None:
        self.algorithm = algorithm
        self.expected = expected
        self.running = algorithm()
        self._mismatch = mismatch

    def check(self) -> None:
        if self.expected is None:
            raise S3Error("MalformedTrailerError", "a declared trailer did not come")
        if not hmac.compare_digest(self.running.digest(), self.expected):
            raise self._mismatch


async def digesting(chunks: AsyncIterator[bytes], digests: list[Digest]) -> AsyncIterator[bytes]:
    """The chunks, having passed through the digests; in a thread where there is much of them."""
    if not digests:
        async for chunk in chunks:
            yield chunk
        return
    batch: list[bytes] = []
    size = 0
    async for chunk in chunks:
        batch.append(chunk)
        size += len(chunk)
        if size >= _BATCH_BYTES:
            await asyncio.to_thread(_update, digests, batch)
            for held in batch:
                yield held
            batch, size = [], 0
    if size > _INLINE_BYTES_MAX:
        await asyncio.to_thread(_update, digests, batch)
    else:
        _update(digests, batch)
    for held in batch:
        yield held


def _update(digests: list[Digest], batch: list[bytes]) -> None:
    for chunk in batch:
        for digest in digests:
            digest.update(chunk)
