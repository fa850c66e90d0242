"""Which operating-system user runs the server: PostgreSQL refuses to run as root."""

import grp
import logging
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple

from freehold.kernel.errors import PlatformFailed

log = logging.getLogger("freehold.postgres")

USER = "freehold"
USER_FALLBACK = "nobody"


class Account(NamedTuple):
    name: str
    uid: int
    gid: int

    @property
    def groups(self) -> frozenset[int]:
        named = {group.gr_gid for group in grp.getgrall() if self.name in group.gr_mem}
        return frozenset({self.gid, *named})


def of_this_process() -> Account:
    """Raises PlatformFailed for a user without a name: peer authentication needs one."""
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise PlatformFailed(
            f"user id {os.geteuid()} has no name on this machine (/etc/passwd), and PostgreSQL "
            "needs one: add it, or use a server of your own with --database-url"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def of_server(user: str | None) -> Account:
    """The account that the server runs as: `user` when we are root, else ourselves.

    As root and without a wish: the system user `freehold`, made when absent; `nobody` where no
    user can be made.
    """
    if os.geteuid() != 0:
        return of_this_process()
    if user is not None:
        found = _lookup(user)
        if found is None or found.uid == 0:
            raise PlatformFailed(f"there is no unprivileged user {user!r} to run PostgreSQL as")
        return found
    account = _lookup(USER) or _create(USER)
    if account is not None:
        return account
    log.warning("cannot make the system user %r: PostgreSQL runs as %r", USER, USER_FALLBACK)
    return of_server(USER_FALLBACK)


def _lookup(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create(name: str) -> Account | None:
    useradd = shutil.which("useradd")
    if useradd is None:
        return None
    shell = shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin:/bin") or "/bin/false"
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    made = subprocess.run(
        [useradd, *options, "--shell", shell, name], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        # Another process of ours may have made it in between: the lookup below tells.
        log.warning("useradd %s: %s", name, made.stderr.strip())
    return _lookup(name)


def closed_part(path: Path, account: Account, *, read: bool = False) -> Path | None:
    """The first part of `path` that `account` may not enter, or None.

    Walks the permission bits from the root down. With `read` the last part must be readable too.
    """
    if account.uid == os.geteuid():
        return None
    groups = account.groups
    resolved = path.resolve()
    for part in (*reversed(resolved.parents), resolved):
        needed = 0o5 if read and part == resolved else 0o1
        if _bits(part.stat(), account.uid, groups) & needed != needed:
            return part
    return None


def _bits(status: os.stat_result, uid: int, groups: frozenset[int]) -> int:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == uid:
        return mode >> 6 & 0o7
    if status.st_gid in groups:
        return mode >> 3 & 0o7
    return mode & 0o7
