"""Platforms that are killed, and what is then found on the machine."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from running import RunningPlatform, until

UP_SECONDS_MAX = 180


class FaultyPlatform(RunningPlatform):
    """One that may be killed in part or as a whole, and started again on what is left."""

    def kill(self, *kinds: str) -> None:
        """SIGKILL, all at the same moment. "up" is the supervisor."""
        assert self.process is not None
        pids = [p for k in kinds for p in ([self.process.pid] if k == "up" else self.pids(k))]
        assert len(pids) >= len(kinds), f"of {kinds} only {pids} run"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        if "up" in kinds:
            self.process.wait(10)
            assert self.process.stdout is not None
            self.process.stdout.close()

    def replaced(self, kind: str, old: int, *, seconds_max: float = 30) -> int:
        """The process of that kind after the one that was killed, once it is ready for work."""

        def fresh() -> int | None:
            with contextlib.suppress(OSError, IndexError, ValueError):
                pids = [pid for pid in self.pids(kind) if pid != old]
                return pids[0] if pids and self._ready(kind, pids[0]) else None
            return None

        return int(until(fresh, seconds_max=seconds_max))

    def _ready(self, kind: str, pid: int) -> bool:
        if kind == "postgres":
            lines = (self.state / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[7].strip() == "ready"
        return any("node.sock" in target or "doorway" in target for target in sockets_of(pid))

    def launch(self) -> None:
        """Not waited for."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "freehold.cli", "up", "--state", str(self.state), "--port", "0"],
            env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def restart(self) -> "FaultyPlatform":
        self.start()
        return self

    def sessions(self, **query: Any) -> list[dict[str, Any]]:
        return list(self.own("/sessions", **{"status": "all", **query})["sessions"])

    def remains(self) -> list[str]:
        """What of this platform is on the machine, its files apart."""
        return [*self._processes(), *self._groups(), *self._mounts(), *self._sockets()]

    def _processes(self) -> Iterator[str]:
        needle = str(self.state) + "/"
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                places = [f"{(entry / 'cwd').readlink()}/", words]
                for fd in (entry / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        places.append(str(fd.readlink()))
                if any(needle in place for place in places) and int(entry.name) != os.getpid():
                    yield f"process {entry.name}: {words[:120]}"

    def _groups(self) -> Iterator[str]:
        name = "freehold-" + hashlib.sha256(os.fsencode(self.state)).hexdigest()[:12]
        for folder, children, _ in os.walk("/sys/fs/cgroup"):
            yield from (f"{folder}/{child}" for child in children if child.startswith(name))

    def _mounts(self) -> Iterator[str]:
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if str(self.state) in line:
                yield f"mount {line}"

    def _sockets(self) -> Iterator[str]:
        for line in Path("/proc/net/unix").read_text().splitlines():
            if str(self.state) in line:
                yield f"socket {line.split()[-1]}"

    def session_directories(self) -> list[str]:
        return sorted(path.name for path in (self.state / "sessions").iterdir())


MakePlatform = Callable[..., FaultyPlatform]
"""Settings -> a platform that has started."""


def sockets_of(pid: int) -> list[str]:
    """Paths of the unix sockets that a process listens on or is connected to."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(fd.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        words = line.split()
        if len(words) == 8 and words[6] in inodes:
            found.append(words[7])
    return found


def up(
    state: Path, *arguments: str, seconds_max: float = UP_SECONDS_MAX, **environment: str
) -> Any:
    """`freehold up` that is expected to fail: what it says, and how it ends."""
    return subprocess.run(
        [sys.executable, "-m", "freehold.cli", "up", "--state", str(state), *arguments],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("FREEHOLD_")},
            "FREEHOLD_DATABASE_DURABLE": "false",
            **environment,
        },
        capture_output=True, text=True, timeout=seconds_max, check=False,
    )  # fmt: skip
