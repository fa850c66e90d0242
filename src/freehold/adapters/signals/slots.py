"""A file of named numbers that one process writes and others read, without either waiting.

A header (magic, version, the writer's process id, how many slots are in use), then slots of one
size: a float of 64 bits, the name's length, the name. A name is there before it is counted.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HEADER = struct.Struct("<8sIII")
_HEADER_BYTES = 64
_MAGIC = b"FHSIGNAL"
_VERSION = 1
_VALUE, _LENGTH, _COUNT = struct.Struct("<d"), struct.Struct("<H"), struct.Struct("<I")
_COUNT_AT = 16
_SLOT_BYTES = 192
_NAME_AT = _VALUE.size + _LENGTH.size
NAME_BYTES_MAX = _SLOT_BYTES - _NAME_AT
SLOTS_MAX = 16_384
_SIZE = _HEADER_BYTES + SLOTS_MAX * _SLOT_BYTES


class Contents(NamedTuple):
    """`alive`: its writer runs still."""

    alive: bool
    values: dict[str, float]


class Slots:
    """What was counted under this file's name before is counted on: a process that is restarted
    takes up where it was. The file is sparse: it takes what is in use."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            old = os.pread(descriptor, _SIZE, 0)
            self._values = list(_read(old))
            if not self._values and old:
                os.ftruncate(descriptor, 0)
            os.ftruncate(descriptor, _SIZE)
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self.names = {name: place for place, (name, _) in enumerate(self._values)}
        self._numbers = [value for _, value in self._values]
        del self._values
        self._map[: _HEADER.size] = _HEADER.pack(_MAGIC, _VERSION, os.getpid(), len(self._numbers))

    def place(self, name: str) -> int | None:
        """Of a name, known or new. None where there is no room for it."""
        known = self.names.get(name)
        if known is not None:
            return known
        encoded, place = name.encode(), len(self._numbers)
        if len(encoded) > NAME_BYTES_MAX or place >= SLOTS_MAX:
            return None
        at = _HEADER_BYTES + place * _SLOT_BYTES
        _VALUE.pack_into(self._map, at, 0.0)
        _LENGTH.pack_into(self._map, at + _VALUE.size, len(encoded))
        self._map[at + _NAME_AT : at + _NAME_AT + len(encoded)] = encoded
        self._numbers.append(0.0)
        self.names[name] = place
        _COUNT.pack_into(self._map, _COUNT_AT, place + 1)
        return place

    def add(self, place: int, amount: float) -> None:
        self.set(place, self._numbers[place] + amount)

    def set(self, place: int, value: float) -> None:
        self._numbers[place] = value
        _VALUE.pack_into(self._map, _HEADER_BYTES + place * _SLOT_BYTES, value)

    def close(self) -> None:
        self._map.close()


def read(path: Path) -> Contents:
    """Nothing, of a file that is none of ours or is gone."""
    try:
        held = path.read_bytes()
    except FileNotFoundError:
        return Contents(False, {})
    values = dict(_read(held))
    if not values:
        return Contents(False, {})
    _, _, pid, _ = _HEADER.unpack_from(held)
    return Contents(_runs(pid), values)


def _read(held: bytes) -> Iterator[tuple[str, float]]:
    if len(held) < _HEADER_BYTES:
        return
    magic, version, _, count = _HEADER.unpack_from(held)
    if magic != _MAGIC or version != _VERSION:
        return
    for place in range(min(count, (len(held) - _HEADER_BYTES) // _SLOT_BYTES)):
        at = _HEADER_BYTES + place * _SLOT_BYTES
        (value,), (length,) = _VALUE.unpack_from(held, at), _LENGTH.unpack_from(held, at + 8)
        name = held[at + _NAME_AT : at + _NAME_AT + min(length, NAME_BYTES_MAX)]
        yield name.decode(errors="replace"), value


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
