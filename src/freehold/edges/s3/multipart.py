"""The operations of multipart uploads."""

from freehold.edges.s3.assembly import Assembly, ClaimedPart, read_claims
from freehold.edges.s3.checksums import algorithm_named
from freehold.edges.s3.documents import document, group, owner, text, timestamp
from freehold.edges.s3.errors import S3Error
from freehold.edges.s3.object_headers import (
    CONTENT_TYPE_DEFAULT,
    check_conditions,
    may_overwrite,
    read_range,
    to_metadata,
)
from freehold.edges.s3.objects import copy_source, exists_already
from freehold.edges.s3.request import Answer, LateAnswer, Request, xml
from freehold.edges.s3.uploads import PART_NUMBER_MAX, UploadRecord, Uploads
from freehold.kernel.errors import Conflict, NotFound
from freehold.ports.blobs import Blob, Blobs

_LISTED_MAX = 1000
# S3's own limits; the last part may be smaller.
_PART_BYTES_MIN = 5 << 20


class Multipart:
    def __init__(self, blobs: Blobs, uploads: Uploads, *, object_bytes_max: int) -> None:
        self._blobs = blobs
        self._uploads = uploads
        self._object_bytes_max = object_bytes_max

    async def create(self, request: Request) -> Answer:
        headers = {}
        algorithm = request.headers.get("x-amz-checksum-algorithm")
        if algorithm:
            algorithm_named(algorithm)
            headers["x-amz-checksum-algorithm"] = algorithm.upper()
        record = await self._uploads.begin(
            request.tenant,
            request.bucket,
            request.key,
            content_type=request.headers.get("content-type") or CONTENT_TYPE_DEFAULT,
            metadata=to_metadata(request.headers, {}),
        )
        answer = xml(document("InitiateMultipartUploadResult", *_named(record), _upload_id(record)))
        answer.headers |= headers
        return answer

    async def upload_part(self, request: Request) -> Answer:
        number, record = _part_number(request), await self._record(request)
        upload = request.upload
        if upload.size_bytes is None:
            raise S3Error("MissingContentLength", "the header Content-Length is missing")
        part = await self._uploads.put_part(request.tenant, record, number, upload.chunks())
        return Answer(headers={"etag": f'"{part.etag}"', **upload.checksums})

    async def copy_part(self, request: Request) -> LateAnswer:
        number, record = _part_number(request), await self._record(request)
        bucket, key = copy_source(request)
        source = await self._blobs.head(request.tenant, bucket, key)
        check_conditions(request.headers, source, copying=True)
        wanted = request.headers.get("x-amz-copy-source-range")
        span = read_range(wanted, source.size_bytes)
        if wanted and span is None:
            raise S3Error("InvalidArgument", "the range of a copied part is bytes=first-last")
        start, end = span or (0, source.size_bytes)
        blob, chunks = await self._blobs.get(request.tenant, bucket, key, start=start, end=end)
        if blob.etag != source.etag:
            raise S3Error("PreconditionFailed", "the source changed while it was being copied")

        async def copied() -> bytes:
            part = await self._uploads.put_part(request.tenant, record, number, chunks)
            return document(
                "CopyPartResult",
                timestamp("LastModified", part.modified_at),
                text("ETag", f'"{part.etag}"'),
            )

        return LateAnswer(copied())

    async def complete(self, request: Request) -> Answer | LateAnswer:
        claims = await read_claims(request.upload)
        try:
            record = await self._record(request)
            parts = await self._claimed(request, record, claims)
        except S3Error:
            # A retry of what was done already, its answer lost, must not look like a failure.
            etag = Assembly.etag(claims)
            if await self._has_etag(request, etag):
                return xml(_completed(request, etag))
            raise
        self._check_sizes(request, parts)
        overwrite = may_overwrite(request.headers)
        assembly = Assembly(self._uploads, request.tenant, record, claims, request.headers)

        async def completed() -> bytes:
            try:
                blob = await self._blobs.put(
                    request.tenant,
                    request.bucket,
                    request.key,
                    assembly.chunks(),
                    content_type=record.content_type,
                    metadata=record.metadata,
                    etag=Assembly.etag(claims),
                    overwrite=overwrite,
                )
            except Conflict as error:
                raise exists_already() from error
            await self._uploads.forget(request.tenant, record)
            return _completed(request, blob.etag)

        return LateAnswer(completed())

    async def abort(self, request: Request) -> Answer:
        await self._uploads.forget(request.tenant, await self._record(request))
        return Answer(204)

    async def list_parts(self, request: Request) -> Answer:
        record = await self._record(request)
        after = request.number("part-number-marker", default=0, most=PART_NUMBER_MAX)
        most = request.number("max-parts", default=_LISTED_MAX, most=_LISTED_MAX)
        found = await self._uploads.parts(request.tenant, record, after=after, limit=most + 1)
        shown = list(found.items())[:most]
        parts = [
            text("PartNumberMarker", after),
            text("NextPartNumberMarker", shown[-1][0] if shown else after),
            text("MaxParts", most),
            text("IsTruncated", "true" if len(found) > most else "false"),
            owner("Initiator", request.tenant),
            owner("Owner", request.tenant),
            text("StorageClass", "STANDARD"),
        ]
        for number, blob in shown:
            parts.append(
                group(
                    "Part",
                    text("PartNumber", number),
                    timestamp("LastModified", blob.modified_at),
                    text("ETag", f'"{blob.etag}"'),
                    text("Size", blob.size_bytes),
                )
            )
        return xml(document("ListPartsResult", *_named(record), _upload_id(record), *parts))

    async def list_uploads(self, request: Request) -> Answer:
        prefix = request.query.get("prefix", "")
        most = request.number("max-uploads", default=_LISTED_MAX, most=_LISTED_MAX)
        found = [
            record
            for record in await self._uploads.of_bucket(request.tenant, request.bucket)
            if record.key.startswith(prefix)
        ]
        parts = [
            text("Bucket", request.bucket),
            text("Prefix", request.written(prefix)),
            text("MaxUploads", most),
            text("IsTruncated", "true" if len(found) > most else "false"),
        ]
        if "encoding-type" in request.query:
            parts.append(text("EncodingType", request.query["encoding-type"]))
        for record in found[:most]:
            parts.append(
                group(
                    "Upload",
                    text("Key", request.written(record.key)),
                    _upload_id(record),
                    owner("Initiator", request.tenant),
                    owner("Owner", request.tenant),
                    text("StorageClass", "STANDARD"),
                    timestamp("Initiated", record.started_at),
                )
            )
        return xml(document("ListMultipartUploadsResult", *parts))

    async def _record(self, request: Request) -> UploadRecord:
        return await self._uploads.find(
            request.tenant, request.bucket, request.key, request.query["uploadId"]
        )

    async def _claimed(
        self, request: Request, record: UploadRecord, claims: list[ClaimedPart]
    ) -> list[Blob]:
        parts = await self._uploads.parts(request.tenant, record)
        for claim in claims:
            part = parts.get(claim.number)
            if part is None or part.etag != claim.etag:
                raise S3Error("InvalidPart", f"part {claim.number} is not there, or another one")
        return [parts[claim.number] for claim in claims]

    def _check_sizes(self, request: Request, parts: list[Blob]) -> None:
        for part in parts[:-1]:
            if part.size_bytes < _PART_BYTES_MIN:
                raise S3Error("EntityTooSmall", f"a part has at least {_PART_BYTES_MIN} bytes")
        total = sum(part.size_bytes for part in parts)
        if total > self._object_bytes_max:
            raise S3Error("EntityTooLarge", f"an object has at most {self._object_bytes_max} bytes")
        if request.headers.get("x-amz-mp-object-size", str(total)) != str(total):
            raise S3Error("InvalidRequest", f"the parts have {total} bytes together")

    async def _has_etag(self, request: Request, etag: str) -> bool:
        try:
            blob = await self._blobs.head(request.tenant, request.bucket, request.key)
        except NotFound:
            return False
        return blob.etag == etag


def _part_number(request: Request) -> int:
    number = request.number("partNumber", default=0, most=PART_NUMBER_MAX + 1)
    if not 1 <= number <= PART_NUMBER_MAX:
        raise S3Error("InvalidArgument", f"a part's number is from 1 to {PART_NUMBER_MAX}")
    return number


def _named(record: UploadRecord) -> list[str]:
    return [text("Bucket", record.bucket), text("Key", record.key)]


def _upload_id(record: UploadRecord) -> str:
    return text("UploadId", record.upload_id)


def _completed(request: Request, etag: str) -> bytes:
    return document(
        "CompleteMultipartUploadResult",
        text("Location", f"/{request.bucket}/{request.key}"),
        text("Bucket", request.bucket),
        text("Key", request.key),
        text("ETag", f'"{etag}"'),
    )
