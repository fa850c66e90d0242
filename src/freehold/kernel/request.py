"""What a handler knows of one request, whichever edge it came through."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from freehold.kernel.caller import Caller
from freehold.kernel.session import DoorwaySession


async def _never() -> None:
    await asyncio.Event().wait()


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """`headers` have lower-case names; a repeated header's values are joined with ", ".

    `origin` is how the client reached us ("https://agents.example.com"), without a slash at the
    end; empty where the edge does not say.

    `query` is that of the URL, raw, where the edge has use for it.

    `session` is the one whose doorway the request came through, whoever its caller is: at a gateway
    that wants tokens it is the token's. None for every other, and where the edge has no use for it.

    `source` is the client's address, empty where it has none or the edge does not say.

    `acts_in` is the tenant of what is acted on, when another than the caller's let it in.

    `notices` are what a handler wants said beside its answer, which is none of an error's or of the
    model's: the AWS edge puts them in the header `x-freehold-notice`.

    A handler whose client goes away is cancelled, and its response stream closed. `disconnected`
    is for work that a handler gave to a task of its own: it returns when the client is gone.
    """

    caller: Caller
    request_id: str
    headers: Mapping[str, str] = {}
    origin: str = ""
    disconnected: Callable[[], Awaitable[None]] = _never
    acts_in: str | None = None
    source: str = ""
    query: str = ""
    session: DoorwaySession | None = None
    notices: list[str] = []

    @property
    def tenant(self) -> str:
        return self.acts_in or self.caller.tenant


Handler = Callable[[Request, dict[str, Any]], Awaitable[dict[str, Any] | None]]
"""An operation's implementation: the parsed input, by member name, to the output likewise."""
