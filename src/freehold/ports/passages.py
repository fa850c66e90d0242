"""Calls through a gateway that are no MCP: HTTP targets, agents, models. As its edge sees them."""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import msgspec

from freehold.kernel.body import Body
from freehold.kernel.request import Request
from freehold.ports.mcp import Door


class Passing(msgspec.Struct, frozen=True, kw_only=True):
    """One call, governed already. `path` and `query` are raw, below the gateway's own path:
    "/weather/v1/today" is for the target `weather`. `noted` is for the audit: small, no secret."""

    request: Request
    door: Door
    method: str
    path: str
    query: str = ""
    body: Body
    noted: dict[str, str]


class Passed(Protocol):
    """An answer that has begun. Whoever has it closes it, read or not."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; a content-length only where the bytes are that many."""

    def chunks(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None: ...


class Passages(Protocol):
    async def answer(self, passing: Passing) -> Passed:
        """Raises FreeholdErrors; their `fields` may have `target` and `retry_after`."""
