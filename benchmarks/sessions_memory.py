"""The memory of a session's processes, read from outside: by its control group."""

import contextlib
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

CGROUPS = Path("/sys/fs/cgroup")


class Memory(NamedTuple):
    """MiB. `own` is shared with nobody (Uss); `fair` adds its part of what is shared (Pss)."""

    own: float
    fair: float


def groups() -> dict[str, Path]:
    """Every control group of this machine by its name, on one hierarchy."""
    found: dict[str, Path] = {}
    for folder, _, files in os.walk(CGROUPS):
        if "cgroup.procs" in files:
            found.setdefault(Path(folder).name, Path(folder))
    return found


def memory_of(state: Path, tier: str, sandbox_id: str, known: dict[str, Path]) -> Memory:
    record = json.loads((state / "sandboxes" / tier / "records" / f"{sandbox_id}.json").read_text())
    fields: dict[str, int] = defaultdict(int)
    for pid in (known[record["cgroup"]] / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):  # it ended just now
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
                name, value, *_ = line.split()
                fields[name] += int(value)
    own = fields["Private_Clean:"] + fields["Private_Dirty:"]
    return Memory(own / 1024, fields["Pss:"] / 1024)
