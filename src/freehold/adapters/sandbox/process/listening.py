"""Who on this machine listens on a TCP port."""

import contextlib
from pathlib import Path

import msgspec

_LISTEN = "0A"


def sockets(port: int) -> set[int]:
    """Inodes of the sockets that listen on `port`, whoever's they are."""
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(int(fields[9]))
    return found


class Held(msgspec.Struct, frozen=True):
    """A process's descriptor of a socket: the entry in /proc, and what it links to."""

    descriptor: str
    socket: str

    @property
    def still(self) -> bool:
        try:
            return str(Path(self.descriptor).readlink()) == self.socket
        except OSError:
            return False


def held_by(pids: list[int], inodes: set[int]) -> Held | None:
    """One of the sockets that one of the processes holds."""
    names = {f"socket:[{inode}]" for inode in inodes}
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    name = str(entry.readlink())
                    if name in names:
                        return Held(str(entry), name)
    return None
