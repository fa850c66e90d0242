"""The build root on disk: where things lie, and how they get there whole or not at all.

code/{tenant}/{sha256 of the zip}/    an unpacked bundle
layers/{key}/                         installed dependencies
resolved/{tenant}/{key}.json          which layer some requirements led to, and when
builds/{build id}.log
tools/{version}/                      what runs inside the build sandbox
tmp/{random}/                         work in progress, locked by the process that does it
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

log = logging.getLogger("freehold.builds")

_DEPTH_MAX, _PATH_BYTES_MAX = 256, 3000
"""Far below where a walk that calls itself ends, and where the kernel takes no path."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")


class Resolved(msgspec.Struct, frozen=True):
    """`at` is a POSIX time."""

    layer: str
    at: float


class Staged(NamedTuple):
    """`lock` is a descriptor: held, the directory is in use."""

    path: Path
    lock: int


class TooLarge(Exception):
    """A tree has more bytes or entries than it may."""


class BuildTree:
    def __init__(self, root: Path) -> None:
        self._root = root

    def code(self, tenant: str, digest: str) -> Path:
        return self._root / "code" / _safe(tenant) / _safe(digest)

    def layer(self, key: str) -> Path:
        return self._root / "layers" / _safe(key)

    def log_path(self, build_id: str) -> Path:
        return self._open(self._root / "builds") / f"{_safe(build_id)}.log"

    def tools(self, version: str) -> Path:
        return self._root / "tools" / _safe(version)

    def resolved(self, tenant: str, key: str) -> Resolved | None:
        try:
            return msgspec.json.decode(self._resolved(tenant, key).read_bytes(), type=Resolved)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def remember(self, tenant: str, key: str, resolved: Resolved) -> None:
        path = self._resolved(tenant, key)
        self._open(path.parent)
        new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        new.write_bytes(msgspec.json.encode(resolved))
        new.replace(path)

    def stage(self) -> "Staged":
        """A directory of our own on the root's file system. Give it to `unstage` at the end."""
        path = self._open(self._root / "tmp") / secrets.token_hex(8)
        lock = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        path.mkdir()
        path.chmod(0o711)  # sandboxes' users pass through to what they are given
        return Staged(path, lock)

    def unstage(self, staged: "Staged") -> None:
        remove(staged.path)
        _lock_of(staged.path).unlink(missing_ok=True)
        os.close(staged.lock)

    def sweep(self) -> None:
        """Remove what processes that are no more left half done."""
        for lock_path in self._open(self._root / "tmp").glob("*.lock"):
            lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(lock_path.with_suffix(""))
                lock_path.unlink(missing_ok=True)
            except BlockingIOError:
                pass  # its process lives
            except OSError as error:
                log.warning("builds: leftovers stay: %s", error)
            finally:
                os.close(lock)

    def publish(self, staged: Path, final: Path) -> None:
        """Move a sealed tree to its name. Another that came first stays: it is the same."""
        self._open(final.parent)
        _sync(staged)
        try:
            staged.rename(final)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        # Only now: without root a directory that is not writable cannot change its parent.
        final.chmod(0o555)

    def _resolved(self, tenant: str, key: str) -> Path:
        return self._root / "resolved" / _safe(tenant) / f"{_safe(key)}.json"

    def _open(self, directory: Path) -> Path:
        """Made, with all between the root and it, so that sandboxes' users may pass through."""
        missing = [directory, *directory.parents]
        for path in reversed(missing[: missing.index(self._root) + 1]):
            if not path.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(0o755)
        return directory


def seal(tree: Path, *, bytes_max: int, entries_max: int) -> str:
    """Make a tree read-only, ours and harmless; the digest of all that is in it.

    It may have been written by code that we do not trust, which no longer runs. Files lose every
    mode bit but read and execute; a symbolic link that leads out of the tree goes, as does what
    is no file. Raises TooLarge. The top stays writable until it is published.
    """
    digest = hashlib.sha256()
    entries = bytes_total = 0
    real = os.path.realpath(tree)
    directories: list[Path] = []
    tree.chmod(0o755)
    for directory, names, files in _walk(tree):
        names.sort()
        for name in sorted([*names, *files]):
            path = Path(directory, name)
            found = path.lstat()
            entries += 1
            bytes_total += found.st_size
            if entries > entries_max or bytes_total > bytes_max:
                raise TooLarge
            content = _sealed(path, found, real)
            if content == _DIRECTORY:
                directories.append(path)
            if content is not None:
                where = os.fsencode(path.relative_to(tree))
                digest.update(b"%d:%b%d:%b" % (len(where), where, len(content), content))
    for path in directories:
        path.chmod(0o555)
    return digest.hexdigest()


_DIRECTORY = b"directory"


def _sealed(path: Path, found: os.stat_result, root: str) -> bytes | None:
    """The kind and content of one entry, made safe; None when it had to go."""
    if os.geteuid() == 0:
        os.chown(path, 0, 0, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        if os.path.commonpath([root, os.path.realpath(path)]) == root:
            return b"link " + os.fsencode(path.readlink())
    elif stat.S_ISDIR(found.st_mode):
        path.chmod(0o755)  # to go in; its builder may have closed it
        return _DIRECTORY
    elif stat.S_ISREG(found.st_mode):
        executable = bool(found.st_mode & 0o100)
        path.chmod(0o555 if executable else 0o444)
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        return (b"program " if executable else b"file ") + content
    path.unlink()
    return None


def _walk(tree: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Raises TooLarge for what is too deep."""
    top = str(tree).count("/")
    for directory, names, files in os.walk(tree):
        if directory.count("/") - top > _DEPTH_MAX or len(os.fsencode(directory)) > _PATH_BYTES_MAX:
            raise TooLarge
        yield directory, names, files


def measure(tree: Path) -> tuple[int, int]:
    """Bytes on disk and entries of a tree that something may be writing to. Raises TooLarge."""
    bytes_total = entries = 0
    for directory, names, files in _walk(tree):
        for name in (*names, *files):
            with contextlib.suppress(FileNotFoundError):
                bytes_total += Path(directory, name).lstat().st_blocks * 512
                entries += 1
    return bytes_total, entries


def remove(tree: Path) -> None:
    """A tree whose directories may be read-only, and deeper than any path is long: each is brought
    up to the top before it is looked into."""
    if not tree.exists():
        return
    tree.chmod(0o755)
    directories = [tree]
    for directory in directories:  # which grows
        for path in list(directory.iterdir()):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
                continue
            path.chmod(0o755)
            raised = path if directory == tree else tree / f".{secrets.token_hex(8)}"
            directories.append(path.rename(raised))
    for directory in reversed(directories):
        directory.rmdir()


def _lock_of(staged: Path) -> Path:
    return staged.with_suffix(".lock")


def _safe(name: str) -> str:
    assert _SAFE_NAME.fullmatch(name), f"{name!r} cannot name a file"
    return name


def _sync(directory: Path) -> None:
    """What is under `directory` is on disk: a power cut must not leave empty files behind."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
        if syncfs is None or syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)
