"""Logs of sessions: a FIFO in, bounded files of timed lines out, readers that wait for news."""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from freehold.kernel.clock import now

_READ_BYTES = 65536
_READS_MAX = 32
_PIPE_BYTES = 1 << 20
_PAUSE_SECONDS = 0.05
_LINE_BYTES_MAX = 16384


class SessionLog:
    """One sandbox's output. The agent holds both ends of the FIFO open, so that it outlives us.

    Kept: `{path}` and, once it has grown past half the limit, the older half as `{path}.1`.
    """

    def __init__(self, fifo: Path, path: Path, *, bytes_max: int) -> None:
        self._fifo, self.path = fifo, path
        self._half_max = bytes_max // 2
        self._partial = b""
        self._news = asyncio.Event()
        self._pause: asyncio.TimerHandle | None = None
        self.opened = False
        self.ended = False

    def open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._fifo.exists():
            os.mkfifo(self._fifo, 0o600)
        self._reading = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._file = self.path.open("ab", buffering=0)
        self._size = self.path.stat().st_size
        with contextlib.suppress(OSError):  # beyond what this user may: then the kernel's default
            fcntl.fcntl(self._reading, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._await_output()
        self.opened = True

    def _await_output(self) -> None:
        asyncio.get_running_loop().add_reader(self._reading, self._take_and_pause)

    def _take_and_pause(self) -> None:
        """A chatty agent wakes us a few times a second and not at every line; the pipe holds on."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._reading)
        self.take_what_is_there()
        self._pause = loop.call_later(_PAUSE_SECONDS, self._await_output)

    def close(self) -> None:
        """Take what is left, then let go. Wakes readers for the last time."""
        if self.ended or not self.opened:
            return
        asyncio.get_running_loop().remove_reader(self._reading)
        if self._pause is not None:
            self._pause.cancel()
        self.take_what_is_there()
        if self._partial:
            self._write(b"\n")
        self.ended = True
        os.close(self._reading)
        self._file.close()
        self._wake()

    def say(self, text: str) -> None:
        """A line of the platform's own, after what the agent has said by now."""
        self.take_what_is_there()
        if self._partial:
            self._write(b"\n")
        self._write(f"[freehold] {text}\n".encode())

    def take_what_is_there(self) -> None:
        """Now, and not when the loop comes to it: an agent's last words, before they are quoted."""
        if not self.opened or self.ended:
            return
        for _ in range(_READS_MAX):
            if not self._drain():
                return

    def _drain(self) -> bool:
        try:
            data = os.read(self._reading, _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._write(data)
        return bool(data)

    def _write(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _LINE_BYTES_MAX:
            lines.append(self._partial)
            self._partial = b""
        if not lines:
            return
        stamp = now().isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
        text = b"".join(stamp + b" " + line[:_LINE_BYTES_MAX] + b"\n" for line in lines)
        if self._size + len(text) > self._half_max:
            self._rotate()
        self._file.write(text)
        self._size += len(text)
        self._wake()

    def _rotate(self) -> None:
        self._file.close()
        self.path.replace(older(self.path))
        self._file = self.path.open("ab", buffering=0)
        self._size = 0

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, lines_tail: int) -> AsyncIterator[list[str]]:
        """The last lines, then each batch of new ones, until the session ends."""
        news, position = self._news, self._size
        if batch := tail(self.path, lines_tail):
            yield batch
        inode = self.path.stat().st_ino
        while True:
            if self._size > position or self.path.stat().st_ino != inode:
                batch, position, inode = _since(self.path, position, inode)
                if batch:
                    yield batch
                news = self._news
                continue
            if self.ended:
                return
            await news.wait()
            news = self._news


def older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def tail(path: Path, lines_max: int) -> list[str]:
    """The last lines of a log, its older half included."""
    lines: list[str] = []
    for part in (path, older(path)):
        with contextlib.suppress(FileNotFoundError):
            lines = part.read_text(errors="replace").splitlines() + lines
        if len(lines) >= lines_max:
            break
    return lines[-lines_max:] if lines_max else []


def _since(path: Path, position: int, inode: int) -> tuple[list[str], int, int]:
    """Lines after a position, across at most one rotation."""
    found = b""
    if path.stat().st_ino != inode:
        with contextlib.suppress(FileNotFoundError), older(path).open("rb") as old:
            if os.fstat(old.fileno()).st_ino == inode:
                old.seek(position)
                found = old.read()
        position = 0
    with path.open("rb") as file:
        file.seek(position)
        fresh = file.read()
        inode = os.fstat(file.fileno()).st_ino
    return (found + fresh).decode(errors="replace").splitlines(), position + len(fresh), inode


def log_path(logs: Path, tenant: str, runtime_id: str, sandbox_id: str) -> Path:
    return logs / tenant / runtime_id / f"{sandbox_id}.log"


def prune(logs: Path, *, days: int) -> None:
    """Removes what was last written to longer ago. A live session's log stays open, and goes on."""
    oldest = time.time() - days * 86_400
    for path in logs.glob("*/*/*.log*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
