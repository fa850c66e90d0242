"""A session's request body on its way through: bounded, counted, never whole in memory unless it
has to be read first, as a fork's has."""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from freehold.edges.doorway.refusals import BodyTooLarge
from freehold.edges.spool import ClientDisconnected, Inbound, SpooledBody, SpoolSpace
from freehold.kernel.errors import FreeholdError

# What is kept of a body to read the model's name from it. A larger body is passed on unread.
_HEAD_BYTES_MAX = 1 << 20


class _Asked(msgspec.Struct):
    model: str = ""


class RequestBody:
    """May be read once, but see `replace`. `failure` says why a reading of it ended early."""

    def __init__(self, inbound: Inbound, *, bytes_max: int) -> None:
        self._inbound = inbound
        self._bytes_max = bytes_max
        self._head: list[bytes] = []
        self._stopped = asyncio.Event()
        self._instead: bytes | None = None
        self.failure: FreeholdError | ClientDisconnected | None = None

    @property
    def declared_bytes(self) -> int | None:
        return self._inbound.declared_bytes if self._instead is None else len(self._instead)

    def replace(self, whole: bytes) -> None:
        """Once it has been read: it may be read again, and is this."""
        assert self._inbound.body_ended, "what was not read would be taken for the next request"
        self._instead = whole
        self._head = [] if self.unseen else [whole]

    def check_declared(self) -> None:
        if self.declared_bytes is not None and self.declared_bytes > self._bytes_max:
            raise self._too_large()

    @property
    def model(self) -> str:
        """The `model` member, once the body has been read; "" where there is none to see."""
        if not self._inbound.body_ended or self.unseen:
            return ""
        try:
            return msgspec.json.decode(self.seen, type=_Asked).model[:256]
        except msgspec.MsgspecError:
            return ""

    @property
    def seen(self) -> bytes:
        """The body so far; nothing of one that is larger than what is kept."""
        return b"".join(self._head)

    @property
    def unseen(self) -> bool:
        """Whether it is larger than what is kept."""
        whole = self._instead
        size = self._inbound.received_bytes if whole is None else len(whole)
        return size > _HEAD_BYTES_MAX

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises what `failure` then holds."""
        if self._instead is not None:
            yield self._instead
            return
        try:
            while not self._inbound.body_ended:
                if chunk := await self._inbound.chunk():
                    self._keep(chunk)
                    yield chunk
        except (FreeholdError, ClientDisconnected) as failure:
            self.failure = failure
            raise
        finally:
            self._stopped.set()

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def spool(self, space: SpoolSpace) -> SpooledBody:
        """The whole body with its hash, for a signature. Close it."""
        spooled = SpooledBody(space)
        try:
            async for chunk in self.chunks():
                await spooled.add(chunk)
            await spooled.finish()
        except BaseException:
            spooled.close()
            raise
        return spooled

    async def hung_up(self) -> None:
        """Returns once the client is gone. Waits while another part still reads the body."""
        await self._stopped.wait()
        if self.failure is None:
            await self._inbound.disconnected()
        elif not isinstance(self.failure, ClientDisconnected):
            await self._inbound.known_gone()

    async def drain(self) -> bool:
        """Before a refusal: see `Inbound.drain`. Nobody may be reading the body."""
        return await self._inbound.drain()

    def _keep(self, chunk: bytes) -> None:
        if self._inbound.received_bytes > self._bytes_max:
            raise self._too_large()
        if self._inbound.received_bytes <= _HEAD_BYTES_MAX:
            self._head.append(chunk)
        else:
            self._head.clear()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the request body is larger than {self._bytes_max >> 20} MiB")
