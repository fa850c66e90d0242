"""Where a sandbox writes."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def opened(path: str, uid: int | None = None) -> Iterator[int]:
    """A descriptor for stdout and stderr; the file belongs to `uid` from here on."""
    is_fifo = stat.S_ISFIFO(Path(path).stat().st_mode) if Path(path).exists() else False
    # A FIFO is held open in both directions, so that a sandbox outlives its reader: it waits
    # when the FIFO is full, and does not die of SIGPIPE when the platform restarts.
    flags = os.O_RDWR if is_fifo else os.O_WRONLY | os.O_APPEND | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if uid is not None:
            os.fchown(descriptor, uid, -1)  # programs open /dev/stderr by name
        yield descriptor
    finally:
        os.close(descriptor)
