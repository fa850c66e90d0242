"""Answers on their way back through a gateway: streamed, counted, and given back at their end."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from freehold.kernel.errors import FreeholdError
from freehold.ports.usage import UsageReader
from freehold.ports.web import Unreachable

_EVENT_BYTES_MAX = 1 << 20
_BYTES_OF_A_TOKEN = 4


class TargetError(FreeholdError):
    """502, 503 or 504: the target, not the platform. Names it."""

    code = "TargetError"
    status = 502

    def __init__(self, target: str, message: str, *, status: int = 502, **fields: Any) -> None:
        super().__init__(f"{target}: {message}", target=target, **fields)
        self.status = status


class Flow:
    """`ports.passages.Passed`. `at_end` is awaited once, be the answer read, cut or dropped."""

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        source: AsyncIterator[bytes] | bytes,
        *,
        drop: Callable[[], Any] = lambda: None,
        at_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.status, self.headers = status, headers
        self._source, self._drop, self._at_end = source, drop, at_end

    async def chunks(self) -> AsyncIterator[bytes]:
        if isinstance(self._source, bytes):
            if self._source:
                yield self._source
        else:
            async for chunk in self._source:
                yield chunk
        await self._end()

    async def close(self) -> None:
        dropped = self._drop()
        if dropped is not None:
            with contextlib.suppress(RuntimeError):  # a generator that runs is being cancelled
                await dropped
        await self._end()

    def finally_(self, act: Callable[[], Awaitable[None]]) -> None:
        """Done at the end as well, after what was to be done before."""
        before = self._at_end

        async def both() -> None:
            try:
                if before is not None:
                    await before()
            finally:
                await act()

        self._at_end = both

    async def _end(self) -> None:
        at_end, self._at_end = self._at_end, None
        if at_end is not None:
            await at_end()


async def pieces(target: str, head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Raises TargetError where the target breaks off: the edge cuts the answer then."""
    if head:
        yield head
    try:
        async for chunk in rest:
            yield chunk
    except Unreachable as error:
        status = 504 if error.timed_out else 502
        raise TargetError(target, f"its answer broke off: {error}", status=status) from None


async def first_of(chunks: AsyncIterator[bytes]) -> bytes:
    """Empty where there is nothing at all."""
    async for chunk in chunks:
        if chunk:
            return chunk
    return b""


class Counted:
    """The tokens of one answer, as it passes. `asked_bytes` is for a guess where it says none."""

    def __init__(
        self,
        reader: UsageReader,
        asked_bytes: int,
        *,
        heard: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._reader, self._asked_bytes, self._bytes = reader, asked_bytes, 0
        self._heard = heard
        self.guessed = False

    async def through(
        self, chunks: AsyncIterator[bytes], without_usage: "WithoutUsage | None" = None
    ) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._reader.feed(chunk)
            self._heard(chunk)
            self._bytes += len(chunk)
            passed = chunk if without_usage is None else without_usage.feed(chunk)
            if passed:
                yield passed
        if without_usage is not None and (rest := without_usage.rest()):
            yield rest

    def tokens(self) -> int:
        """In and out together. An answer that breaks off, or counts nothing, is not free."""
        usage = self._reader.usage()
        if usage.input_tokens is None and usage.output_tokens is None:
            self.guessed = True
            return -(-(self._asked_bytes + self._bytes) // _BYTES_OF_A_TOKEN)
        return (usage.input_tokens or 0) + (usage.output_tokens or 0)


class _Event(msgspec.Struct):
    choices: list[Any] | None = None
    usage: dict[str, Any] | None = None


class WithoutUsage:
    """A chat's events without the last one, which is there because we asked for it: some clients
    take it for a choice. Events come whole."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        self._held += chunk
        passed = bytearray()
        while (end := _end_of_event(self._held)) > 0:
            event = bytes(self._held[:end])
            del self._held[:end]
            if not _is_usage_alone(event):
                passed += event
        if len(self._held) > _EVENT_BYTES_MAX:
            passed += self._held
            self._held.clear()
        return bytes(passed)

    def rest(self) -> bytes:
        rest = bytes(self._held)
        self._held.clear()
        return rest


def _end_of_event(held: bytearray) -> int:
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if (at := held.find(mark)) >= 0]
    return min(ends, default=0)


def _is_usage_alone(event: bytes) -> bool:
    if b'"usage"' not in event or not event.startswith(b"data:"):
        return False
    try:
        document = msgspec.json.decode(event[5:].strip(), type=_Event)
    except msgspec.MsgspecError:
        return False
    return document.choices == [] and document.usage is not None
