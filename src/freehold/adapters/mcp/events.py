"""Server-sent events out of bytes as they come."""

import msgspec


class Event(msgspec.Struct):
    data: bytes
    id: str | None = None
    retry_ms: int | None = None


class TooLong(Exception):
    """One event is longer than it may be."""


class Events:
    """`feed` it; an event comes out once its empty line is there."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._buffer = bytearray()
        self._searched = 0
        self._after_return = False

    def feed(self, chunk: bytes) -> list[Event]:
        if self._after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # the second half of a line's end
            self._after_return = False
        if chunk:
            self._after_return = chunk.endswith(b"\r")
            if b"\r" in chunk:
                chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        buffer = self._buffer
        buffer += chunk
        found: list[Event] = []
        begun = 0
        while (end := buffer.find(b"\n\n", max(begun, self._searched - 1))) >= 0:
            if end - begun > self._bytes_max:
                raise TooLong
            found.append(_event(bytes(buffer[begun:end])))
            begun = end + 2
            self._searched = begun
        if begun:
            del buffer[:begun]
        self._searched = len(buffer)
        if len(buffer) > self._bytes_max:
            raise TooLong
        return found


def _event(block: bytes) -> Event:
    data: list[bytes] = []
    event = Event(b"")
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"id" and b"\0" not in value and len(value) <= 1024:
            event.id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 8:
            event.retry_ms = int(value)
    event.data = b"\n".join(data)
    return event
