"""The server's process: held by a pidfd, so that a recycled process id is never signalled."""

import asyncio
import errno
import os
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

from freehold.kernel.errors import PlatformFailed


class ServerProcess:
    """A process that we started or found. Made inside the running event loop.

    Its end is an event of the loop (the pidfd becomes readable): nothing polls.
    """

    def __init__(
        self, pid: int, pidfd: int, child: "subprocess.Popen[bytes] | None" = None
    ) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._child = child
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pidfd, self._end)

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                return  # it ends just now: the loop will hear of it

    async def wait(self) -> None:
        await self._ended.wait()

    async def ended_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.wait()
        except TimeoutError:
            return False
        return True

    def _end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if self._child is not None:
            self._child.wait()  # it has ended: reaps at once
        os.close(self._pidfd)
        self._ended.set()


class PidFile(NamedTuple):
    """What `postmaster.pid` says; `socket_directory` may be empty while the server starts."""

    pid: int
    socket_directory: str
    ready: bool

    @classmethod
    def read(cls, data: Path) -> "PidFile | None":
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        if not lines or not lines[0].strip().lstrip("-").isdigit():
            return None
        padded = [line.strip() for line in lines] + [""] * 8
        return cls(abs(int(padded[0])), padded[4], padded[7] == "ready")


def start(
    arguments: list[str],
    *,
    log: Path,
    identity: dict[str, object],
    environment: dict[str, str],
) -> ServerProcess:
    """A server in a session of its own: Ctrl-C at the terminal must not stop it before us."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        child: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=environment,
            start_new_session=True,
            **identity,
        )
    except OSError as error:
        raise PlatformFailed(f"cannot run {arguments[0]}: {error}") from error
    finally:
        os.close(descriptor)
    pidfd = _pidfd(child.pid)
    assert pidfd is not None, "a child that is not waited for keeps its number"
    return ServerProcess(child.pid, pidfd, child)


def adopt(data: Path) -> ServerProcess | None:
    """The server that runs on `data`, whoever started it."""
    recorded = PidFile.read(data)
    return _hold(recorded.pid, data) if recorded else None


def left_over(data: Path) -> list[ServerProcess]:
    """Server processes on `data` that lost their postmaster: they hold its shared memory."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [held for pid in pids if (held := _hold(pid, data)) is not None]


def _hold(pid: int, data: Path) -> ServerProcess | None:
    """Holds `pid` when it is a PostgreSQL process that works in `data`.

    The pidfd comes first: what is then read in /proc is of that process or of none.
    """
    pidfd = _pidfd(pid)
    if pidfd is None:
        return None
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        directory = str(Path(f"/proc/{pid}/cwd").readlink())
        signal.pidfd_send_signal(pidfd, 0)
    except OSError:
        name = directory = ""
    if name == "postgres" and directory == str(data):
        return ServerProcess(pid, pidfd)
    os.close(pidfd)
    return None


def _pidfd(pid: int) -> int | None:
    """None where no process has that number (a thread may). Refused by the kernel: an error.

    Taking a refusal for an absence would start a second server on the data.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
            return None
        raise PlatformFailed(
            f"the kernel refuses pidfd_open ({error}): Linux 5.3 or newer is needed, and a "
            "container's seccomp profile must let it pass"
        ) from error
