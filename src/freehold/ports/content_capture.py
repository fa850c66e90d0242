"""Whether what an agent says and is told may be kept in its traces. Off, unless switched on."""

from typing import Protocol

CONTENT_BYTES_MAX = 256 << 10
"""Of one text in a span; what is longer is cut there."""


class ContentCapture(Protocol):
    async def captures(self, tenant: str, runtime_id: str) -> bool:
        """False as well for a runtime that is not there."""
