"""Blobs in a directory of one machine, shared by any number of processes on it.

`{directory}/{tenant}/index.sqlite3` says what exists; the bytes lie in files beside it, under
random names. Why so: docs/decisions/0005-blobs.md.
"""

import asyncio
import errno
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from freehold.adapters.blobs.batches import batches
from freehold.adapters.blobs.files import Writing
from freehold.adapters.blobs.names import check_bucket, check_tenant, encode_key
from freehold.adapters.blobs.reading import Reading
from freehold.adapters.blobs.shelf import Shelf
from freehold.kernel import clock
from freehold.kernel.errors import Unavailable
from freehold.kernel.pages import Page
from freehold.ports.blobs import Blob

T = TypeVar("T")

_THREADS = 8
_OPEN_TENANTS_MAX = 64
_FULL = (errno.ENOSPC, errno.EDQUOT)


class FilesystemBlobs:
    """`threads` bounds how many of its disk operations run at once."""

    def __init__(self, directory: str | os.PathLike[str], *, threads: int = _THREADS) -> None:
        self._directory = Path(directory)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="blobs")
        self._shelves: dict[str, Shelf] = {}
        self._recent: OrderedDict[str, Shelf] = OrderedDict()
        self._lock = threading.Lock()

    async def start(self) -> None:
        """Sweeps every tenant. Without it a tenant is swept at its first use."""
        await self._disk(self._sweep_all)

    async def close(self) -> None:
        """Waits for the disk operations that have begun."""
        await asyncio.to_thread(self._pool.shutdown)
        for shelf in self._shelves.values():
            shelf.close()

    async def create_bucket(self, tenant: str, bucket: str) -> None:
        check_bucket(bucket)
        await self._disk(lambda: self._shelf(tenant).create_bucket(bucket, clock.now()))

    async def buckets(self, tenant: str) -> list[tuple[str, datetime]]:
        return await self._disk(lambda: self._shelf(tenant).buckets())

    async def delete_bucket(self, tenant: str, bucket: str) -> None:
        await self._disk(lambda: self._shelf(tenant).delete_bucket(bucket))

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
        encode_key(key)
        shelf, writing = await self._disk(lambda: self._begin(tenant, bucket))
        try:
            await self._receive(writing, chunks)
            blob = Blob(
                bucket=bucket,
                key=key,
                size_bytes=writing.size_bytes,
                etag=etag or writing.md5,
                content_type=content_type,
                modified_at=clock.now(),
                metadata=metadata or {},
            )
            await self._disk(lambda: shelf.publish(writing, blob, overwrite))
        finally:
            # Shielded: a cancelled upload must not leave its half behind.
            await asyncio.shield(self._disk(writing.done))
        return blob

    async def head(self, tenant: str, bucket: str, key: str) -> Blob:
        return await self._disk(lambda: self._shelf(tenant).head(bucket, key))

    async def get(
        self, tenant: str, bucket: str, key: str, *, start: int = 0, end: int | None = None
    ) -> tuple[Blob, AsyncIterator[bytes]]:
        return await self._disk(lambda: self._open(tenant, bucket, key, start, end))

    async def delete(self, tenant: str, bucket: str, key: str) -> None:
        await self._disk(lambda: self._shelf(tenant).remove(bucket, key))

    async def list(
        self, tenant: str, bucket: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Page[Blob]:
        return await self._disk(lambda: self._shelf(tenant).page(bucket, prefix, after, limit))

    async def _disk(self, act: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, act)
        except OSError as error:
            if error.errno in _FULL:
                raise Unavailable("the disk is full") from error
            raise
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise Unavailable("the disk is full") from error
            raise

    async def _receive(self, writing: Writing, chunks: AsyncIterator[bytes]) -> None:
        """While a thread writes and hashes one batch, the next one comes in."""
        written: asyncio.Future[None] | None = None
        try:
            async for batch in batches(chunks):
                if written is not None:
                    await written
                written = asyncio.ensure_future(self._disk(partial(writing.write, batch)))
        finally:
            if written is not None:
                await written

    def _begin(self, tenant: str, bucket: str) -> tuple[Shelf, Writing]:
        shelf = self._shelf(tenant)
        return shelf, shelf.begin(bucket)

    def _open(
        self, tenant: str, bucket: str, key: str, start: int, end: int | None
    ) -> tuple[Blob, Reading]:
        blob, descriptor = self._shelf(tenant).open(bucket, key)
        size = blob.size_bytes
        stop = size if end is None else min(end, size)
        return blob, Reading(descriptor, start, stop, self._pool)

    def _shelf(self, tenant: str) -> Shelf:
        """The tenant's, ready. Those used least give their descriptors back beyond a limit."""
        check_tenant(tenant)
        idle: list[Shelf] = []
        with self._lock:
            shelf = self._shelves.get(tenant)
            if shelf is None:
                shelf = self._shelves[tenant] = Shelf(self._directory / tenant)
            self._recent[tenant] = shelf
            self._recent.move_to_end(tenant)
            while len(self._recent) > _OPEN_TENANTS_MAX:
                idle.append(self._recent.popitem(last=False)[1])
        for other in idle:
            other.close()
        shelf.ready()
        return shelf

    def _sweep_all(self) -> None:
        if self._directory.is_dir():
            for path in self._directory.iterdir():
                self._shelf(path.name)
