"""The state of multipart uploads, in a bucket that no client can name: it is as durable, and as
shared between workers, as the objects themselves.

    uploads/{bucket}/{upload id}      an UploadRecord: what the object will be
    parts/{upload id}/{number:05}     the bytes of one part
"""

import re
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from freehold.edges.s3.errors import S3Error
from freehold.edges.s3.request import RESERVED_BUCKET_PREFIX
from freehold.kernel import clock, ids
from freehold.kernel.body import BytesBody
from freehold.kernel.errors import NotFound
from freehold.ports.blobs import Blob, Blobs, BucketNotFound

PART_NUMBER_MAX = 10_000

_BUCKET = RESERVED_BUCKET_PREFIX + "freehold-multipart"
_UPLOAD_ID = re.compile(r"[A-Za-z0-9]{32}")
_LISTED_MAX = 1000


class UploadRecord(msgspec.Struct, frozen=True, kw_only=True):
    upload_id: str
    bucket: str
    key: str
    content_type: str
    metadata: dict[str, str]
    started_at: datetime


class Uploads:
    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def begin(
        self, tenant: str, bucket: str, key: str, *, content_type: str, metadata: dict[str, str]
    ) -> UploadRecord:
        await self._blobs.list(tenant, bucket, limit=1)
        record = UploadRecord(
            upload_id=ids.random_text(32),
            bucket=bucket,
            key=key,
            content_type=content_type,
            metadata=metadata,
            started_at=clock.now(),
        )
        await self._blobs.create_bucket(tenant, _BUCKET)
        body = BytesBody(msgspec.json.encode(record))
        await self._blobs.put(tenant, _BUCKET, _record_key(record), body.chunks())
        return record

    async def find(self, tenant: str, bucket: str, key: str, upload_id: str) -> UploadRecord:
        record = None
        if _UPLOAD_ID.fullmatch(upload_id):
            record = await self._read(tenant, f"uploads/{bucket}/{upload_id}")
        if record is None or record.key != key:
            raise S3Error("NoSuchUpload", "the upload does not exist, is complete or was aborted")
        return record

    async def of_bucket(self, tenant: str, bucket: str) -> list[UploadRecord]:
        """The first thousand, by key and then by age."""
        await self._blobs.list(tenant, bucket, limit=1)
        try:
            page = await self._blobs.list(
                tenant, _BUCKET, prefix=f"uploads/{bucket}/", limit=_LISTED_MAX
            )
        except BucketNotFound:
            return []
        found = [await self._read(tenant, blob.key) for blob in page.items]
        records = [record for record in found if record is not None]
        return sorted(records, key=lambda record: (record.key.encode(), record.started_at))

    async def put_part(
        self, tenant: str, record: UploadRecord, number: int, chunks: AsyncIterator[bytes]
    ) -> Blob:
        key = _part_key(record, number)
        part = await self._blobs.put(tenant, _BUCKET, key, chunks)
        try:
            await self.find(tenant, record.bucket, record.key, record.upload_id)
        except S3Error:
            # Aborted or completed while the part came in: nobody would ever remove it.
            await self._blobs.delete(tenant, _BUCKET, key)
            raise
        return part

    async def parts(
        self, tenant: str, record: UploadRecord, *, after: int = 0, limit: int = PART_NUMBER_MAX
    ) -> dict[int, Blob]:
        """By number, in order."""
        parts: dict[int, Blob] = {}
        position = _part_key(record, after)
        while len(parts) < limit:
            page = await self._blobs.list(
                tenant,
                _BUCKET,
                prefix=_parts_prefix(record),
                after=position,
                limit=min(_LISTED_MAX, limit - len(parts)),
            )
            parts |= {int(blob.key.rpartition("/")[2]): blob for blob in page.items}
            if page.next_token is None:
                break
            position = page.next_token
        return parts

    async def read_part(
        self, tenant: str, record: UploadRecord, number: int
    ) -> tuple[Blob, AsyncIterator[bytes]]:
        return await self._blobs.get(tenant, _BUCKET, _part_key(record, number))

    async def forget(self, tenant: str, record: UploadRecord) -> None:
        """The record goes last: while it is there, what is left can be removed again."""
        for number in await self.parts(tenant, record):
            await self._blobs.delete(tenant, _BUCKET, _part_key(record, number))
        await self._blobs.delete(tenant, _BUCKET, _record_key(record))

    async def forget_bucket(self, tenant: str, bucket: str) -> None:
        """Uploads into a bucket end with it."""
        prefix = f"uploads/{bucket}/"
        while True:
            try:
                page = await self._blobs.list(tenant, _BUCKET, prefix=prefix, limit=_LISTED_MAX)
            except BucketNotFound:
                return
            for blob in page.items:
                record = await self._read(tenant, blob.key)
                if record is not None:
                    await self.forget(tenant, record)
            if page.next_token is None:
                return

    async def _read(self, tenant: str, key: str) -> UploadRecord | None:
        try:
            _, chunks = await self._blobs.get(tenant, _BUCKET, key)
        except NotFound:
            return None
        data = b"".join([chunk async for chunk in chunks])
        return msgspec.json.decode(data, type=UploadRecord)


def _record_key(record: UploadRecord) -> str:
    return f"uploads/{record.bucket}/{record.upload_id}"


def _parts_prefix(record: UploadRecord) -> str:
    return f"parts/{record.upload_id}/"


def _part_key(record: UploadRecord, number: int) -> str:
    return f"{_parts_prefix(record)}{number:05}"
