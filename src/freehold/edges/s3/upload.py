"""The body of a request: decoded, counted and checked against all that was declared of it."""

import hashlib
from collections.abc import AsyncIterator, Mapping

from freehold.edges.s3 import checksums
from freehold.edges.s3.checksums import Expectation
from freehold.edges.s3.chunked import ChunkSignatures, decode
from freehold.edges.s3.errors import S3Error
from freehold.edges.spool import Inbound

STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_STREAMING = "STREAMING-"
_TRAILER = "-TRAILER"


class Upload:
    """A Body whose iteration raises, at the latest after its last byte, unless all is as declared.

    `payload` is the verified value of x-amz-content-sha256.
    """

    def __init__(
        self,
        inbound: Inbound,
        headers: Mapping[str, str],
        *,
        payload: str,
        signatures: ChunkSignatures | None,
        bytes_max: int,
    ) -> None:
        self._inbound = inbound
        self._signatures = signatures
        self._bytes_max = bytes_max
        self._streaming = payload.startswith(_STREAMING)
        self._trailers: dict[str, str] | None = {} if payload.endswith(_TRAILER) else None
        self._size_bytes = _declared_size(headers, streaming=self._streaming)
        self._from_headers = _header_checksums(headers)
        self._from_trailers: dict[str, Expectation] = {}
        if self._trailers is not None:
            self._from_trailers = _trailer_checksums(headers)
        self._others = _other_digests(headers, None if self._streaming else payload)

    @property
    def size_bytes(self) -> int | None:
        return self._size_bytes

    @property
    def declared_checksums(self) -> dict[str, str]:
        """From the headers, by name, base64: what can be kept beside an object being written."""
        return {
            name: checksums.encoded(expected.expected)
            for name, expected in self._from_headers.items()
            if expected.expected is not None
        }

    @property
    def checksums(self) -> dict[str, str]:
        """Those of the trailers too, once the body was read."""
        checked = self._from_headers | self._from_trailers
        return {name: checksums.encoded(one.running.digest()) for name, one in checked.items()}

    async def chunks(self) -> AsyncIterator[bytes]:
        self._check_size(self._size_bytes or 0)
        expectations = [*self._from_headers.values(), *self._others]
        expectations += self._from_trailers.values()
        received = _received(self._inbound)
        if self._streaming:
            received = decode(received, signatures=self._signatures, trailers=self._trailers)
        total = 0
        async for chunk in checksums.digesting(received, [one.running for one in expectations]):
            total += len(chunk)
            self._check_size(total)
            yield chunk
        if self._size_bytes not in (None, total):
            raise S3Error("IncompleteBody", "the body has not the declared number of bytes")
        self._take_trailers()
        for expected in expectations:
            expected.check()

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._bytes_max:
            raise S3Error(
                "EntityTooLarge", f"an upload has at most {self._bytes_max} bytes in one request"
            )

    def _take_trailers(self) -> None:
        for name, value in (self._trailers or {}).items():
            expected = self._from_trailers.get(name)
            if expected is None:
                raise S3Error("MalformedTrailerError", "a trailer came that was not declared")
            expected.expected = checksums.decoded(value, expected.algorithm)


async def _received(inbound: Inbound) -> AsyncIterator[bytes]:
    while not inbound.body_ended:
        data = await inbound.chunk()
        if data:
            yield data


def _declared_size(headers: Mapping[str, str], *, streaming: bool) -> int | None:
    if not streaming:
        declared = headers.get("content-length")
        return int(declared) if declared is not None else None
    decoded = headers.get("x-amz-decoded-content-length", "")
    if not (decoded.isascii() and decoded.isdigit() and len(decoded) < 20):
        raise S3Error("MissingContentLength", "x-amz-decoded-content-length is missing")
    return int(decoded)


def _header_checksums(headers: Mapping[str, str]) -> dict[str, Expectation]:
    found = {}
    for name, value in headers.items():
        # `{checksum}-{parts}` is a checksum of checksums: CompleteMultipartUpload checks those.
        if checksums.is_checksum(name) and "-" not in value:
            algorithm = checksums.algorithm_named(name.removeprefix(checksums.PREFIX))
            found[name] = Expectation(
                algorithm, checksums.decoded(value, algorithm), _bad_digest(name)
            )
    return found


def _trailer_checksums(headers: Mapping[str, str]) -> dict[str, Expectation]:
    names = [name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",")]
    found = {}
    for name in filter(None, names):
        if not checksums.is_checksum(name):
            raise S3Error("MalformedTrailerError", "x-amz-trailer names what is no checksum")
        algorithm = checksums.algorithm_named(name.removeprefix(checksums.PREFIX))
        found[name] = Expectation(algorithm, None, _bad_digest(name))
    if not found:
        raise S3Error("InvalidRequest", "x-amz-trailer names no checksum")
    return found


def _other_digests(headers: Mapping[str, str], payload: str | None) -> list[Expectation]:
    found = []
    if "content-md5" in headers:
        md5 = checksums.ALGORITHMS["md5"]
        expected = checksums.decoded(headers["content-md5"], md5)
        found.append(Expectation(md5, expected, _bad_digest("Content-MD5")))
    if payload is not None and len(payload) == hashlib.sha256().digest_size * 2:
        mismatch = S3Error(
            "XAmzContentSHA256Mismatch", "the body's SHA-256 differs from x-amz-content-sha256"
        )
        found.append(Expectation(hashlib.sha256, bytes.fromhex(payload), mismatch))
    return found


def _bad_digest(name: str) -> S3Error:
    return S3Error("BadDigest", f"the body differs from what {name} declares")
