"""Unix sockets in a sandbox's own folder, however long its path is."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path


def listening(path: Path, backlog: int = 128) -> socket.socket:
    """Blocking, as a program expects it that is handed the descriptor."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        with_short_path(path, listener.bind)
        path.chmod(0o600)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


async def connected(path: Path) -> socket.socket:
    """Non-blocking. Raises OSError."""
    stream = socket.socket(socket.AF_UNIX)
    stream.setblocking(False)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(stream, f"/proc/self/fd/{folder}/{path.name}")
    except BaseException:
        stream.close()
        raise
    finally:
        os.close(folder)
    return stream


def with_short_path(path: Path, use: Callable[[str], None]) -> None:
    """A socket's path has at most 107 bytes; through a descriptor of its folder it has."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
