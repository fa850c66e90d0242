"""What a driver writes down of each sandbox, so that a later process of ours knows it again."""

import contextlib
import re
import secrets
from pathlib import Path

import msgspec

from freehold.adapters.sandbox import processes
from freehold.adapters.sandbox.processes import ProcessId
from freehold.ports.sandbox import SandboxFailed

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Record(msgspec.Struct, kw_only=True):
    """Written before the first process starts, and again when the processes are known.

    `mark` is in the environment of what the driver starts, and finds it when a pid was never
    written. `cgroup` names the sandbox's group. `ports` maps a port that was asked for to the one
    that listens on the host (process tier). `template`: what it was forked off.
    """

    id: str
    directory: str
    boot: str
    mark: str
    uid: int | None = None
    cgroup: str | None = None
    monitor: ProcessId | None = None
    init: ProcessId | None = None
    ports: dict[int, int] = {}
    writable: tuple[str, ...] = ()
    template: str | None = None

    @property
    def of_this_boot(self) -> bool:
        return self.boot == processes.boot_id()


def new(sandbox_id: str, directory: str) -> Record:
    if not _ID.fullmatch(sandbox_id):
        raise SandboxFailed(f"{sandbox_id!r} cannot name a sandbox: up to 128 of A-Z a-z 0-9 . _ -")
    return Record(
        id=sandbox_id,
        directory=directory,
        boot=processes.boot_id(),
        mark=secrets.token_hex(8),
    )


class Records:
    """One file for each sandbox in a directory of the driver's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._uids: dict[str, int | None] | None = None

    def save(self, record: Record) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(record.id)
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(msgspec.json.encode(record))
        # No fsync: a crash of ours keeps the page cache, and a reboot ends the sandbox as well.
        fresh.replace(path)
        if self._uids is not None:
            self._uids[record.id] = record.uid

    def load(self, sandbox_id: str) -> Record | None:
        try:
            return msgspec.json.decode(self._path(sandbox_id).read_bytes(), type=Record)
        except FileNotFoundError:
            return None

    def forget(self, sandbox_id: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path(sandbox_id).unlink()
        if self._uids is not None:
            self._uids.pop(sandbox_id, None)

    def uids(self) -> set[int | None]:
        """Of all that are recorded. Read once: with many sandboxes it would be most of a start."""
        if self._uids is None:
            self._uids = {record.id: record.uid for record in self.all()}
        return set(self._uids.values())

    def all(self) -> list[Record]:
        if not self._directory.is_dir():
            return []
        loaded = (self.load(path.stem) for path in sorted(self._directory.glob("*.json")))
        return [record for record in loaded if record]

    def _path(self, sandbox_id: str) -> Path:
        return self._directory / f"{sandbox_id}.json"
