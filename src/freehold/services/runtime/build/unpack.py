"""Unpacking a zip that somebody else made."""

import os
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

from freehold.services.runtime.build.model import BuildFailed, BuildLimits

_NAME_BYTES_MAX = 255
_PATH_BYTES_MAX = 1024
_DEPTH_MAX = 64
_DIRECTORY_BYTES_MAX = 16 << 20
# Below this size even a file of zeros does no harm, and its ratio says nothing.
_RATIO_FROM_BYTES = 1 << 20
_ENCRYPTED = 0x1 | 0x40
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DRIVE = re.compile(r"[A-Za-z]:")
_COPY_BYTES = 1 << 20


def unpack(archive: Path, target: Path, limits: BuildLimits) -> None:
    """Files, directories and links that stay inside go to `target`, which must not exist.

    Everything is checked before anything is written. Raises BuildFailed.
    """
    try:
        _check_directory_size(archive)
        with zipfile.ZipFile(archive) as bundle:
            entries = _entries(bundle, limits)
            links = {
                path: _leads_to(bundle, entries.pop(path), path)
                for path in [path for path in entries if stat.S_ISLNK(_mode(entries[path]))]
            }
            target.mkdir()
            for path, info in entries.items():
                _write(bundle, info, target / path)
            # Links last: while files are written, no directory on their way can be one.
            for path, leads_to in links.items():
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).symlink_to(leads_to)
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        UnicodeError,
    ) as error:
        raise BuildFailed(f"the bundle is not a readable zip file: {error}") from error


def _check_directory_size(archive: Path) -> None:
    """Bounds what `zipfile` will read into memory, by the sizes that it goes by itself."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16) - 22 - 76))
        tail = file.read()
    found = tail.rfind(b"PK\x05\x06")
    if len(tail) >= 22 and tail[-22:-18] == b"PK\x05\x06" and tail[-2:] == b"\0\0":
        found = len(tail) - 22
    if found < 0 or len(tail) < found + 22:
        raise BuildFailed("the bundle is not a zip file")
    (directory_bytes,) = struct.unpack_from("<L", tail, found + 12)
    locator = found - 20
    if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        if locator < 56 or tail[locator - 56 : locator - 52] != b"PK\x06\x06":
            raise BuildFailed("the bundle is not a readable zip file: its directory is damaged")
        (directory_bytes,) = struct.unpack_from("<Q", tail, locator - 56 + 40)
    if directory_bytes > _DIRECTORY_BYTES_MAX:
        raise BuildFailed("the bundle has too many entries")


def _entries(bundle: zipfile.ZipFile, limits: BuildLimits) -> dict[str, zipfile.ZipInfo]:
    """By normalised path, in the zip's order. What is refused is refused here."""
    infos = bundle.infolist()
    if len(infos) > limits.entries_max:
        raise BuildFailed(f"the bundle has {len(infos)} entries; {limits.entries_max} may be")
    entries: dict[str, zipfile.ZipInfo] = {}
    directories: set[str] = set()
    alike: dict[str, str] = {}
    bytes_total = 0
    for info in infos:
        path = _path(info.orig_filename)
        if not path:
            continue
        _check(path, info, limits)
        bytes_total += info.file_size
        if bytes_total > limits.unpacked_bytes_max:
            raise BuildFailed(
                f"the bundle unpacks to more than {limits.unpacked_bytes_max >> 20} MiB"
            )
        if path in entries or (path in directories and not _is_directory(info)):
            raise BuildFailed(f"the bundle has {path!r} more than once")
        parents = [path[:at] for at, letter in enumerate(path) if letter == "/"]
        for parent in parents:
            if parent in entries:
                raise BuildFailed(f"the bundle has {parent!r} as a file and as a directory")
        for each in (*parents, path):
            # Two names that are one on another machine's file system.
            folded = unicodedata.normalize("NFC", each).casefold()
            if alike.setdefault(folded, each) != each:
                raise BuildFailed(f"the bundle has {alike[folded]!r} and {each!r}, alike but case")
        directories.update(parents)
        if _is_directory(info):
            directories.add(path)
        else:
            entries[path] = info
    return entries | _empty(directories, infos)


def _empty(directories: set[str], infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    named = {_path(info.orig_filename): info for info in infos if _is_directory(info)}
    return {path: info for path, info in named.items() if path in directories}


def _path(name: str) -> str:
    """The path inside the target. Raises BuildFailed for one that means to be elsewhere."""
    shown = repr(name[:200])
    if name.startswith("/") or _DRIVE.match(name):
        raise BuildFailed(f"the bundle has an absolute path: {shown}")
    if "\\" in name or not name.isprintable():
        raise BuildFailed(f"the bundle has a path with a character that may not be: {shown}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BuildFailed(f"the bundle has a path that leads out of it: {shown}")
    path = "/".join(parts)
    too_long = any(len(part.encode()) > _NAME_BYTES_MAX for part in parts)
    if too_long or len(parts) > _DEPTH_MAX or len(path.encode()) > _PATH_BYTES_MAX:
        raise BuildFailed(f"the bundle has a path that is too long: {shown}")
    return path


def _check(path: str, info: zipfile.ZipInfo, limits: BuildLimits) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise BuildFailed(f"the bundle is encrypted ({path!r})")
    if info.compress_type not in _METHODS:
        raise BuildFailed(f"the bundle uses a compression other than deflate ({path!r})")
    kind = stat.S_IFMT(_mode(info))
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise BuildFailed(f"the bundle has a device or the like: {path!r}")
    if kind == stat.S_IFDIR and info.file_size:
        raise BuildFailed(f"the bundle has a directory with content: {path!r}")
    if kind == stat.S_IFLNK and info.file_size > _PATH_BYTES_MAX:
        raise BuildFailed(f"the bundle has a link that is too long: {path!r}")
    ratio = info.file_size / max(1, info.compress_size)
    if info.file_size > _RATIO_FROM_BYTES and ratio > limits.ratio_max:
        raise BuildFailed(f"{path!r} unpacks to {ratio:.0f} times its size; not taken")


def _mode(info: zipfile.ZipInfo) -> int:
    """As Unix has it; 0 where the zip says nothing."""
    return info.external_attr >> 16


def _is_directory(info: zipfile.ZipInfo) -> bool:
    return info.orig_filename.endswith("/") or stat.S_ISDIR(_mode(info))


def _write(bundle: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    if _is_directory(info):
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o755 if _mode(info) & 0o111 else 0o644
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # ZipFile.open gives no more bytes than the entry declares, and checks their sum at the end.
    with bundle.open(info) as source, os.fdopen(os.open(path, flags, mode), "wb") as file:
        shutil.copyfileobj(source, file, _COPY_BYTES)


def _leads_to(bundle: zipfile.ZipFile, info: zipfile.ZipInfo, path: str) -> str:
    """A link's text. Up (`..`) only at its beginning, where every directory on the way is a real
    one, and not above the target; so that where it leads can be told from the text alone.
    """
    leads_to = bundle.read(info).decode()
    parts = [part for part in leads_to.split("/") if part not in ("", ".")]
    ups = sum(1 for part in parts if part == "..")
    outside = leads_to.startswith("/") or ups > path.count("/") or ".." in parts[ups:]
    if outside or not parts or not leads_to.isprintable():
        raise BuildFailed(f"the bundle has a link that leads out of it: {path!r}")
    return "/".join(parts)
