"""One tenant's directory: the index and the files, kept in step. Every method blocks."""

import threading
from datetime import datetime
from pathlib import Path

from freehold.adapters.blobs.files import Files, Writing
from freehold.adapters.blobs.index import Index
from freehold.kernel.errors import PlatformFailed
from freehold.kernel.pages import Page
from freehold.ports.blobs import Blob

_OPEN_ATTEMPTS_MAX = 10


class Shelf:
    """Call ready() before anything else: it sweeps once for each process."""

    def __init__(self, directory: Path) -> None:
        self._index = Index(directory / "index.sqlite3")
        self._files = Files(directory)
        self._lock = threading.Lock()
        self._swept = False

    def ready(self) -> None:
        with self._lock:
            if not self._swept:
                self._files.make_directories()
                self._sweep()
                self._swept = True

    def close(self) -> None:
        """Gives its descriptors back; they return with its next use."""
        self._index.close()

    def create_bucket(self, bucket: str, at: datetime) -> None:
        self._index.create_bucket(bucket, at)

    def buckets(self) -> list[tuple[str, datetime]]:
        return self._index.buckets()

    def delete_bucket(self, bucket: str) -> None:
        self._index.delete_bucket(bucket)

    def begin(self, bucket: str) -> Writing:
        self._index.require_bucket(bucket)
        return self._files.begin()

    def publish(self, writing: Writing, blob: Blob, overwrite: bool) -> None:
        replaced: list[str | None] = []
        writing.finish(
            lambda: replaced.append(self._index.publish(blob, writing.file, overwrite=overwrite))
        )
        for file in replaced:
            self._unlink(file)

    def head(self, bucket: str, key: str) -> Blob:
        return self._index.find(bucket, key)[0]

    def open(self, bucket: str, key: str) -> tuple[Blob, int]:
        """The blob and a descriptor of its bytes: they stay while it is open."""
        missing = ""
        for _ in range(_OPEN_ATTEMPTS_MAX):
            blob, file = self._index.find(bucket, key)
            if file == missing:
                break
            try:
                return blob, self._files.open(file)
            except FileNotFoundError:
                # Replaced or deleted since the index was read. The same file twice is damage.
                missing = file
        raise PlatformFailed("the bytes of this object are missing")

    def remove(self, bucket: str, key: str) -> None:
        self._unlink(self._index.remove(bucket, key))

    def page(self, bucket: str, prefix: str, after: str, limit: int) -> Page[Blob]:
        blobs = self._index.page(bucket, prefix=prefix, after=after, limit=limit + 1)
        if len(blobs) <= limit:
            return Page(blobs)
        del blobs[limit:]
        return Page(blobs, blobs[-1].key)

    def _unlink(self, file: str | None) -> None:
        if file is not None:
            self._files.unlink(file)
            self._index.unlinked([file])

    def _sweep(self) -> None:
        self._files.sweep(self._index.uses)
        for file in self._index.dropped():
            self._unlink(file)
