"""Layers of an image, put on top of one another in a directory.

Nobody else writes below the directory meanwhile, so that a path which was looked at stays what it
was. No link is ever followed out of it: like a container's, its links are resolved inside it.
Source: OCI image specification 1.1, "Image Layer Filesystem Changeset".
"""

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import zstandard

from freehold.ports.images import ImageRefused

_WHITEOUT, _OPAQUE, _RESERVED = ".wh.", ".wh..wh..opq", ".wh..wh."
_LINKS_MAX = 40
_DEPTH_MAX = 256  # whoever removes the files, as shutil.rmtree does, calls itself for each level
_READ_BYTES = 1 << 20
_HEADER_BYTES_MAX = 1 << 20  # of one entry, with all that comes before it
_PATH_BYTES_MEAN_MAX = 256
_WINDOW_BYTES_MAX = 128 << 20  # what `zstd --ultra` may ask for
_TIME_MAX = 1 << 40
_BROKEN = (
    tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError, UnicodeError,
    ValueError, RecursionError,
)  # fmt: skip


class Layers:
    """Applied in order. Every limit is for all of them together."""

    def __init__(self, root: Path, *, bytes_max: int, entries_max: int) -> None:
        self._root = str(root)
        self._bytes_left, self._bytes_max = bytes_max, bytes_max
        self._entries_left, self._entries_max = entries_max, entries_max
        self._path_bytes_left = entries_max * _PATH_BYTES_MEAN_MAX
        self._stopped = False
        self.skipped = 0
        """Devices, FIFOs and the like, which an agent has no use for."""
        self._new: set[str] = set()
        self._hidden: set[str] = set()
        self._directories: dict[str, str] = {}

    def stop(self) -> None:
        """From another thread: `apply` ends soon, with ImageRefused."""
        self._stopped = True

    def apply(self, blob: Path, diff_id: str | None) -> None:
        """`diff_id` is the digest of what is in the blob, uncompressed. Raises ImageRefused."""
        self._new, self._hidden, self._directories = set(), set(), {}
        try:
            with blob.open("rb") as file, _uncompressed(file) as plain:
                stream = _Stream(plain, self._take)
                with tarfile.open(fileobj=stream, mode="r:", errorlevel=2) as archive:
                    while (entry := archive.next()) is not None:
                        archive.members = []  # type: ignore[attr-defined]  # else it keeps every one
                        archive.pax_headers = {}  # nor does docker heed those for all entries
                        self._entry(entry, stream)
                        stream.header_bytes_left = _HEADER_BYTES_MAX
                digest = stream.finished()
        except _BROKEN as error:
            raise ImageRefused(f"a layer cannot be read: {error}") from error
        except OSError as error:
            raise ImageRefused(f"a layer cannot be unpacked: {error.strerror}") from error
        if diff_id is not None and digest != diff_id:
            raise ImageRefused("a layer is not what the image's configuration says")

    def _take(self, count: int) -> None:
        if self._stopped:
            raise ImageRefused("it was given up")
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise ImageRefused(f"the image unpacks to more than {self._bytes_max >> 20} MiB")

    def _entry(self, entry: tarfile.TarInfo, stream: "_Stream") -> None:
        self._entries_left -= 1
        if self._entries_left < 0:
            raise ImageRefused(f"the image has more than {self._entries_max} files")
        parts = _parts(entry.name)
        if not parts:
            return  # the root itself
        *parents, name = parts
        if name.startswith(_WHITEOUT):
            self._whiteout("/".join(parents), name)
            return
        path = f"{self._directory('/'.join(parents))}/{name}"
        if entry.isdir():
            self._make_directory(path, entry)
        elif entry.isreg() and not entry.issparse():
            self._clear(path)
            self._write(path, entry, stream)
        elif entry.issym():
            self._clear(path)
            os.symlink(entry.linkname, path)  # noqa: PTH211 - strings: there are many
        elif entry.islnk():
            self._link(path, entry)
        else:
            self.skipped += 1
            return
        self._note(path)

    # -- kinds of entries

    def _make_directory(self, path: str, entry: tarfile.TarInfo) -> None:
        found = _lstat(path)
        if found is None or not stat.S_ISDIR(found.st_mode):
            self._clear(path)
            os.mkdir(path)  # noqa: PTH102
        os.chmod(path, _mode(entry.mode, directory=True))  # noqa: PTH101

    def _write(self, path: str, entry: tarfile.TarInfo, stream: "_Stream") -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            left = entry.size
            while left > 0:
                chunk = stream.content(min(left, _READ_BYTES))
                if not chunk:
                    raise ImageRefused("a layer ends in the middle of a file")
                file.write(chunk)
                left -= len(chunk)
            os.fchmod(file.fileno(), _mode(entry.mode, directory=False))
            file.flush()
            # Python compares a source's time with the one that its bytecode names.
            seconds = min(max(entry.mtime, 0), _TIME_MAX)
            os.utime(file.fileno(), (seconds, seconds))

    def _link(self, path: str, entry: tarfile.TarInfo) -> None:
        *parents, name = _parts(entry.linkname) or [""]
        target = f"{self._directory('/'.join(parents))}/{name}"
        found = _lstat(target) if name else None
        if found is None or not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            raise ImageRefused(f"a layer has a link to what is not there: {entry.name!r}")
        if target != path:
            self._clear(path)
            os.link(target, path, follow_symlinks=False)

    def _whiteout(self, parent: str, name: str) -> None:
        """Hides what lower layers have, and nothing of this one."""
        if name == _OPAQUE:
            self._hide_below(self._directory(parent))
            return
        if name.startswith(_RESERVED):
            return
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise ImageRefused("a layer hides what is not one of its files")
        path = f"{self._directory(parent)}/{hidden}"
        if path not in self._new:
            self._clear(path)
        elif _is_directory(path):
            self._hide_below(path)

    def _hide_below(self, directory: str) -> None:
        """Once is enough: what comes after it is of this layer."""
        if directory in self._hidden:
            return
        self._hidden.add(directory)
        for name in os.listdir(directory):  # noqa: PTH208
            path = f"{directory}/{name}"
            if path not in self._new:
                self._clear(path)
            elif _is_directory(path):
                self._hide_below(path)

    # -- places

    def _note(self, path: str) -> None:
        """Of this layer, with all directories on the way to it."""
        while path not in self._new and len(path) > len(self._root):
            self._new.add(path)
            self._remember(path)
            path = path.rpartition("/")[0]

    def _clear(self, path: str) -> None:
        found = _lstat(path)
        if found is None:
            return
        self._directories.clear()
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)  # noqa: PTH108

    def _directory(self, path: str) -> str:
        """Where a directory of the image really is; made where it is not there."""
        known = self._directories.get(path)
        if known is None:
            known = self._directories[path] = inside(self._root, path)
            self._remember(path + known)
        return known

    def _remember(self, path: str) -> None:
        self._path_bytes_left -= len(path)
        if self._path_bytes_left < 0:
            raise ImageRefused("the image has too many long paths")


