"""Object storage: buckets of named bytes, per tenant."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

import msgspec

from freehold.kernel.errors import NotFound
from freehold.kernel.pages import Page


class BucketNotFound(NotFound):
    """The bucket itself is absent, not only a key in it."""


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """`etag` as S3 gives it: MD5 hex, or `{md5 of md5s}-{parts}` after a multipart upload."""

    bucket: str
    key: str
    size_bytes: int
    etag: str
    content_type: str
    modified_at: datetime
    metadata: dict[str, str] = {}


class Blobs(Protocol):
    """A blob appears whole or not at all. Absent bucket or key: NotFound."""

    async def create_bucket(self, tenant: str, bucket: str) -> None:
        """Does nothing where the tenant has it already. ValidationFailed for a bad name."""

    async def buckets(self, tenant: str) -> list[tuple[str, datetime]]: ...

    async def delete_bucket(self, tenant: str, bucket: str) -> None:
        """Conflict while anything is in it."""

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
        """Durable when it returns; stores nothing when `chunks` raises.

        `etag` overrides the MD5 (multipart). Without `overwrite`: Conflict if the key is there.
        """

    async def head(self, tenant: str, bucket: str, key: str) -> Blob: ...

    async def get(
        self, tenant: str, bucket: str, key: str, *, start: int = 0, end: int | None = None
    ) -> tuple[Blob, AsyncIterator[bytes]]:
        """Bytes `start` to `end` (exclusive; None: the last), streamed."""

    async def delete(self, tenant: str, bucket: str, key: str) -> None:
        """Does nothing where the key is absent."""

    async def list(
        self, tenant: str, bucket: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Page[Blob]:
        """In the order of the keys' UTF-8 bytes, strictly after `after`.

        `next_token` is the next page's `after`. Content type, metadata and an overridden etag
        may be missing from a listed blob: head() has them.
        """
