"""What an unpacked image needs to be the root of a sandbox."""

import contextlib
import os
import stat
from pathlib import Path

from freehold.adapters.images.layers import inside

_UID = 1000
# Where every sandbox has something of the platform's own. A link of the image's there would send
# it somewhere else.
_PLACES = ("proc", "dev", "sys", "tmp", "run", "etc", "home/agent")
_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
_ACCOUNTS = {
    "etc/passwd": f"agent:x:{_UID}:{_UID}:agent:/home/agent:/bin/sh\n",
    "etc/group": f"agent:x:{_UID}:\n",
}
_ACCOUNTS_BYTES_MAX = 1 << 20


def finish(root: Path, workdir: str) -> None:
    """Blocks. Raises ImageRefused."""
    for place in _PLACES:
        _make_plain(root, place)
    for name in _FILES:
        path = root / name
        if path.is_symlink() or not path.is_file():
            _remove(path)
            _touch(path)
    for name, line in _ACCOUNTS.items():
        _add_account(root / name, line)
    inside(str(root), workdir)  # a container's run time makes it, too
    root.chmod(0o757)


def _make_plain(root: Path, place: str) -> None:
    path = root
    for part in place.split("/"):
        path /= part
        if path.is_symlink() or not path.is_dir():
            _remove(path)
            path.mkdir()
            path.chmod(0o757)


def _touch(path: Path) -> None:
    path.touch()
    path.chmod(0o646)  # as layers._mode


def _remove(path: Path) -> None:
    """Never a directory that the image has."""
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        path.unlink()


def _add_account(path: Path, line: str) -> None:
    """Programs ask who they are."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if path.is_symlink():
        path.unlink()
    if not path.exists():
        _touch(path)
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > _ACCOUNTS_BYTES_MAX:
        return
    with os.fdopen(os.open(path, flags), "r+b") as file:
        text = file.read()
        if any(each.split(b":")[2:3] == [str(_UID).encode()] for each in text.splitlines()):
            return
        file.write(b"" if not text or text.endswith(b"\n") else b"\n")
        file.write(line.encode())
