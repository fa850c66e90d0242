"""The process tier mounts nothing: what a spec says of mount targets is said of sources instead."""

from collections.abc import Iterable

from freehold.adapters.sandbox.launcher import LAUNCHER_FILE
from freehold.ports.sandbox import LAUNCHER, Mount, SandboxSpec


class Outside:
    """Rewrites paths below a mount's target to where they really are."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        ordered = sorted(mounts, key=lambda mount: len(mount.target), reverse=True)
        self._mounts = [mount for mount in ordered if mount.source != mount.target]

    @classmethod
    def of(cls, spec: SandboxSpec) -> "Outside":
        return cls([*spec.mounts, Mount(str(LAUNCHER_FILE), LAUNCHER)])

    def path(self, text: str) -> str:
        for mount in self._mounts:
            if text == mount.target or text.startswith(mount.target.rstrip("/") + "/"):
                return mount.source + text[len(mount.target.rstrip("/")) :]
        return text

    def path_list(self, text: str) -> str:
        """Each element of a PATH-like text."""
        return ":".join(self.path(part) for part in text.split(":"))
