"""Read-only disks (erofs) of folders of this machine, made once for each content.

A machine shares no folder with the host: what it sees of it is on such disks.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from freehold.ports.sandbox import SandboxFailed

INSTALL = "install erofs-utils: apt-get install erofs-utils"
_SERIAL_CHARACTERS = 20  # all that virtio-blk has room for
_MAKE_SECONDS_MAX = 600

# Of /usr: what programs need to run. Headers, documentation, compilers, debug symbols and whole
# products that unpack themselves below /usr/lib stay out, or a disk would have gigabytes.
_SYSTEM = {
    "": ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "share", "local"),
    "lib": ("*-linux-gnu*", "python*", "locale", "ssl", "git-core", "file", "mime", "os-release",
            "sasl2", "node_modules", "sudo", "pam*", "*.so*", "gconv", "perl*"),
    "share": ("zoneinfo", "ca-certificates", "mime", "misc", "terminfo", "git-core", "nodejs",
              "node_modules", "perl*", "python*", "i18n", "p11-kit", "publicsuffix", "tabset"),
    "local": ("bin", "lib"),
    "libexec": ("git-core", "coreutils"),
}  # fmt: skip
_LEFT_OUT = (".*[.]a", ".*/dri/.*", ".*/valgrind/.*", ".*libLLVM.*", ".*/config-3[.].*")


class Image(msgspec.Struct, frozen=True):
    """`file`: what is to be seen is this one file of the image."""

    serial: str
    path: str
    file: str | None = None


def _maker() -> str | None:
    return shutil.which("mkfs.erofs", path="/usr/bin:/usr/sbin:/sbin:/bin")


def missing() -> str | None:
    return None if _maker() else INSTALL


class Images:
    """`directory` may be shared by drivers. The least used go when there is too much."""

    def __init__(self, directory: Path, bytes_max: int) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._making = threading.Lock()
        self._system: Image | None = None
        directory.mkdir(parents=True, exist_ok=True, mode=0o711)

    def system(self) -> Image:
        """Of /usr. Blocks: half a minute the first time on a machine."""
        if self._system is None:
            identity = _identity(Path("/usr"), skip=set(_excluded()))
            options = [f"--exclude-path={path}" for path in _excluded()]
            options += [f"--exclude-regex={pattern}" for pattern in _LEFT_OUT]
            self._system = self._image(identity, Path("/usr"), options)
        return self._system

    def of(self, source: str, owner: int = 0) -> Image:
        """Of a folder or a file; all in it belongs to `owner`. Blocks."""
        path = Path(source)
        if not path.exists():
            raise SandboxFailed(f"{source} is to be mounted, but does not exist")
        options = [f"--force-uid={owner}", f"--force-gid={owner}"]
        if path.is_dir():
            return self._image(f"{self._digest(path)}-{owner}", path, options)
        with tempfile.TemporaryDirectory(dir=self._directory) as folder:
            shutil.copy2(path, folder)
            digest = hashlib.sha256(path.read_bytes() + path.name.encode()).hexdigest()
            image = self._image(f"{digest}-{owner}", Path(folder), options)
        return msgspec.structs.replace(image, file=path.name)

    def _image(self, key: str, source: Path, options: list[str]) -> Image:
        serial = hashlib.sha256(key.encode()).hexdigest()[:_SERIAL_CHARACTERS]
        path = self._directory / f"{serial}.erofs"
        with self._making:
            if not path.exists():
                self._make(path, source, options)
                self._prune(path)
            with contextlib.suppress(OSError):
                os.utime(path)
        return Image(serial, str(path))

    def _make(self, path: Path, source: Path, options: list[str]) -> None:
        program = _maker()
        if not program:
            raise SandboxFailed(INSTALL)
        descriptor, fresh = tempfile.mkstemp(dir=self._directory, prefix="new-")
        os.close(descriptor)
        # Times are kept: Python compiles again what is not of the time that its bytecode names.
        line = [program, "--quiet", "--preserve-mtime", "-x-1", *options, fresh, str(source)]
        try:
            done = subprocess.run(
                line, capture_output=True, text=True, timeout=_MAKE_SECONDS_MAX, check=False
            )
            if done.returncode != 0:
                raise SandboxFailed(f"no disk could be made of {source}: {done.stderr[-500:]}")
            Path(fresh).replace(path)
        finally:
            Path(fresh).unlink(missing_ok=True)

    def _prune(self, fresh: Path) -> None:
        """A machine keeps the disks that it has open, even when they are gone from here."""
        found = [(path.stat(), path) for path in self._directory.glob("*.erofs") if path != fresh]
        total = sum(status.st_size for status, _ in found) + fresh.stat().st_size
        for status, path in sorted(found, key=lambda each: each[0].st_mtime):
            if total <= self._bytes_max:
                return
            path.unlink(missing_ok=True)
            total -= status.st_size

    def _digest(self, root: Path) -> str:
        """Of names, kinds, times and contents. A tree that was seen unchanged is not read again."""
        known = self._directory / f"{_identity(root)}.digest"
        with contextlib.suppress(FileNotFoundError):
            return known.read_text()
        seen = hashlib.sha256()
        for path, status in _walked(root):
            inside = path.relative_to(root)
            seen.update(f"{inside}\0{status.st_mode}\0{int(status.st_mtime)}\0".encode())
            if stat.S_ISREG(status.st_mode):
                with path.open("rb") as file:
                    seen.update(hashlib.file_digest(file, "sha256").digest())
            elif stat.S_ISLNK(status.st_mode):
                seen.update(str(path.readlink()).encode())
        known.write_text(seen.hexdigest())
        return seen.hexdigest()


def _identity(root: Path, skip: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    """Changes with whatever was changed below `root`, by the inodes alone."""
    seen = hashlib.sha256(str(root).encode())
    for path, status in _walked(root, skip):
        about = (status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size, status.st_mode)
        seen.update(f"{path}\0{about}".encode(errors="surrogateescape"))
    return seen.hexdigest()


def _walked(root: Path, skip: set[str] = frozenset()) -> Iterator[tuple[Path, os.stat_result]]:  # type: ignore[assignment]
    for folder, folders, files in os.walk(root):
        inside = os.path.relpath(folder, root)
        folders[:] = sorted(n for n in folders if os.path.normpath(f"{inside}/{n}") not in skip)
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat()


def _excluded() -> Iterator[str]:
    """Of /usr, all that is not named; in the form that mkfs.erofs wants."""
    for folder, wanted in _SYSTEM.items():
        place = Path("/usr", folder)
        for entry in sorted(place.iterdir()) if place.is_dir() and not place.is_symlink() else ():
            if not any(entry.match(pattern) for pattern in wanted):
                yield f"{folder}/{entry.name}".lstrip("/")
