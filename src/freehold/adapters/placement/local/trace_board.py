"""`ports.trace_board` in a file that all workers of the machine have mapped.

Slots of 64 bytes in sets of four, the set by a hash of the sandbox's id. A slot is written in one
piece with a checksum over it: whoever reads one that is just being written takes it for empty. In
a full set the oldest gives way. Nothing locks, and nothing here outlives its use by much: an entry
is no longer believed after ten hours, which is more than an invocation may take.
"""

import hashlib
import mmap
import os
import struct
import time
import zlib
from pathlib import Path

from freehold.kernel.tracing import Context

_SETS = 4096
_WAYS = 4
_SLOT = struct.Struct("<16s16s8sQI")  # whose, trace, span, when (ms), checksum
_SLOT_BYTES = 64
_SET_BYTES = _WAYS * _SLOT_BYTES
_CHECKED_BYTES = _SLOT.size - 4
_EMPTY = bytes(_SLOT.size)
_BELIEVED_MS = 10 * 3600 * 1000

_Found = tuple[bytes, bytes, bytes, int]


class FileTraceBoard:
    """Opened by each worker for itself; the first one makes the file."""

    def __init__(self, path: Path) -> None:
        size_bytes = _SETS * _SET_BYTES
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size_bytes)  # zeros, where it is new; else as it is
            self._memory = mmap.mmap(descriptor, size_bytes)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self._memory.close()

    def show(self, sandbox_id: str, context: Context) -> None:
        key = _key(sandbox_id)
        at = self._place(key)
        head = _SLOT.pack(
            key, bytes.fromhex(context.trace_id), bytes.fromhex(context.span_id), _now_ms(), 0
        )[:_CHECKED_BYTES]
        self._memory[at : at + _SLOT.size] = head + zlib.crc32(head).to_bytes(4, "little")

    def clear(self, sandbox_id: str, context: Context) -> None:
        found = self._find(_key(sandbox_id))
        if found is not None and found[1][2].hex() == context.span_id:
            self._memory[found[0] : found[0] + _SLOT.size] = _EMPTY

    def read(self, sandbox_id: str) -> Context | None:
        found = self._find(_key(sandbox_id))
        if found is None or _now_ms() - found[1][3] > _BELIEVED_MS:
            return None
        _, (_, trace, span, _) = found
        return Context(trace_id=trace.hex(), span_id=span.hex())

    def _find(self, key: bytes) -> tuple[int, _Found] | None:
        start = _set_of(key)
        for at in range(start, start + _SET_BYTES, _SLOT_BYTES):
            if self._memory[at : at + 16] == key and (slot := self._slot(at)) is not None:
                return at, slot
        return None

    def _place(self, key: bytes) -> int:
        """Its own slot, else an empty one, else the oldest of its set."""
        start = _set_of(key)
        oldest, oldest_at = -1, start
        for at in range(start, start + _SET_BYTES, _SLOT_BYTES):
            slot = self._slot(at)
            when = 0 if slot is None else slot[3]
            if slot is not None and slot[0] == key:
                return at
            if oldest < 0 or when < oldest:
                oldest, oldest_at = when, at
        return oldest_at

    def _slot(self, at: int) -> _Found | None:
        raw = self._memory[at : at + _SLOT.size]
        key, trace, span, when, checksum = _SLOT.unpack(raw)
        if raw == _EMPTY or zlib.crc32(raw[:_CHECKED_BYTES]) != checksum:
            return None
        return key, trace, span, when


def _key(sandbox_id: str) -> bytes:
    return hashlib.blake2b(sandbox_id.encode(), digest_size=16).digest()


def _set_of(key: bytes) -> int:
    return int.from_bytes(key[:2], "little") % _SETS * _SET_BYTES


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
