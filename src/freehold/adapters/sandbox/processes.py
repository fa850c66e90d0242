"""Processes that must be recognised again, watched and ended, whoever started them."""

import asyncio
import contextlib
import os
import select
import signal
import time
from pathlib import Path
from typing import Protocol

import msgspec

MARK_VARIABLE = "FREEHOLD_SANDBOX"

_KILL_ROUNDS_MAX = 500
_KILL_PAUSE_SECONDS = 0.002


class ProcessId(msgspec.Struct, frozen=True):
    """A pid alone is reused; with its start time (clock ticks since boot) it is not."""

    pid: int
    started: int


def identify(pid: int) -> ProcessId:
    """Raises ProcessLookupError when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error
    # The name in parentheses may hold anything, so fields are counted from its end.
    return ProcessId(pid, int(stat.rpartition(")")[2].split()[19]))


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def send_to_child(parent: int, child: int, number: signal.Signals) -> None:
    """Nothing happens when it is not a child of `parent` any more."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(child)
        try:
            if child in children(parent):
                signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def marked(mark: str) -> list[int]:
    """Live processes that were started with `mark` in their environment, as far as we may look."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if _is_marked(pid, mark)]


def _is_marked(pid: int, mark: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARK_VARIABLE}={mark}".encode() in environment.split(b"\0")


def signal_marked(mark: str, number: signal.Signals) -> bool:
    """Whether there was any."""
    found = marked(mark)
    for pid in found:
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid)
            try:
                if _is_marked(pid, mark):  # still the same one, now that the pidfd pins it
                    signal.pidfd_send_signal(pidfd, number)
            finally:
                os.close(pidfd)
    return bool(found)


def kill_marked(mark: str) -> None:
    """Until none is left, with what they fork meanwhile. Blocks for milliseconds."""
    for _ in range(_KILL_ROUNDS_MAX):
        if not signal_marked(mark, signal.SIGKILL):
            return
        time.sleep(_KILL_PAUSE_SECONDS)  # the dying are seen for a moment


class Child(Protocol):
    """What tells a process's exit code: a `Popen`, or whoever else is told it."""

    pid: int
    returncode: int | None

    def wait(self) -> int: ...


class Watch:
    """One process held by a pidfd: its exit is an event, and a signal never hits a stranger."""

    def __init__(self, process: ProcessId, pidfd: int, child: Child | None):
        self.process = process
        self._pidfd = pidfd
        self._child = child
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int | None] = self._loop.create_future()
        """The exit code as subprocess gives it; None when the process is not our child."""
        self._loop.add_reader(pidfd, self._on_exit)

    @classmethod
    def child(cls, child: Child) -> "Watch":
        return cls(identify(child.pid), os.pidfd_open(child.pid), child)

    @classmethod
    def found(cls, process: ProcessId) -> "Watch | None":
        """The process of that pid and start time, or None when it is gone."""
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return None
        with contextlib.suppress(ProcessLookupError):
            if identify(process.pid) == process and not _has_exited(pidfd):
                return cls(process, pidfd, None)
        os.close(pidfd)
        return None

    def _on_exit(self) -> None:
        # A readable pidfd means that the process is a zombie: this wait returns at once.
        code = self._child.wait() if self._child else None
        self._release()
        if not self.exited.done():
            self.exited.set_result(code)

    def send(self, number: signal.Signals) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    @property
    def alive(self) -> bool:
        return self._pidfd >= 0 and not _has_exited(self._pidfd)

    async def gone(self, seconds_max: float) -> bool:
        done, _ = await asyncio.wait([self.exited], timeout=seconds_max)
        return bool(done)

    def close(self) -> None:
        """Stop watching. The process goes on."""
        self._release()
        if self._child and self._child.returncode is None:
            # Popen would warn about a child that was left running, which is what is wanted here.
            self._child.returncode = 0
        self.exited.cancel()

    def _release(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _has_exited(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
