"""A function's zip and our bootstrap, as the bundle of an agent runtime."""

import hashlib
import tempfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from freehold.kernel.errors import ValidationFailed

ZIP_BYTES_MAX = 50 << 20
UNPACKED_BYTES_MAX = 250 << 20
_FILES_MAX = 50_000
_IN_MEMORY_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_SUFFIXES = {"PYTHON": (".py", "/__init__.py"), "NODE": (".mjs", ".js", ".cjs")}
_EPOCH = (1980, 1, 1, 0, 0, 0)


async def gathered(chunks: AsyncIterator[bytes]) -> IO[bytes]:
    """Raises ValidationFailed for more than a bundle may be."""
    gathered = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - returned
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > ZIP_BYTES_MAX:
            gathered.close()
            raise ValidationFailed(f"code: larger than {ZIP_BYTES_MAX >> 20} MB")
        gathered.write(chunk)
    return gathered


def digest(file: IO[bytes]) -> str:
    """For a thread."""
    file.seek(0)
    found = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        found.update(chunk)
    return found.hexdigest()


def entry_point(runtime: str) -> str:
    return f"_freehold_function{_bootstrap(runtime).suffix}"


def _bootstrap(runtime: str) -> Path:
    suffix = ".mjs" if _kind(runtime) == "NODE" else ".py"
    return Path(__file__).with_name(f"bootstrap{suffix}")


def _kind(runtime: str) -> str:
    return runtime.partition("_")[0]


def add_bootstrap(file: IO[bytes], runtime: str, handler: str) -> None:
    """In place; for a thread. Raises ValidationFailed for what is no bundle with this handler."""
    file.seek(0)
    try:
        with zipfile.ZipFile(file, "a") as archive:
            _check(archive, runtime, handler)
            entry = zipfile.ZipInfo(entry_point(runtime), date_time=_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, _bootstrap(runtime).read_bytes())
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
        raise ValidationFailed(f"code: no zip that can be read ({error})") from None


def _check(archive: zipfile.ZipFile, runtime: str, handler: str) -> None:
    entries = archive.infolist()
    if len(entries) > _FILES_MAX:
        raise ValidationFailed(f"code: more than {_FILES_MAX} files")
    if sum(entry.file_size for entry in entries) > UNPACKED_BYTES_MAX:
        raise ValidationFailed(f"code: more than {UNPACKED_BYTES_MAX >> 20} MB unpacked")
    names = {entry.filename for entry in entries}
    own = entry_point(runtime)
    if own in names:
        raise ValidationFailed(f"code: {own} is the platform's own; name yours otherwise")
    suffixes = _SUFFIXES[_kind(runtime)]
    module = handler.rpartition(".")[0]
    if _kind(runtime) == "PYTHON":
        module = module.replace(".", "/")
    if not {module + suffix for suffix in suffixes} & names:
        raise ValidationFailed(
            f"handler {handler!r}: there is no {module}{suffixes[0]} in the zip. The zip holds the "
            "files themselves, not the folder around them"
        )


async def in_chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
