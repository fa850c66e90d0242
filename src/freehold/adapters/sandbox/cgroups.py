"""Limits and meters: one control group for each sandbox, on cgroup v2 or v1.

A group is made under the one that this process is in, so that whoever limits the platform limits
its sandboxes too. On v1 the controllers are hierarchies of their own, and a v2 hierarchy without
controllers ("hybrid") still freezes and kills. What the machine does not offer is left out, and
`Cgroups.missing` names it.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterable
from pathlib import Path

from freehold.ports.sandbox import Limits

_CPU_PERIOD_US = 100_000
_NEEDED = ("memory", "pids", "cpu")
_REMOVE_ATTEMPTS = 400
_REMOVE_PAUSE_SECONDS = 0.005


class Group:
    """One sandbox's group: a directory per controller (v1), or the same one for all (v2)."""

    def __init__(self, directories: dict[str, Path], unified: Path | None) -> None:
        """`unified` is the directory on the v2 hierarchy, with or without controllers."""
        self._directories = directories
        self._unified = unified
        self._v2 = unified is not None and unified in directories.values()
        self._peak: int | None = None  # v2: resets of memory.peak hold for one descriptor

    def create(self, limits: Limits) -> None:
        for directory in self._all():
            directory.mkdir(exist_ok=True)
        quota = int(limits.cpus_max * _CPU_PERIOD_US)
        if self._v2:
            self._set("memory", "memory.max", limits.memory_bytes_max)
            self._set("memory", "memory.swap.max", 0, optional=True)
            self._set("memory", "memory.oom.group", 1, optional=True)
            self._set("cpu", "cpu.max", f"{quota} {_CPU_PERIOD_US}")
        else:
            self._set("memory", "memory.limit_in_bytes", limits.memory_bytes_max)
            # With swap accounted: no more than memory. Without: at least not eager.
            self._set("memory", "memory.memsw.limit_in_bytes", limits.memory_bytes_max, True)
            self._set("memory", "memory.swappiness", 0, optional=True)
            self._set("cpu", "cpu.cfs_period_us", _CPU_PERIOD_US)
            self._set("cpu", "cpu.cfs_quota_us", quota)
        self._set("pids", "pids.max", limits.processes_max)

    def lift_memory_limit(self) -> None:
        """For what runs no more, and yet must never be refused a page or lose a process."""
        if self._v2:
            self._set("memory", "memory.oom.group", 0, optional=True)
            self._set("memory", "memory.max", "max")
        else:
            self._set("memory", "memory.memsw.limit_in_bytes", -1, optional=True)
            self._set("memory", "memory.limit_in_bytes", -1)

    @property
    def directories(self) -> list[str]:
        return [str(directory) for directory in self._all()]

    def join(self, pid: int) -> None:
        for directory in self._all():
            (directory / "cgroup.procs").write_text(str(pid))

    def processes(self) -> list[int]:
        for directory in self._all():
            with contextlib.suppress(OSError):
                return [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]
        return []

    def cpu_seconds(self) -> float | None:
        if self._v2:
            usage = self._fields("cpu", "cpu.stat").get("usage_usec")
            return None if usage is None else usage / 1e6
        nanoseconds = self._get("cpuacct", "cpuacct.usage")
        return None if nanoseconds is None else nanoseconds / 1e9

    def memory_peak_bytes(self) -> int | None:
        """Since the previous reading."""
        if self._v2:
            return self._memory_peak_v2()
        peak = self._get("memory", "memory.max_usage_in_bytes")
        with contextlib.suppress(OSError):
            self._set("memory", "memory.max_usage_in_bytes", 0)
        return peak

    def out_of_memory_kills(self) -> int:
        name = "memory.events" if self._v2 else "memory.oom_control"
        return self._fields("memory", name).get("oom_kill", 0)

    @property
    def freezes(self) -> bool:
        return self._frozen_state() is not None

    def freeze(self, frozen: bool) -> None:
        """Takes effect within a millisecond or so; `frozen` says when."""
        if self._unified and (self._unified / "cgroup.freeze").exists():
            (self._unified / "cgroup.freeze").write_text("1" if frozen else "0")
        else:
            self._set("freezer", "freezer.state", "FROZEN" if frozen else "THAWED")

    def frozen(self) -> bool:
        return bool(self._frozen_state())

    def kill(self) -> bool:
        """Kills all in one stroke, where the kernel can (5.14, with a v2 hierarchy)."""
        if self._unified is None:
            return False
        try:
            (self._unified / "cgroup.kill").write_text("1")
        except OSError:
            return False
        return True

    def remove(self) -> None:
        """Blocks for up to two seconds while the last dead process leaves; call in a thread."""
        if self._peak is not None:
            os.close(self._peak)
            self._peak = None
        for directory in self._all():
            for attempt in range(_REMOVE_ATTEMPTS):
                try:
                    directory.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError as error:
                    if error.errno != errno.EBUSY or attempt == _REMOVE_ATTEMPTS - 1:
                        raise
                    time.sleep(_REMOVE_PAUSE_SECONDS)

    def _all(self) -> Iterable[Path]:
        every = [*self._directories.values(), *([self._unified] if self._unified else [])]
        return dict.fromkeys(every)

    def _set(self, controller: str, file: str, value: object, optional: bool = False) -> None:
        directory = self._directories.get(controller)
        if directory is None or (optional and not (directory / file).exists()):
            return
        (directory / file).write_text(str(value))

    def _get(self, controller: str, file: str) -> int | None:
        directory = self._directories.get(controller)
        if directory is None:
            return None
        try:
            return int((directory / file).read_text())
        except OSError:
            return None

    def _fields(self, controller: str, file: str) -> dict[str, int]:
        directory = self._directories.get(controller)
        return _read_fields(directory / file) if directory else {}

    def _memory_peak_v2(self) -> int | None:
        directory = self._directories.get("memory")
        if directory is None:
            return None
        try:
            if self._peak is None:
                self._peak = os.open(directory / "memory.peak", os.O_RDWR | os.O_CLOEXEC)
            peak = int(os.pread(self._peak, 32, 0))
            os.pwrite(self._peak, b"0", 0)
            return peak
        except OSError:  # before Linux 6.12 the peak cannot be reset: what is used now, then
            return self._get("memory", "memory.current")

    def _frozen_state(self) -> bool | None:
        if self._unified and (self._unified / "cgroup.freeze").exists():
            return _read_fields(self._unified / "cgroup.events").get("frozen") == 1
        directory = self._directories.get("freezer")
        if directory is None:
            return None
        return (directory / "freezer.state").read_text().strip() == "FROZEN"


class Cgroups:
    """The parent group of all our sandboxes, where this machine lets us have one."""

    def __init__(self, parents: dict[str, Path], unified: Path | None) -> None:
        self._parents = parents
        self._unified = unified

    @property
    def missing(self) -> list[str]:
        return [controller for controller in _NEEDED if controller not in self._parents]

    def limits(self, controller: str) -> bool:
        return controller in self._parents

    def group(self, name: str) -> Group:
        return Group(
            {controller: parent / name for controller, parent in self._parents.items()},
            self._unified / name if self._unified else None,
        )

    def close(self) -> None:
        """Removes the parents if nobody else has a group there."""
        for parent in {*self._parents.values(), *([self._unified] if self._unified else [])}:
            with contextlib.suppress(OSError):
                parent.rmdir()


def _read_fields(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