def inside(root: str, path: str) -> str:
    """The real place of a directory below `root`, as seen by who has `root` for `/`.

    What is not there is made. Raises ImageRefused when something else than a directory is in the
    way, it is too deep, or links go in circles.
    """
    depth_max = root.count("/") + _DEPTH_MAX
    waiting = _parts(path)[::-1]
    at = root
    links = 0
    while waiting:
        name = waiting.pop()
        if name == "..":
            at = at.rpartition("/")[0] if at != root else root
            continue
        step = f"{at}/{name}"
        found = _lstat(step)
        if found is None:
            if step.count("/") > depth_max:
                raise ImageRefused(f"the image has directories more than {_DEPTH_MAX} deep")
            os.mkdir(step)  # noqa: PTH102
            os.chmod(step, 0o757)  # noqa: PTH101, S103 - see _mode
            at = step
        elif stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _LINKS_MAX:
                raise ImageRefused(f"links of the image go in circles at {path!r}")
            target = os.readlink(step)  # noqa: PTH115
            at = root if target.startswith("/") else at
            waiting += _parts(target, up=True)[::-1]
        elif stat.S_ISDIR(found.st_mode):
            at = step
        else:
            raise ImageRefused(f"a layer puts something below {path!r}, which is no directory")
    return at


def _parts(name: str, *, up: bool = False) -> list[str]:
    """`up`: of a link, which may lead up; never above the root."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if (".." in parts and not up) or "\0" in name:
        raise ImageRefused(f"a layer has a path that leads out of it: {name[:200]!r}")
    return parts


def _mode(mode: int, *, directory: bool) -> int:
    """The agent may do what the image's owner of a file may: it is not its owner on disk.

    No setuid, setgid or sticky bit stays.
    """
    owner = (mode >> 6) & 7 | (7 if directory else 4)
    return owner << 6 | mode & 0o050 | owner


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _is_directory(path: str) -> bool:
    found = _lstat(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


class _Stream(io.RawIOBase):
    """Forward only, counted, hashed. `tarfile` reads and keeps whole headers, whatever their size
    says, and any number of them before an entry: all of one's together are bounded.
    """

    def __init__(self, source: IO[bytes], take: Any) -> None:
        super().__init__()
        self._source, self._take = source, take
        self._hash, self._at = hashlib.sha256(), 0
        self.header_bytes_left = _HEADER_BYTES_MAX

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """A header: `tarfile` skips what is in files, and we read that ourselves."""
        if not 0 <= size <= self.header_bytes_left:
            raise ImageRefused("a layer has a header of more than 1 MiB")
        self.header_bytes_left -= size
        return self.content(size)

    def content(self, size: int) -> bytes:
        pieces = []
        while size and (piece := self._source.read(size)):
            self._take(len(piece))
            self._hash.update(piece)
            pieces.append(piece)
            size -= len(piece)
            self._at += len(piece)
        return b"".join(pieces)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence != 0 or offset < self._at:
            raise ImageRefused("a layer is not a plain archive")
        while self._at < offset and self.content(min(offset - self._at, _READ_BYTES)):
            pass
        return self._at

    def finished(self) -> str:
        """The digest of all, the padding behind the archive's end included."""
        while self.content(_READ_BYTES):
            pass
        return f"sha256:{self._hash.hexdigest()}"


@contextlib.contextmanager
def _uncompressed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    head = file.read(4)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=file) as plain:
            yield plain  # type: ignore[misc]
    elif head == b"(\xb5/\xfd":
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
        with decompressor.stream_reader(file, read_across_frames=True) as reader:
            yield reader
    else:
        yield file
