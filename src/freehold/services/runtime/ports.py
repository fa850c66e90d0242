"""What the runtime service needs from others."""

from typing import Protocol

import msgspec


class RuntimeBuilder(Protocol):
    async def build(self, tenant: str, document: dict[str, object], build_id: str) -> "Built":
        """Raises BuildRefused with a reason for people."""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """Paths relative to the build root; `note` when something was not quite as asked."""

    code: str
    layers: tuple[str, ...]
    interpreter: str
    note: str = ""


class BuildRefused(Exception):
    """The bundle cannot be built. The message ends with the log's last lines."""
