"""A folder as one stream of bytes: how a writable mount goes back to the host."""
# ruff: noqa: PTH123, PTH115

from __future__ import annotations

import os
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

HEADER = struct.Struct("<BHHQ")  # kind, mode, bytes of the name, bytes of content
FOLDER, FILE, LINK, END = range(4)
_CHUNK_BYTES = 1 << 16


def write(root: str, out: BinaryIO) -> None:
    """Folders before what is in them. The root is not among them. What is no file is left out."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118
            status = os.lstat(path)
            inside = os.fsencode(os.path.relpath(path, root))
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISLNK(status.st_mode):
                target = os.fsencode(os.readlink(path))
                out.write(HEADER.pack(LINK, mode, len(inside), len(target)) + inside + target)
            elif stat.S_ISDIR(status.st_mode):
                out.write(HEADER.pack(FOLDER, mode, len(inside), 0) + inside)
            elif stat.S_ISREG(status.st_mode):
                out.write(HEADER.pack(FILE, mode, len(inside), status.st_size) + inside)
                _write_file(path, status.st_size, out)
    out.write(HEADER.pack(END, 0, 0, 0))


def _write_file(path: str, size: int, out: BinaryIO) -> None:
    with open(path, "rb") as file:
        while size:
            chunk = file.read(min(size, _CHUNK_BYTES))
            if not chunk:
                raise OSError(f"{path} shrank")
            out.write(chunk)
            size -= len(chunk)
