"""Operations on whole objects."""

from collections.abc import AsyncIterator
from urllib.parse import unquote

from freehold.edges.s3.documents import (
    Element,
    document,
    group,
    read_document,
    text,
    timestamp,
)
from freehold.edges.s3.errors import S3Error, as_s3_error, not_implemented
from freehold.edges.s3.object_headers import (
    CONTENT_TYPE_DEFAULT,
    check_conditions,
    checksums_of,
    may_overwrite,
    of_blob,
    read_range,
    to_metadata,
)
from freehold.edges.s3.request import Answer, LateAnswer, Request, check_bucket, xml
from freehold.kernel.errors import Conflict, FreeholdError, Unavailable
from freehold.ports.blobs import Blob, Blobs, BucketNotFound

_DELETED_MAX = 1000
_READ_ATTEMPTS_MAX = 5


class Objects:
    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def put(self, request: Request) -> Answer:
        upload = request.upload
        if upload.size_bytes is None:
            raise S3Error("MissingContentLength", "the header Content-Length is missing")
        blob = await self._write(
            request, upload.chunks(), to_metadata(request.headers, upload.declared_checksums)
        )
        return Answer(headers={"etag": f'"{blob.etag}"', **upload.checksums})

    async def get(self, request: Request) -> Answer:
        blob, span, chunks = await self._read(request)
        check_conditions(request.headers, blob)
        headers = of_blob(blob, request.headers, request.query)
        if span is None:
            return Answer(200, headers | {"content-length": str(blob.size_bytes)}, chunks)
        return Answer(206, headers | _of_range(span, blob), chunks)

    async def head(self, request: Request) -> Answer:
        blob = await self._blobs.head(request.tenant, request.bucket, request.key)
        check_conditions(request.headers, blob)
        headers = of_blob(blob, request.headers, request.query)
        span = read_range(request.headers.get("range"), blob.size_bytes)
        if span is None:
            return Answer(200, headers | {"content-length": str(blob.size_bytes)})
        return Answer(206, headers | _of_range(span, blob))

    async def delete(self, request: Request) -> Answer:
        if "if-match" in request.headers:
            raise not_implemented("If-Match on DeleteObject")
        await self._blobs.delete(request.tenant, request.bucket, request.key)
        return Answer(204)

    async def delete_many(self, request: Request) -> Answer:
        root = await read_document(request.upload, "Delete")
        objects = list(root.all("Object"))
        if not 1 <= len(objects) <= _DELETED_MAX:
            raise S3Error("MalformedXML", f"1 to {_DELETED_MAX} objects are deleted at once")
        await self._blobs.list(request.tenant, request.bucket, limit=1)
        quiet = root.get("Quiet") == "true"
        results = [await self._delete_one(request, found) for found in objects]
        kept = [one for one in results if not (quiet and one.startswith("<Deleted>"))]
        return xml(document("DeleteResult", *kept))

    async def copy(self, request: Request) -> LateAnswer:
        bucket, key = copy_source(request)
        replace = _directive(request) == "REPLACE"
        if (bucket, key) == (request.bucket, request.key) and not replace:
            raise S3Error("InvalidRequest", "a copy onto itself must replace the metadata")
        blob, chunks = await self._blobs.get(request.tenant, bucket, key)
        check_conditions(request.headers, blob, copying=True)

        async def copied() -> bytes:
            if replace:
                metadata = to_metadata(request.headers, checksums_of(blob))
                copy = await self._write(request, chunks, metadata)
            else:
                copy = await self._write(
                    request, chunks, blob.metadata, content_type=blob.content_type
                )
            return document(
                "CopyObjectResult",
                timestamp("LastModified", copy.modified_at),
                text("ETag", f'"{copy.etag}"'),
            )

        return LateAnswer(copied())

    async def _write(
        self,
        request: Request,
        chunks: AsyncIterator[bytes],
        metadata: dict[str, str],
        *,
        content_type: str = "",
    ) -> Blob:
        overwrite = may_overwrite(request.headers)
        content_type = content_type or request.headers.get("content-type", "")
        try:
            return await self._blobs.put(
                request.tenant,
                request.bucket,
                request.key,
                chunks,
                content_type=content_type or CONTENT_TYPE_DEFAULT,
                metadata=metadata,
                overwrite=overwrite,
            )
        except Conflict as error:
            raise exists_already() from error

    async def _read(
        self, request: Request
    ) -> tuple[Blob, tuple[int, int] | None, AsyncIterator[bytes]]:
        """A range needs the size first; the object that is then opened must be the same."""
        place = request.tenant, request.bucket, request.key
        if "range" not in request.headers:
            blob, chunks = await self._blobs.get(*place)
            return blob, None, chunks
        for _ in range(_READ_ATTEMPTS_MAX):
            seen = await self._blobs.head(*place)
            check_conditions(request.headers, seen)
            span = read_range(request.headers["range"], seen.size_bytes)
            start, end = span or (0, seen.size_bytes)
            blob, chunks = await self._blobs.get(*place, start=start, end=end)
            if (blob.etag, blob.modified_at) == (seen.etag, seen.modified_at):
                return blob, span, chunks
        raise Unavailable("the object is being written again and again")

    async def _delete_one(self, request: Request, found: Element) -> str:
        key = found.get("Key") or ""
        extra = next((child.name for child in found.children if child.name != "Key"), None)
        try:
            if extra is not None:
                raise not_implemented(f"{extra[:32]} in DeleteObjects")
            await self._blobs.delete(request.tenant, request.bucket, key)
        except BucketNotFound:
            raise
        except FreeholdError as error:
            refused = as_s3_error(error)
            parts = text("Key", key), text("Code", refused.code), text("Message", refused.message)
            return group("Error", *parts)
        return group("Deleted", text("Key", key))


def exists_already() -> S3Error:
    return S3Error("PreconditionFailed", "the key is there already", Condition="If-None-Match")


def copy_source(request: Request) -> tuple[str, str]:
    """Bucket and key that x-amz-copy-source names; they are of the caller's own tenant."""
    path, _, version = request.headers["x-amz-copy-source"].partition("?")
    if version:
        raise not_implemented("versions of objects")
    try:
        bucket, _, key = unquote(path, errors="strict").removeprefix("/").partition("/")
    except UnicodeDecodeError as error:
        raise S3Error("InvalidArgument", "the copy source is not UTF-8") from error
    if not bucket or not key:
        raise S3Error("InvalidArgument", "the copy source is bucket/key")
    check_bucket(bucket)
    return bucket, key


def _directive(request: Request) -> str:
    directive = request.headers.get("x-amz-metadata-directive", "COPY")
    if directive not in ("COPY", "REPLACE"):
        raise S3Error("InvalidArgument", "the metadata directive is COPY or REPLACE")
    return directive


def _of_range(span: tuple[int, int], blob: Blob) -> dict[str, str]:
    start, end = span
    return {
        "content-length": str(end - start),
        "content-range": f"bytes {start}-{end - 1}/{blob.size_bytes}",
    }
