"""The state directory: what lies where, who holds it, and how clients on this machine connect."""

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import stat
import tempfile
from pathlib import Path

import msgspec

CONNECTION_FILE = "connection.json"
_SOCKET_PATH_BYTES_MAX = 90
"""The kernel's limit is 107; the longest name that we put below `run` needs the rest."""

_FREE_BYTES_MIN = 200 << 20
"""An empty database alone takes 50 MB, and its log as much again."""


class AlreadyRunning(Exception):
    """Another `freehold up` holds this state directory."""


class StateUnusable(Exception):
    """The directory cannot hold our state; the message says why, in one line."""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """What a client on this machine needs. The file is its owner's alone."""

    endpoint: str
    region: str
    account: str
    access_key_id: str
    secret_access_key: str
    ca_certificate: str | None = None
    """The file to check the endpoint's certificate with, where it is an authority of our own."""

    def __repr__(self) -> str:
        return f"Connection({self.endpoint}, {self.access_key_id})"


# -- who holds it


class StateLock:
    """One platform for each state directory: the kernel frees the lock whenever its holder dies."""

    def __init__(self, state: Path) -> None:
        try:
            state.mkdir(parents=True, exist_ok=True)
            self._file = (state / "lock").open("a+")
        except OSError as error:
            raise StateUnusable(f"cannot keep state in {state}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            raise AlreadyRunning(
                f"Freehold runs on {state} already{f' (process {holder})' if holder else ''}. "
                "Stop it first, or choose another directory with --state."
            ) from None
        try:
            self._write(str(os.getpid()))
        except OSError as error:
            raise StateUnusable(f"cannot write to {state}: {error.strerror}") from error

    def release(self) -> None:
        with contextlib.suppress(OSError):
            self._write("")
        self._file.close()

    def _write(self, text: str) -> None:
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()


def holder(state: Path) -> int | None:
    """The process of the platform that runs on it, as far as we may look."""
    try:
        with (state / "lock").open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0)
    except (OSError, ValueError):
        return None
    return None


class ProcessLock:
    """Held by the node and by each worker for as long as they live.

    A supervisor that was killed leaves them ending in their own time: the next one waits for that.
    """

    def __init__(self, state: Path, name: str) -> None:
        """Raises BlockingIOError while an earlier process of that name lives."""
        path = _processes(state) / name
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)


async def end_earlier_run(state: Path, *, seconds_max: float) -> list[str]:
    """Waits for what a killed supervisor left, then kills it. The names of what was found.

    Raises StateUnusable when something does not even die.
    """
    directory = _processes(state)
    found = [path for path in sorted(directory.glob("*")) if _is_held(path)]
    await asyncio.gather(*(_outlive(path, seconds_max) for path in found))
    for path in directory.glob("*"):
        path.unlink()
    return [path.name for path in found]


async def _outlive(path: Path, seconds_max: float) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    waiting = asyncio.ensure_future(asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX))
    try:
        done, _ = await asyncio.wait([waiting], timeout=seconds_max)
        if not done:
            pid = int(os.pread(descriptor, 32, 0) or b"0")
            if pid:  # whoever holds the lock lives, so that its number is still its own
                os.kill(pid, signal.SIGKILL)
            done, _ = await asyncio.wait([waiting], timeout=5)
        if not done:
            raise StateUnusable(f"{path.name} (process {pid}) of an earlier run does not end")
    finally:
        if waiting.done():
            os.close(descriptor)


def _is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _processes(state: Path) -> Path:
    return state / "processes"


# -- what lies where


def prepare(state: Path) -> None:
    """Make the directory. Sandboxes pass through it as other users: not listable, but passable.

    Raises StateUnusable.
    """
    try:
        state.chmod(0o711)
        for name in ("sessions", "sandboxes", "builds", "interpreters"):
            (state / name).mkdir(mode=0o711, exist_ok=True)
        for name in ("logs", "spool", "keys", "blobs", "processes"):
            (state / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StateUnusable(f"cannot keep state in {state}: {error.strerror}") from error
    free = shutil.disk_usage(state).free
    if free < _FREE_BYTES_MIN and not (state / "postgres" / "data").exists():
        raise StateUnusable(
            f"{state} has {free >> 20} MiB free; a new one needs at least {_FREE_BYTES_MIN >> 20}"
        )


def closed_to_others(state: Path) -> Path | None:
    """The folder that keeps other users from passing through to `state`, if there is one."""
    for folder in (state.resolve(), *state.resolve().parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def node_name(state: Path) -> str:
    """Names this machine's node in the database: the same at every start, no other one's."""
    path = state / "node"
    with contextlib.suppress(FileNotFoundError):
        if name := path.read_text().strip():
            return name
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    fresh = path.with_suffix(".new")
    fresh.write_text(name)
    fresh.replace(path)
    return name


def run_directory(state: Path) -> Path:
    """An empty private directory for sockets, with a path short enough for them."""
    run = state / "run"
    discard_run_directory(state)
    if len(os.fsencode(run)) <= _SOCKET_PATH_BYTES_MAX:
        run.mkdir(mode=0o700)
        return run
    elsewhere = Path(tempfile.mkdtemp(prefix="freehold-run-"))
    run.symlink_to(elsewhere)  # a killed supervisor's is found by it, and removed
    return elsewhere


def discard_run_directory(state: Path) -> None:
    """Where it is elsewhere, only what is ours and nobody else's."""
    run = state / "run"
    if run.is_symlink():
        elsewhere = run.readlink()
        with contextlib.suppress(FileNotFoundError):
            status = elsewhere.lstat()
            if status.st_uid == os.geteuid() and stat.S_ISDIR(status.st_mode):
                shutil.rmtree(elsewhere, ignore_errors=True)
        run.unlink()
    else:
        shutil.rmtree(run, ignore_errors=True)


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
        known = {k: v for k, v in msgspec.structs.asdict(connection).items() if v is not None}
        json.dump(known, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return path
