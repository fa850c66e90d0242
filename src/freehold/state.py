"""The state directory: what lies where, and the file that tells clients how to connect."""

import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import msgspec

CONNECTION_FILE = "connection.json"
_SOCKET_PATH_BYTES_MAX = 90
"""The kernel's limit is 107; the longest name that we put below `run` needs the rest."""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """What a client on this machine needs. The file is its owner's alone."""

    endpoint: str
    region: str
    account: str
    access_key_id: str
    secret_access_key: str

    def __repr__(self) -> str:
        return f"Connection({self.endpoint}, {self.access_key_id})"


def prepare(state: Path) -> None:
    """Make the directory. Sandboxes pass through it as other users: not listable, but passable."""
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o711)
    for name in ("sessions", "sandboxes", "builds", "interpreters"):
        (state / name).mkdir(mode=0o711, exist_ok=True)
    for name in ("logs", "spool", "keys", "blobs"):
        (state / name).mkdir(mode=0o700, exist_ok=True)


def run_directory(state: Path) -> Path:
    """An empty private directory for sockets, with a path short enough for them."""
    run = state / "run"
    if len(os.fsencode(run)) > _SOCKET_PATH_BYTES_MAX:
        return Path(tempfile.mkdtemp(prefix="freehold-run-"))
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(mode=0o700)
    return run


def read_connection(state: Path) -> Connection | None:
    try:
        return msgspec.json.decode((state / CONNECTION_FILE).read_bytes(), type=Connection)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_connection(state: Path, connection: Connection) -> Path:
    """Replaced whole, readable to the owner alone from its first byte."""
    path = state / CONNECTION_FILE
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "w") as file:
        json.dump(msgspec.structs.asdict(connection), file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return path
