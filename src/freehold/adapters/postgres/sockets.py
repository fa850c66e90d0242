"""The directory of the server's unix socket: private, and short enough for the kernel."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

from freehold.adapters.postgres.account import Account

_SOCKET_PATH_BYTES_MAX = 107
_SOCKET_NAME = ".s.PGSQL.5432"
_SHORT_PARENTS = ("/run", "/tmp")  # noqa: S108 - mkdtemp below gives a private, fresh name


def prepare(home: Path, account: Account) -> Path:
    """`home`/socket, or where that is too long a private short directory that it links to.

    Called while no server runs. The link is read back only when what it names still belongs to
    the server's user and is closed to all others: whoever may write in /tmp cannot put a
    directory of his in its place.
    """
    link = home / "socket"
    fits = len(os.fsencode(link / _SOCKET_NAME)) <= _SOCKET_PATH_BYTES_MAX
    found = link.readlink() if link.is_symlink() else link
    if fits == (found == link) and _is_private(found, account):
        _clear(found)
        return found
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)
    if fits:
        link.mkdir(mode=0o700)
        os.chown(link, account.uid, account.gid)
        return link
    parent = next(path for path in _SHORT_PARENTS if os.access(path, os.W_OK))
    short = Path(tempfile.mkdtemp(prefix="freehold-pg-", dir=parent))
    os.chown(short, account.uid, account.gid)
    link.symlink_to(short)
    return short


def discard(home: Path) -> None:
    """After a stop: what `prepare` made outside of `home` goes. A next start makes another."""
    link = home / "socket"
    if link.is_symlink():
        shutil.rmtree(link.readlink(), ignore_errors=True)
        link.unlink()


def _clear(directory: Path) -> None:
    """What a killed server left. Its lock names a process that may be gone or somebody else's."""
    for name in (_SOCKET_NAME, f"{_SOCKET_NAME}.lock"):
        (directory / name).unlink(missing_ok=True)


def _is_private(path: Path, account: Account) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == account.uid
        and stat.S_IMODE(status.st_mode) == 0o700
    )
