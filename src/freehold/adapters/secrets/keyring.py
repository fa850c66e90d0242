"""Key-encryption keys: versioned, from a private file or from the environment.

The text is one key a line, `{version}:{base64 of 32 bytes}`. The highest version seals; all open.
"""

import base64
import binascii
import os
import secrets
import stat
import tempfile
from pathlib import Path

from freehold.kernel.errors import PlatformFailed

KEY_BYTES = 32
VERSION_MAX = 2**32 - 1


class Keyring:
    """Holds keys in memory. Never shows them: `repr` names versions only."""

    def __init__(self, keys: dict[int, bytes]) -> None:
        if not keys:
            raise PlatformFailed("there is no key-encryption key")
        for version, key in keys.items():
            if not 0 < version <= VERSION_MAX or len(key) != KEY_BYTES:
                raise PlatformFailed(
                    f"key-encryption key {version}: a version from 1 and {KEY_BYTES} bytes "
                    "are needed"
                )
        self._keys = dict(keys)
        self.newest = max(keys)

    @property
    def versions(self) -> frozenset[int]:
        return frozenset(self._keys)

    def key(self, version: int) -> bytes:
        """Raises KeyError for a version that is not here."""
        return self._keys[version]

    def text(self) -> str:
        """The keys in the clear, as `parse` takes them: to be wrapped at once, never shown."""
        return "".join(_line(version, self._keys[version]) for version in sorted(self._keys))

    @classmethod
    def fresh(cls) -> "Keyring":
        return cls({1: secrets.token_bytes(KEY_BYTES)})

    def with_new_version(self) -> "Keyring":
        return Keyring({**self._keys, self.newest + 1: secrets.token_bytes(KEY_BYTES)})

    def __repr__(self) -> str:
        return f"Keyring(versions={sorted(self._keys)})"

    def __reduce__(self) -> str:
        raise TypeError("key-encryption keys are never pickled")

    @classmethod
    def parse(cls, text: str, *, source: str) -> "Keyring":
        """`source` names the place in messages; the text itself never stands in one."""
        keys: dict[int, bytes] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            version, _, encoded = line.strip().partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
                if int(version) in keys:
                    raise ValueError
                keys[int(version)] = key
            except (ValueError, binascii.Error):
                raise PlatformFailed(
                    f"{source}, line {number}: expected version:base64, each version once"
                ) from None
        return cls(keys)

    @classmethod
    def from_file(cls, path: Path) -> "Keyring":
        """Makes the file, mode 0600, on first use. Refuses one that others may read.

        Of several who start at once one makes it and all read the same.
        """
        try:
            return cls.parse(read_private(path), source=str(path))
        except FileNotFoundError:
            write_private(path, _line(1, secrets.token_bytes(KEY_BYTES)), replace=False)
        return cls.parse(read_private(path), source=str(path))


def add_version(path: Path) -> int:
    """A new newest key in the file; its version.

    Running processes read the file again when they meet a value sealed by it. So: add a version,
    rewrap, then remove the old line.
    """
    text = read_private(path)
    version = Keyring.parse(text, source=str(path)).newest + 1
    line = _line(version, secrets.token_bytes(KEY_BYTES))
    write_private(path, f"{text.rstrip()}\n{line}", replace=True)
    return version


def _line(version: int, key: bytes) -> str:
    return f"{version}:{base64.b64encode(key).decode()}\n"


def read_private(path: Path) -> str:
    """Judges the very file that it reads, by its descriptor."""
    with path.open() as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (os.geteuid(), 0):
            raise PlatformFailed(f"{path} belongs to another user: refused")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise PlatformFailed(
                f"{path} is open to others than its owner: refused (chmod 600, and "
                "consider its keys known)"
            )
        return file.read()


def write_private(path: Path, text: str, *, replace: bool) -> None:
    """Whole or not at all, durable, and 0600 from its first moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            Path(scratch).rename(path)
        else:
            try:
                path.hardlink_to(scratch)
            except FileExistsError:
                return  # somebody was quicker: theirs counts
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        Path(scratch).unlink(missing_ok=True)
