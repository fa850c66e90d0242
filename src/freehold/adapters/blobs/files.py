"""The bytes of one tenant's blobs: a file each, named by a random id, never by the key.

`writing/{id}` is a claim: an empty file that its writer holds locked until the blob is published.
A claim that anybody can lock was left by a process that died; its file is then garbage, unless the
index knows it.
"""

import fcntl
import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from freehold.kernel.errors import FreeholdError


class Files:
    """Methods block. `{directory}/{first two characters of the id}/{id}` holds the bytes."""

    def __init__(self, directory: Path) -> None:
        self._objects = directory / "objects"
        self._claims = directory / "writing"

    def make_directories(self) -> None:
        """Closed to other users of the machine, and on disk before anything is in them."""
        home = self._objects.parent
        home.parent.mkdir(parents=True, exist_ok=True)
        for path in (home, self._objects, self._claims):
            path.mkdir(mode=0o700, exist_ok=True)
        _sync_directory(home)
        _sync_directory(home.parent)

    def begin(self) -> "Writing":
        file = uuid.uuid4().hex
        claim = self._claim(file)
        try:
            path = self._path(file)
            if not path.parent.is_dir():
                path.parent.mkdir(exist_ok=True)
                _sync_directory(self._objects)
            return Writing(file, path, self._claims / file, claim)
        except BaseException:
            self._release(file, claim)
            raise

    def open(self, file: str) -> int:
        return os.open(self._path(file), os.O_RDONLY | os.O_CLOEXEC)

    def unlink(self, file: str) -> None:
        self._path(file).unlink(missing_ok=True)

    def sweep(self, is_used: Callable[[str], bool]) -> None:
        """Removes what writers that died have left."""
        for file, claim in self._abandoned():
            try:
                if not is_used(file):
                    self.unlink(file)
            finally:
                self._release(file, claim)

    def _claim(self, file: str) -> int:
        """Locked before anybody can take it for abandoned: one swept in between is made anew."""
        while True:
            claim = os.open(self._claims / file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(claim, fcntl.LOCK_EX)
            if os.fstat(claim).st_nlink:
                return claim
            os.close(claim)

    def _abandoned(self) -> Iterator[tuple[str, int]]:
        for path in list(self._claims.iterdir()):
            try:
                claim = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(claim)
                continue
            yield path.name, claim

    def _release(self, file: str, claim: int) -> None:
        (self._claims / file).unlink(missing_ok=True)
        os.close(claim)

    def _path(self, file: str) -> Path:
        return self._objects / file[:2] / file


class Writing:
    """A file on its way. Ends with finish(), then done(); or with done() alone, which drops it.

    Methods block, and may be called from different threads: a cancelled caller cannot recall a
    write that a thread has begun.
    """

    def __init__(self, file: str, path: Path, claim_path: Path, claim: int) -> None:
        self.file = file
        self.size_bytes = 0
        self._path = path
        self._claim_path = claim_path
        self._claim = claim
        self._lock = threading.Lock()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._stream = path.open("xb")
        self._keep = False
        self._ended = False

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    def write(self, batch: list[bytes]) -> None:
        with self._lock:
            if self._ended:
                return
            for chunk in batch:
                self._md5.update(chunk)
                self._stream.write(chunk)
                self.size_bytes += len(chunk)

    def finish(self, publish: Callable[[], None]) -> None:
        """Puts the bytes and their name on disk, then publishes, unless done() came first.

        When the index fails in mid-commit nobody knows whether the blob is there: bytes and claim
        stay, and the sweep of the next start decides.
        """
        with self._lock:
            if self._ended:
                return
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            _sync_directory(self._path.parent)
            self._keep = True
            try:
                publish()
            except FreeholdError:
                self._keep = False
                raise
            self._claim_path.unlink(missing_ok=True)

    def done(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            # A full disk fails again in close(): those bytes are being dropped anyway.
            with suppress(OSError):
                self._stream.close()
            if not self._keep:
                self._path.unlink(missing_ok=True)
                self._claim_path.unlink(missing_ok=True)
            os.close(self._claim)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
