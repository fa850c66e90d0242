"""Chunks of an open file, read by threads."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from freehold.kernel.errors import PlatformFailed

_CHUNK_BYTES = 512 * 1024


class Reading:
    """An async iterator over the bytes `start` to `stop`.

    Make it in a thread: it reads the first chunk at once, so that a small blob costs no second hop.
    The descriptor is closed after the last byte, by aclose(), or when nobody holds it any more.
    """

    def __init__(self, descriptor: int, start: int, stop: int, pool: ThreadPoolExecutor) -> None:
        self._file: _File | None = _File(descriptor)
        self._at = start
        self._stop = stop
        self._pool = pool
        self._first = self._read(self._file)

    def __aiter__(self) -> "Reading":
        return self

    async def __anext__(self) -> bytes:
        chunk, self._first = self._first, b""
        if not chunk and self._file is not None:
            loop = asyncio.get_running_loop()
            chunk = await loop.run_in_executor(self._pool, self._read, self._file)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        self._file = None
        self._first = b""

    def _read(self, file: "_File") -> bytes:
        wanted = min(_CHUNK_BYTES, self._stop - self._at)
        chunk = os.pread(file.descriptor, wanted, self._at) if wanted > 0 else b""
        if wanted > 0 and not chunk:
            raise PlatformFailed("the bytes of this object are cut short")
        self._at += len(chunk)
        if self._at >= self._stop:
            self._file = None
        return chunk


class _File:
    """Closes with its last reference: a thread that still reads holds one."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)
