"""Handing a directory tree to another user, and taking it back."""

import contextlib
import os
from pathlib import Path


def give(path: str, uid: int, gid: int) -> None:
    """The whole tree. Never follows a link: what is in it may be hostile. Blocks."""
    with contextlib.suppress(FileNotFoundError):
        os.chown(path, uid, gid, follow_symlinks=False)
    if not Path(path).is_dir() or Path(path).is_symlink():
        return
    for _, folders, files, folder in os.fwalk(path, follow_symlinks=False):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
