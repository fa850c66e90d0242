"""What a sandbox stands on, and how the forker is told of it."""

from pathlib import Path

import msgspec

from freehold.adapters.sandbox.container import bubblewrap
from freehold.adapters.sandbox.template.root import Step
from freehold.ports.sandbox import Limits, Mount


class Ground(msgspec.Struct, frozen=True):
    """Checked to be reachable for the sandbox's user. `mounts` with those of the interpreter."""

    mounts: tuple[Mount, ...]
    etc: Path
    launcher: Path


def steps(limits: Limits, ground: Ground) -> list[Step]:
    """bubblewrap's arguments for the file system, for the forker to do the same."""
    made: list[Step] = []
    mode = size = ""
    words = iter(bubblewrap.view(limits, ground.mounts, ground.etc, ground.launcher))
    for word in words:
        match word:
            case "--perms":
                mode = next(words)
            case "--size":
                size = next(words)
            case "--dir":
                made.append(("folder", next(words), mode, ""))
            case "--tmpfs":
                made.append(("scratch", next(words), mode, size))
            case "--symlink":
                target = next(words)
                made.append(("link", next(words), target, ""))
            case "--bind" | "--ro-bind":
                source = next(words)
                made.append(("bind", next(words), source, "writable" if word == "--bind" else ""))
            case _:
                raise AssertionError(f"{word} is not known to the forker")
    return made
