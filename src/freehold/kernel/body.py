"""A request body whose size may be anything: read whole, or chunk by chunk, in flat memory."""

from collections.abc import AsyncIterator
from typing import Protocol


class Body(Protocol):
    """May be read once."""

    @property
    def size_bytes(self) -> int | None:
        """None while a body still streams and declared no length."""

    def chunks(self) -> AsyncIterator[bytes]: ...

    async def read(self) -> bytes:
        """The whole body in memory: for documents, which the edge has already capped."""


class BytesBody:
    """A body that is in memory already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size_bytes(self) -> int:
        return len(self._data)

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._data:
            yield self._data

    async def read(self) -> bytes:
        return self._data
