"""An object put together from its parts, each checked again while it is read."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from itertools import pairwise

import msgspec

from freehold.edges.s3 import checksums
from freehold.edges.s3.documents import Element, read_document
from freehold.edges.s3.errors import S3Error
from freehold.edges.s3.uploads import PART_NUMBER_MAX, UploadRecord, Uploads
from freehold.kernel.body import Body
from freehold.kernel.errors import NotFound

_CHECKSUM_ELEMENT = "Checksum"


class ClaimedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part as the client knows it. `checksums`: by algorithm, base64."""

    number: int
    etag: str
    checksums: dict[str, str]


async def read_claims(body: Body) -> list[ClaimedPart]:
    """The parts that CompleteMultipartUpload names, in ascending order."""
    root = await read_document(body, "CompleteMultipartUpload")
    claims = [_claim(part) for part in root.all("Part")]
    if not 1 <= len(claims) <= PART_NUMBER_MAX:
        raise S3Error("MalformedXML", f"an upload has 1 to {PART_NUMBER_MAX} parts")
    numbers = [claim.number for claim in claims]
    if any(one >= following for one, following in pairwise(numbers)):
        raise S3Error("InvalidPartOrder", "the parts must be in ascending order")
    return claims


class Assembly:
    """`headers` may declare the whole object's checksum: of its bytes, or of its parts' checksums
    (`{base64}-{parts}`)."""

    def __init__(
        self,
        uploads: Uploads,
        tenant: str,
        record: UploadRecord,
        claims: list[ClaimedPart],
        headers: Mapping[str, str],
    ) -> None:
        self._uploads = uploads
        self._tenant = tenant
        self._record = record
        self._claims = claims
        self._wholes = [
            _Whole(name.removeprefix(checksums.PREFIX), value, len(claims))
            for name, value in headers.items()
            if checksums.is_checksum(name)
        ]

    @staticmethod
    def etag(claims: list[ClaimedPart]) -> str:
        """S3's: the MD5 of the parts' MD5s, and how many they are."""
        md5s = b"".join(bytes.fromhex(claim.etag) for claim in claims)
        return f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(claims)}"

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises, and so keeps the object from being stored, when a part is not as claimed."""
        for claim in self._claims:
            expectations = [_expectation(claim, *pair) for pair in claim.checksums.items()]
            per_part = [whole.begin_part() for whole in self._wholes]
            digests = [one.running for one in expectations] + per_part
            async for chunk in checksums.digesting(await self._open(claim), digests):
                yield chunk
            for expected in expectations:
                expected.check()
            for whole in self._wholes:
                whole.end_part()
        for whole in self._wholes:
            whole.check()

    async def _open(self, claim: ClaimedPart) -> AsyncIterator[bytes]:
        try:
            part, chunks = await self._uploads.read_part(self._tenant, self._record, claim.number)
        except NotFound as error:
            raise _changed(claim.number) from error
        if part.etag != claim.etag:
            raise _changed(claim.number)
        return chunks


class _Whole:
    """One declared checksum of the whole object."""

    def __init__(self, algorithm: str, declared: str, parts: int) -> None:
        self._algorithm = checksums.algorithm_named(algorithm)
        value, composite, count = declared.partition("-")
        if composite and count != str(parts):
            raise S3Error("InvalidRequest", "a checksum of parts counts other parts")
        self._expected = checksums.decoded(value, self._algorithm)
        self._composite = bool(composite)
        self._total = self._algorithm()
        self._part = self._total

    def begin_part(self) -> checksums.Digest:
        if self._composite:
            self._part = self._algorithm()
        return self._part

    def end_part(self) -> None:
        if self._composite:
            self._total.update(self._part.digest())

    def check(self) -> None:
        if self._total.digest() != self._expected:
            raise S3Error("BadDigest", "the object differs from the declared checksum")


def _claim(part: Element) -> ClaimedPart:
    number, etag = part.get("PartNumber") or "", (part.get("ETag") or "").strip('"').lower()
    try:
        is_md5 = len(bytes.fromhex(etag)) == hashlib.md5(usedforsecurity=False).digest_size
    except ValueError:
        is_md5 = False
    if not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise S3Error("MalformedXML", "a part needs its number")
    if not is_md5:
        raise S3Error("InvalidPart", "a part's ETag is not one that was returned here")
    return ClaimedPart(
        number=int(number),
        etag=etag,
        checksums={
            child.name.removeprefix(_CHECKSUM_ELEMENT).lower(): child.text
            for child in part.children
            if child.name.startswith(_CHECKSUM_ELEMENT)
        },
    )


def _expectation(claim: ClaimedPart, name: str, value: str) -> checksums.Expectation:
    algorithm = checksums.algorithm_named(name)
    mismatch = S3Error("InvalidPart", f"part {claim.number} differs from its checksum")
    return checksums.Expectation(algorithm, checksums.decoded(value, algorithm), mismatch)


def _changed(number: int) -> S3Error:
    return S3Error("InvalidPart", f"part {number} changed while the upload was completed")
