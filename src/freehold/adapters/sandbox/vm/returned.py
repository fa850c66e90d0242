"""Takes back what a machine wrote to a writable mount.

The stream comes from inside, so that nothing in it is believed: every name is walked from the
target's own descriptor, no link is followed, and there is an end to bytes and entries.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from freehold.adapters.sandbox.vm.guest import tree

_ENTRIES_MAX = 1_000_000
_NAME_BYTES_MAX = 4096
_CHUNK_BYTES = 1 << 20
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ReturnFailed(Exception):
    """What came is not a whole and harmless tree."""


def size_of(folder: str) -> int:
    paths = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in paths)


def replace_content(target: str, stream: BinaryIO, bytes_max: int) -> None:
    """All in the folder `target` becomes what the stream holds, or stays as it was. Blocks."""
    place = Path(target)
    fresh = tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-")
    try:
        root = os.open(fresh, _FOLDER_FLAGS)
        try:
            _Reader(stream, root, bytes_max).read_all()
        except OSError as error:
            raise ReturnFailed(str(error)) from error
        finally:
            os.close(root)
        _clear(place)
        for entry in Path(fresh).iterdir():
            entry.rename(place / entry.name)
    finally:
        shutil.rmtree(fresh)


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


class _Reader:
    def __init__(self, stream: BinaryIO, root: int, bytes_max: int) -> None:
        self._stream = stream
        self._root = root
        self._left = bytes_max

    def read_all(self) -> None:
        for _ in range(_ENTRIES_MAX):
            kind, mode, name_length, size = tree.HEADER.unpack(self._exactly(tree.HEADER.size))
            if kind == tree.END:
                return
            if kind == tree.LINK and size > _NAME_BYTES_MAX:
                raise ReturnFailed("a link's target is too long")
            self._entry(kind, mode, self._exactly(name_length), size)
        raise ReturnFailed("too many files")

    def _entry(self, kind: int, mode: int, name: bytes, size: int) -> None:
        *folders, last = name.split(b"/")
        if len(name) > _NAME_BYTES_MAX or not all(_is_plain(each) for each in (*folders, last)):
            raise ReturnFailed(f"{name[:100]!r} is no name of a file")
        with _folder(self._root, folders) as place:
            if kind == tree.FOLDER:
                os.mkdir(last, mode & 0o777 | 0o700, dir_fd=place)
            elif kind == tree.LINK:
                os.symlink(self._exactly(size), last, dir_fd=place)
            elif kind == tree.FILE:
                self._file(os.open(last, _FILE_FLAGS, mode & 0o777 | 0o600, dir_fd=place), size)
            else:
                raise ReturnFailed("an entry of no known kind")

    def _file(self, descriptor: int, size: int) -> None:
        with os.fdopen(descriptor, "wb") as file:
            while size:
                chunk = self._exactly(min(size, _CHUNK_BYTES))
                file.write(chunk)
                size -= len(chunk)

    def _exactly(self, count: int) -> bytes:
        self._left -= count
        if self._left < 0:
            raise ReturnFailed("more came back than the limits allow")
        data = self._stream.read(count)
        if len(data) != count:
            raise ReturnFailed("the machine ended before all had come back")
        return data


def _is_plain(part: bytes) -> bool:
    return part not in (b"", b".", b"..") and b"\0" not in part


@contextlib.contextmanager
def _folder(root: int, parts: list[bytes]) -> Iterator[int]:
    current = os.dup(root)
    try:
        for part in parts:
            inner = os.open(part, _FOLDER_FLAGS, dir_fd=current)
            os.close(current)
            current = inner
        yield current
    finally:
        os.close(current)
