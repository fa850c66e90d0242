"""What one tenant's directory holds: an SQLite database beside the files.

A blob exists when, and only when, its row here is committed. Every method blocks and may be called
from any thread; several processes may share one index.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from freehold.adapters.blobs.names import encode_key
from freehold.kernel.errors import Conflict, NotFound
from freehold.ports.blobs import Blob, BucketNotFound

_BUSY_SECONDS_MAX = 30.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Keys are BLOBs: SQLite compares those byte by byte. `file` is unique so that a sweep can ask
# whether a file is in use without reading the table.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, created_us INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS objects (
  bucket TEXT NOT NULL REFERENCES buckets (name),
  key BLOB NOT NULL,
  file TEXT NOT NULL UNIQUE,
  size_bytes INTEGER NOT NULL,
  etag TEXT NOT NULL,
  content_type TEXT NOT NULL,
  modified_us INTEGER NOT NULL,
  metadata TEXT NOT NULL,
  UNIQUE (bucket, key)
) STRICT;
CREATE TABLE IF NOT EXISTS dropped (file TEXT PRIMARY KEY) STRICT;
"""
_COLUMNS = "bucket, key, size_bytes, etag, content_type, modified_us, metadata, file"


class Index:
    """Reading and writing have a connection each, so that no reader waits for a commit's fsync."""

    def __init__(self, path: Path) -> None:
        self._reading = _Lane(path)
        self._writing = _Lane(path)
        self._unlinked: list[str] = []

    def close(self) -> None:
        """Connections come back by themselves when the index is used again."""
        self._reading.close()
        self._writing.close()

    def create_bucket(self, bucket: str, at: datetime) -> None:
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO buckets VALUES (?, ?) ON CONFLICT DO NOTHING",
                (bucket, _microseconds(at)),
            )

    def buckets(self) -> list[tuple[str, datetime]]:
        with self._reading.connection() as connection:
            rows = connection.execute("SELECT name, created_us FROM buckets ORDER BY name")
            return [(name, _moment(created)) for name, created in rows]

    def delete_bucket(self, bucket: str) -> None:
        with self._transaction() as connection:
            _require_bucket(connection, bucket)
            if connection.execute(
                "SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (bucket,)
            ).fetchone():
                raise Conflict("the bucket is not empty")
            connection.execute("DELETE FROM buckets WHERE name = ?", (bucket,))

    def require_bucket(self, bucket: str) -> None:
        with self._reading.connection() as connection:
            _require_bucket(connection, bucket)

    def publish(self, blob: Blob, file: str, *, overwrite: bool) -> str | None:
        """Makes the file visible as the blob. Returns the file that it replaces, to be unlinked."""
        key = encode_key(blob.key)
        with self._transaction() as connection:
            _require_bucket(connection, blob.bucket)
            replaced = _drop(connection, blob.bucket, key)
            if replaced is not None and not overwrite:
                raise Conflict("the key is there already")
            connection.execute(
                f"INSERT INTO objects ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant
                (
                    blob.bucket,
                    key,
                    blob.size_bytes,
                    blob.etag,
                    blob.content_type,
                    _microseconds(blob.modified_at),
                    json.dumps(blob.metadata),
                    file,
                ),
            )
        return replaced

    def remove(self, bucket: str, key: str) -> str | None:
        """Returns the file to be unlinked."""
        with self._transaction() as connection:
            _require_bucket(connection, bucket)
            return _drop(connection, bucket, encode_key(key))

    def find(self, bucket: str, key: str) -> tuple[Blob, str]:
        with self._reading.connection() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM objects WHERE bucket = ? AND key = ?",  # noqa: S608 - a constant
                (bucket, encode_key(key)),
            ).fetchone()
            if row is None:
                _require_bucket(connection, bucket)
                raise NotFound("no such key")
        return _blob(row), row[-1]

    def page(self, bucket: str, *, prefix: str, after: str, limit: int) -> list[Blob]:
        low = prefix.encode()
        above = after.encode()
        where, bounds = "bucket = ? AND key > ? AND key >= ?", [bucket, above, low]
        if low:
            # No UTF-8 byte is 0xFF: the last one can always be raised.
            where += " AND key < ?"
            bounds.append(low[:-1] + bytes([low[-1] + 1]))
        with self._reading.connection() as connection:
            _require_bucket(connection, bucket)
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM objects WHERE {where} ORDER BY key LIMIT ?",  # noqa: S608 - constants
                (*bounds, limit),
            ).fetchall()
        return [_blob(row) for row in rows]

    def uses(self, file: str) -> bool:
        with self._reading.connection() as connection:
            found = connection.execute("SELECT 1 FROM objects WHERE file = ?", (file,)).fetchone()
        return found is not None

    def dropped(self) -> list[str]:
        """Files that no blob uses any more, but that may still be on disk after a crash."""
        with self._reading.connection() as connection:
            return [file for (file,) in connection.execute("SELECT file FROM dropped")]

    def unlinked(self, files: list[str]) -> None:
        """Forgets dropped files, with the next commit: one of its own would cost an fsync."""
        self._unlinked.extend(files)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._writing.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                forgotten = list(self._unlinked)
                connection.executemany("DELETE FROM dropped WHERE file = ?", zip(forgotten))
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            del self._unlinked[: len(forgotten)]


class _Lane:
    """One connection, made when it is needed, used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._connection is None:
                self._connection = _connect(self._path)
            yield self._connection

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS_MAX, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on disk when it returns. WAL's usual NORMAL may lose the last ones.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_bucket(connection: sqlite3.Connection, bucket: str) -> None:
    if not connection.execute("SELECT 1 FROM buckets WHERE name = ?", (bucket,)).fetchone():
        raise BucketNotFound("no such bucket")


def _drop(connection: sqlite3.Connection, bucket: str, key: bytes) -> str | None:
    row = connection.execute(
        "DELETE FROM objects WHERE bucket = ? AND key = ? RETURNING file", (bucket, key)
    ).fetchone()
    if row is None:
        return None
    file: str = row[0]
    connection.execute("INSERT INTO dropped VALUES (?)", (file,))
    return file


def _blob(row: tuple[str, bytes, int, str, str, int, str, str]) -> Blob:
    bucket, key, size_bytes, etag, content_type, modified_us, metadata, _ = row
    return Blob(
        bucket=bucket,
        key=key.decode(),
        size_bytes=size_bytes,
        etag=etag,
        content_type=content_type,
        modified_at=_moment(modified_us),
        metadata=json.loads(metadata),
    )


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
