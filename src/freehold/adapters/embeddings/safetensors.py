"""Reading the safetensors format: a length, a JSON header, then the tensors' bytes."""

import math
import mmap
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

_HEADER_BYTES_MAX = 1 << 20
_TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
}

Tensors = dict[str, np.ndarray[Any, np.dtype[Any]]]


class NotSafetensors(ValueError):
    """The file is not what its name says."""


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_safetensors(path: Path) -> Tensors:
    """Tensors over a read-only map of the file: only what is used is read from the disk."""
    if path.stat().st_size < 8:
        raise NotSafetensors(f"{path.name} has no header")
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    length = int.from_bytes(content[:8], "little")
    start = 8 + length
    if length > _HEADER_BYTES_MAX or start > len(content):
        raise NotSafetensors(f"{path.name} has no header")
    try:
        header = msgspec.json.decode(content[8:start], type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(raw, type=_Entry) for name, raw in header.items()}
    except msgspec.DecodeError as error:
        raise NotSafetensors(f"{path.name}: {error}") from error
    return {
        name: _tensor(content, start, name, entry)
        for name, entry in entries.items()
        if entry.dtype in _TYPES
    }


def _tensor(
    content: mmap.mmap, start: int, name: str, entry: _Entry
) -> np.ndarray[Any, np.dtype[Any]]:
    begin, end = entry.data_offsets
    kind, count = _TYPES[entry.dtype], math.prod(entry.shape)
    if not 0 <= begin <= end <= len(content) - start or end - begin != count * kind.itemsize:
        raise NotSafetensors(f"the place of {name} is not in the file")
    flat: np.ndarray[Any, np.dtype[Any]] = np.frombuffer(content, kind, count, start + begin)
    return flat.reshape(entry.shape)
