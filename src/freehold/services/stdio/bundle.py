"""The operator's directory and our bootstrap, as the bundle of an agent runtime."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from freehold.services.stdio.model import StdioServer

_CHUNK_BYTES = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
_IN_MEMORY_BYTES = 4 << 20
_LEFT_OUT = frozenset({".git", "__pycache__"})
_NAME = "_freehold_stdio"


def entry_point(runtime: str) -> str:
    return f"{_NAME}{_bootstrap(runtime).suffix}"


def _bootstrap(runtime: str) -> Path:
    suffix = ".mjs" if runtime.startswith("NODE") else ".py"
    return Path(__file__).with_name(f"bootstrap{suffix}")


def bundled(server: StdioServer) -> tuple[IO[bytes], str]:
    """The zip, and a digest that is the same wherever the same files are. For a thread."""
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - returned
    digest = hashlib.sha256()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in _files(Path(server.directory)):
            _add(archive, digest, name, path)
        _add(archive, digest, entry_point(server.runtime), _bootstrap(server.runtime))
    return file, digest.hexdigest()


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    """In the order of their names. Links to files are followed: npm's commands are some."""
    found = []
    for root, folders, files in os.walk(directory):
        folders[:] = [each for each in folders if each not in _LEFT_OUT]
        paths = (Path(root) / name for name in files)
        found += [(str(p.relative_to(directory)), p) for p in paths if p.is_file()]
    yield from sorted(found)


def _add(archive: zipfile.ZipFile, digest: "hashlib._Hash", name: str, path: Path) -> None:
    executable = os.access(path, os.X_OK)
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o100755 if executable else 0o100644) << 16
    digest.update(f"{name}\0{executable}\0{path.stat().st_size}\0".encode())
    with path.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)


async def in_chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
