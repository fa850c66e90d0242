"""Parts of a page that may fail alone: a panel says why, and the rest is shown."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

import msgspec

from freehold.kernel.errors import FreeholdError


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """`problem` "": `value` is there. Else why not, and `status` as in HTTP."""

    value: Any = None
    problem: str = ""
    status: int = 200


async def part(asked: Awaitable[Any]) -> Part:
    try:
        return Part(value=await asked)
    except FreeholdError as error:
        return Part(problem=error.message, status=error.status)


async def parts(*asked: Coroutine[Any, Any, Any]) -> list[Part]:
    """All at once, in the order given."""
    return await asyncio.gather(*(part(one) for one in asked))
