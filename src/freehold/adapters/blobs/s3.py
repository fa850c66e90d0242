"""Blobs in one bucket of any S3 server: `{prefix}{tenant}/{bucket}/{key}`.

An object with an empty key, `{prefix}{tenant}/{bucket}/`, says that the bucket exists.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from freehold.adapters.blobs.batches import batches
from freehold.adapters.blobs.names import KEY_BYTES_MAX, check_bucket, check_tenant, encode_key
from freehold.adapters.blobs.s3_errors import RangeNotThere, translated
from freehold.adapters.blobs.s3_metadata import base64_md5, blob_of, to_s3
from freehold.adapters.blobs.s3_spool import Spooled
from freehold.kernel import clock
from freehold.kernel.errors import Conflict, NotFound, ValidationFailed
from freehold.kernel.pages import Page
from freehold.ports.blobs import Blob, BucketNotFound

T = TypeVar("T")

_THREADS = 16
_READ_BYTES = 512 * 1024
_PAGE_ITEMS_MAX = 1000
_SINGLE_PUT_BYTES_MAX = 5 << 30


class S3Blobs:
    """Credentials that are None come from boto3's own chain. `spool_directory` (None: the
    system's) holds what is being put: S3 wants its length, and we its MD5, before the first byte
    goes out.

    An upload of more than `single_put_bytes_max` goes in parts. What it does not promise: a put
    that races a delete_bucket may leave its object behind, unseen until the bucket is made again.
    """

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str = "",
        spool_directory: str | os.PathLike[str] | None = None,
        region: str | None = None,
        endpoint: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        threads: int = _THREADS,
        single_put_bytes_max: int = _SINGLE_PUT_BYTES_MAX,
    ) -> None:
        self._prefix = prefix
        self._place = {"Bucket": bucket}
        self._spool_directory = os.fspath(spool_directory) if spool_directory else None
        self._single_put_bytes_max = single_put_bytes_max
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="s3-blobs")
        self._s3: Any = boto3.session.Session().client(
            "s3",
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key,
            config=Config(
                max_pool_connections=threads,
                retries={"mode": "standard", "total_max_attempts": 4},
                # Content-MD5 is understood by every S3 server, newer checksums are not.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                # A server of one's own has no name for each bucket.
                s3={"addressing_style": "path"} if endpoint else {},
            ),
        )

    async def start(self) -> None:
        """Raises Unavailable or PlatformFailed where the configured bucket cannot be reached."""
        await self._call(self._s3.head_bucket)

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)
        self._s3.close()

    async def create_bucket(self, tenant: str, bucket: str) -> None:
        check_bucket(bucket)
        if not await self._has_bucket(tenant, bucket):
            await self._call(self._s3.put_object, Key=self._root(tenant, bucket), Body=b"")

    async def buckets(self, tenant: str) -> list[tuple[str, datetime]]:
        return await self._in_thread(lambda: self._buckets(tenant))

    def _buckets(self, tenant: str) -> list[tuple[str, datetime]]:
        home = self._home(tenant)
        found = []
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            **self._place, Prefix=home, Delimiter="/"
        )
        with translated():
            for page in pages:
                for common in page.get("CommonPrefixes", ()):
                    root = common["Prefix"]
                    try:
                        with translated():
                            marker = self._s3.head_object(**self._place, Key=root)
                    except NotFound:
                        continue
                    found.append((root[len(home) : -1], marker["LastModified"]))
        # `ant.b/` comes before `ant/`, but `ant` before `ant.b`.
        return sorted(found)

    async def delete_bucket(self, tenant: str, bucket: str) -> None:
        if (await self.list(tenant, bucket, limit=1)).items:
            raise Conflict("the bucket is not empty")
        await self._call(self._s3.delete_object, Key=self._root(tenant, bucket))

    async def put(
        self,
        tenant: str,
        bucket: str,
        key: str,
        chunks: AsyncIterator[bytes],
        *,
        content_type: str = "application/octet-stream",
        metadata: dict[str, str] | None = None,
        etag: str | None = None,
        overwrite: bool = True,
    ) -> Blob:
        name = self._name(tenant, bucket, key)
        await self._require_bucket(tenant, bucket)
        with closing(Spooled(self._spool_directory)) as spooled:
            async for batch in batches(chunks):
                await self._in_thread(partial(spooled.write, batch))
            etag = etag or spooled.md5
            parameters = to_s3(content_type, metadata or {}, etag, spooled.md5)
            condition = {} if overwrite else {"IfNoneMatch": "*"}
            if spooled.size_bytes <= self._single_put_bytes_max:
                spooled.file.seek(0)
                await self._call(
                    self._s3.put_object,
                    Key=name,
                    Body=spooled.file,
                    ContentMD5=base64_md5(spooled.md5),
                    **parameters,
                    **condition,
                )
            else:
                # In parts, S3's own ETag is not the MD5.
                parameters = to_s3(content_type, metadata or {}, etag, "")
                await self._in_thread(lambda: self._put_parts(name, spooled, parameters, condition))
            return Blob(
                bucket=bucket,
                key=key,
                size_bytes=spooled.size_bytes,
                etag=etag,
                content_type=content_type,
                modified_at=clock.now().replace(microsecond=0),
                metadata=metadata or {},
            )

    async def head(self, tenant: str, bucket: str, key: str) -> Blob:
        name = self._name(tenant, bucket, key)
        try:
            response = await self._call(self._s3.head_object, Key=name)
        except NotFound:
            await self._require_bucket(tenant, bucket)
            raise
        return blob_of(bucket, key, response, response["ContentLength"])

    async def get(
        self, tenant: str, bucket: str, key: str, *, start: int = 0, end: int | None = None
    ) -> tuple[Blob, AsyncIterator[bytes]]:
        name = self._name(tenant, bucket, key)
        if end is not None and end <= start:
            return await self.head(tenant, bucket, key), _nothing()
        wanted = {}
        if start or end is not None:
            wanted = {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        try:
            response = await self._call(self._s3.get_object, Key=name, **wanted)
        except RangeNotThere:
            return await self.head(tenant, bucket, key), _nothing()
        except NotFound:
            await self._require_bucket(tenant, bucket)
            raise
        size_bytes = response["ContentLength"]
        if "ContentRange" in response:
            size_bytes = int(response["ContentRange"].rpartition("/")[2])
        return blob_of(bucket, key, response, size_bytes), self._stream(response["Body"])

    async def delete(self, tenant: str, bucket: str, key: str) -> None:
        name = self._name(tenant, bucket, key)
        await self._require_bucket(tenant, bucket)
        await self._call(self._s3.delete_object, Key=name)

    async def list(
        self, tenant: str, bucket: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Page[Blob]:
        root = self._root(tenant, bucket)
        response = await self._call(
            self._s3.list_objects_v2,
            Prefix=root + prefix,
            # The bucket's own marker is the first name there is.
            StartAfter=root + after,
            MaxKeys=min(limit, _PAGE_ITEMS_MAX),
        )
        blobs = [_listed(bucket, root, found) for found in response.get("Contents", ())]
        if not blobs:
            await self._require_bucket(tenant, bucket)
        return Page(blobs, blobs[-1].key if response["IsTruncated"] and blobs else None)

    def _put_parts(
        self,
        name: str,
        spooled: Spooled,
        parameters: dict[str, Any],
        condition: dict[str, str],
    ) -> None:
        place = {**self._place, "Key": name}
        with translated():
            place["UploadId"] = self._s3.create_multipart_upload(**place, **parameters)["UploadId"]
            try:
                parts = [
                    {"PartNumber": number, "ETag": self._put_part(place, number, part)}
                    for number, part in enumerate(spooled.parts(), 1)
                ]
                self._s3.complete_multipart_upload(
                    **place, MultipartUpload={"Parts": parts}, **condition
                )
            except BaseException:
                self._s3.abort_multipart_upload(**place)
                raise

    def _put_part(self, place: dict[str, str], number: int, part: bytes) -> str:
        md5 = hashlib.md5(part, usedforsecurity=False).hexdigest()
        etag: str = self._s3.upload_part(
            **place, PartNumber=number, Body=part, ContentMD5=base64_md5(md5)
        )["ETag"]
        return etag

    async def _stream(self, body: Any) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._in_thread(partial(body.read, _READ_BYTES)):
                yield chunk
        finally:
            body.close()

    async def _require_bucket(self, tenant: str, bucket: str) -> None:
        if not await self._has_bucket(tenant, bucket):
            raise BucketNotFound("no such bucket")

    async def _has_bucket(self, tenant: str, bucket: str) -> bool:
        try:
            await self._call(self._s3.head_object, Key=self._root(tenant, bucket))
        except NotFound:
            return False
        return True

    async def _call(self, operation: Callable[..., T], **parameters: Any) -> T:
        return await self._in_thread(partial(operation, **self._place, **parameters))

    async def _in_thread(self, act: Callable[[], T]) -> T:
        with translated():
            return await asyncio.get_running_loop().run_in_executor(self._pool, act)

    def _home(self, tenant: str) -> str:
        check_tenant(tenant)
        return f"{self._prefix}{tenant}/"

    def _root(self, tenant: str, bucket: str) -> str:
        return f"{self._home(tenant)}{bucket}/"

    def _name(self, tenant: str, bucket: str, key: str) -> str:
        """S3's own limit is that of our keys: what stands in front of a key shortens it."""
        name = self._root(tenant, bucket) + key
        if len(encode_key(key)) + len(name) - len(key) > KEY_BYTES_MAX:
            raise ValidationFailed("the key is too long for this object store")
        return name


def _listed(bucket: str, root: str, found: dict[str, Any]) -> Blob:
    return Blob(
        bucket=bucket,
        key=found["Key"].removeprefix(root),
        size_bytes=found["Size"],
        etag=found["ETag"].strip('"'),
        content_type="",
        modified_at=found["LastModified"],
    )


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in list[bytes]():
        yield chunk
