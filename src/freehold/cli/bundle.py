"""A folder as a zip that is the same, byte for byte, for the same files."""

import hashlib
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from freehold.cli.failure import CliError
from freehold.cli.ignore import ALWAYS, Ignore

# AgentCore's own limits for code bundles.
ZIP_BYTES_MAX = 250 << 20
UNPACKED_BYTES_MAX = 750 << 20
_READ_BYTES = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    sha256: str
    files: int
    bytes: int


def write(directory: Path, exclude: tuple[str, ...], target: IO[bytes]) -> Bundle:
    """Zip the folder into `target`, which can be read back. Raises CliError when it may not be."""
    ignore = Ignore([*_ignore_file(directory), *exclude, *ALWAYS])
    paths = sorted(_files(directory, ignore))
    if not paths:
        raise CliError(f"There is nothing to deploy in {directory}.", code="EmptyBundle")
    unpacked = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in paths:
            unpacked += _add(archive, directory, path)
            if unpacked > UNPACKED_BYTES_MAX:
                raise _too_large(directory, "unpacked", UNPACKED_BYTES_MAX)
    size = target.tell()
    if size > ZIP_BYTES_MAX:
        raise _too_large(directory, "zipped", ZIP_BYTES_MAX)
    target.seek(0)
    digest = hashlib.sha256()
    while chunk := target.read(_READ_BYTES):
        digest.update(chunk)
    return Bundle(sha256=digest.hexdigest(), files=len(paths), bytes=size)


def _ignore_file(directory: Path) -> list[str]:
    """.freeholdignore, or .gitignore where there is none."""
    for name in (".freeholdignore", ".gitignore"):
        try:
            return (directory / name).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            continue
    return []


def _files(directory: Path, ignore: Ignore) -> Iterator[str]:
    for folder, folders, names in os.walk(directory):
        base = Path(folder).relative_to(directory)
        kept = []
        for name in folders:
            path = (base / name).as_posix()
            if ignore.matches(path, folder=True):
                continue
            if (directory / path).is_symlink():
                raise CliError(
                    f"{path} is a link to a folder, which a bundle cannot hold: "
                    "exclude it or copy what it names.",
                    code="BadBundle",
                )
            kept.append(name)
        folders[:] = kept
        for name in names:
            path = (base / name).as_posix()
            if not ignore.matches(path, folder=False):
                yield path


def _add(archive: zipfile.ZipFile, directory: Path, path: str) -> int:
    """Add one file; its size. No time and no owner; of the mode only whether it may be run."""
    source = directory / path
    root = directory.resolve()
    if not source.resolve().is_relative_to(root):
        raise CliError(
            f"{path} is a link that leads out of {directory}: exclude it or copy the file.",
            code="BadBundle",
        )
    try:
        mode = source.stat().st_mode
    except FileNotFoundError:
        raise CliError(f"{path} is a link to nothing.", code="BadBundle") from None
    if not stat.S_ISREG(mode):
        raise CliError(f"{path} is no regular file: exclude it.", code="BadBundle")
    entry = zipfile.ZipInfo(path, date_time=_EPOCH)
    entry.create_system = 3  # Unix, whatever runs this
    entry.external_attr = (stat.S_IFREG | (0o755 if mode & stat.S_IXUSR else 0o644)) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    size = 0
    with source.open("rb") as reader, archive.open(entry, "w") as writer:
        while chunk := reader.read(_READ_BYTES):
            writer.write(chunk)
            size += len(chunk)
    return size


def _too_large(directory: Path, how: str, most: int) -> CliError:
    return CliError(
        f"{directory} is larger than {most >> 20} MB {how}.",
        code="BundleTooLarge",
        hint="Leave files out with `exclude` in freehold.toml, .freeholdignore or .gitignore.",
    )
