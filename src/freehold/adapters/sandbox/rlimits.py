"""Limits that a process sets on itself before it becomes the payload."""

import shutil

from freehold.ports.sandbox import Limits


def prefix(limits: Limits, *, memory: bool, processes: bool) -> tuple[str, ...]:
    """A command before the command: `prlimit` (util-linux), which execs what follows.

    From outside it would need CAP_SYS_RESOURCE, which root in a container does not have. `memory`
    is per process. `processes` counts those of the user in its user namespace. Empty where the
    program is not installed.
    """
    program = shutil.which("prlimit", path="/usr/bin:/bin:/usr/local/bin")
    if program is None:
        return ()
    wanted = {"nofile": limits.open_files_max, "core": 0}
    if memory:
        wanted["data"] = limits.memory_bytes_max
    if processes:
        wanted["nproc"] = limits.processes_max
    return (program, *(f"--{name}={value}:{value}" for name, value in wanted.items()), "--")
