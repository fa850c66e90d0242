"""An answer that has begun, as `ports.web.WebStream` has it."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp

from freehold.adapters.web.kept import KeptAnswer
from freehold.ports.web import Unreachable


class AnswerStream:
    """`idle_seconds_max` None: whoever reads has a bound of its own."""

    __slots__ = ("_answer", "_idle_seconds_max", "headers", "status")

    def __init__(
        self, answer: aiohttp.ClientResponse | KeptAnswer, idle_seconds_max: float | None
    ) -> None:
        self._answer, self._idle_seconds_max = answer, idle_seconds_max
        self.status: int = answer.status
        self.headers: Mapping[str, str] = joined(answer.headers)

    def __repr__(self) -> str:
        return f"AnswerStream({self.status})"

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self._next():
            yield chunk

    async def read(self, bytes_max: int) -> bytes:
        too_long = Unreachable(
            f"{self._answer.host} answers more than {bytes_max} bytes.", sent=True
        )
        if (self._answer.content_length or 0) > bytes_max:
            raise too_long
        first = await self._next()
        if len(first) <= bytes_max and self._answer.content.at_eof():
            return first  # most answers are one piece, and need no copy
        content = bytearray(first)
        while len(content) <= bytes_max and (chunk := await self._next()):
            content += chunk
        if len(content) > bytes_max:
            raise too_long
        return bytes(content)

    def close(self) -> None:
        self._answer.close()

    async def _next(self) -> bytes:
        """Empty at the end."""
        content, timed_out = self._answer.content, False
        try:
            if self._idle_seconds_max is None:
                return await content.readany()
            async with asyncio.timeout(self._idle_seconds_max):
                return await content.readany()
        except TimeoutError:
            if self._idle_seconds_max is None:
                raise
            why, timed_out = f"sent nothing for {self._idle_seconds_max:g} seconds", True
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = f"broke off its answer ({type(error).__name__})"
        raise Unreachable(f"{self._answer.host} {why}.", sent=True, timed_out=timed_out)


def joined(headers: Mapping[str, str]) -> dict[str, str]:
    """Names in lower case, values of the same name by commas. A CIMultiDict has names again."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found
