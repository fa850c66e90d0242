"""Limits that a process sets on itself before it becomes the payload."""

import shutil

from freehold.ports.sandbox import Limits


def prefix(limits: Limits, *, memory: bool, processes: bool, hard: bool = True) -> tuple[str, ...]:
    """A command before the command: `prlimit` (util-linux), which execs what follows.

    From outside it would need CAP_SYS_RESOURCE, which root in a container does not have. `memory`
    is per process. `processes` counts those of the user in its user namespace. Empty where the
    program is not installed. Without `hard` the process may raise them again.
    """
    program = shutil.which("prlimit", path="/usr/bin:/bin:/usr/local/bin")
    if program is None:
        return ()
    values = wanted(limits, memory=memory, processes=processes)
    pairs = ((name, f"{value}:{value if hard else ''}") for name, value in values.items())
    return (program, *(f"--{name}={pair}" for name, pair in pairs), "--")


def wanted(limits: Limits, *, memory: bool, processes: bool) -> dict[str, int]:
    """By the names that `prlimit` has for them."""
    result = {"nofile": limits.open_files_max, "core": 0}
    if memory:
        result["data"] = limits.memory_bytes_max
    if processes:
        result["nproc"] = limits.processes_max
    return result
