"""application/vnd.amazon.eventstream: events, and errors that come once they flow."""

import logging
import struct
from binascii import crc32
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

import msgspec

from freehold.edges.aws.errors import error_document
from freehold.edges.aws.model import Shape
from freehold.kernel.errors import FreeholdError, PlatformFailed

log = logging.getLogger(__name__)

CONTENT_TYPE = b"application/vnd.amazon.eventstream"
# As AWS does; a client's decoder refuses more than 24 MB.
FRAME_BYTES_MAX = 16 * 1024 * 1024

_STRING = 7
_JSON = {":content-type": "application/json"}
_encode = msgspec.json.Encoder().encode


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message: lengths, their checksum, headers, payload, the checksum of it all."""
    head = b"".join(
        struct.pack("!B", len(name))
        + name.encode()
        + struct.pack("!BH", _STRING, len(value.encode()))
        + value.encode()
        for name, value in headers.items()
    )
    size = len(head) + len(payload) + 16
    if size > FRAME_BYTES_MAX:
        raise PlatformFailed(f"An event of {size} bytes is larger than a frame may be.")
    prelude = struct.pack("!II", size, len(head))
    message = b"".join((prelude, struct.pack("!I", crc32(prelude)), head, payload))
    return message + struct.pack("!I", crc32(message))


class EncodedEvents:
    """Each event is {name: value}. The status has been sent: an error becomes the last message.

    `aclose` closes the events whether or not anything was read: a generator that nobody began
    would never come to its `finally`.
    """

    def __init__(
        self,
        shape: Shape,
        events: AsyncIterator[Mapping[str, Any]],
        writer_of: Callable[[Shape], Callable[[Any], Any] | None],
        request_id: str,
    ) -> None:
        self._events = events
        self._frames = _encoded(shape, events, writer_of, request_id)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._frames)

    async def aclose(self) -> None:
        await self._frames.aclose()
        await _close(self._events)


async def _encoded(
    shape: Shape,
    events: AsyncIterator[Mapping[str, Any]],
    writer_of: Callable[[Shape], Callable[[Any], Any] | None],
    request_id: str,
) -> AsyncGenerator[bytes, None]:
    try:
        async for event in events:
            yield _event(shape, event, writer_of)
    except FreeholdError as error:
        yield _exception(shape, error)
    except Exception:
        # The boundary: whatever it was, the client gets a modelled error and no detail.
        log.exception("the event stream of request %s failed", request_id)
        yield _exception(
            shape, PlatformFailed(f"An internal error ended the stream ({request_id}).")
        )
    finally:
        await _close(events)


async def _close(events: AsyncIterator[Any]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


def _event(
    shape: Shape,
    event: Mapping[str, Any],
    writer_of: Callable[[Shape], Callable[[Any], Any] | None],
) -> bytes:
    ((name, value),) = event.items()
    member = shape.members.get(name)
    if member is None or member.shape.error_status is not None:
        raise TypeError(f"{shape.name} has no event {name!r}")
    writer = writer_of(member.shape)
    payload = _encode(value if writer is None else writer(value))
    return frame({":message-type": "event", ":event-type": name, **_JSON}, payload)


def _exception(shape: Shape, error: FreeholdError) -> bytes:
    for member in shape.members.values():
        if member.shape.name == error.code and member.shape.error_status is not None:
            headers = {":message-type": "exception", ":exception-type": member.name, **_JSON}
            return frame(headers, _encode(error_document(member.shape, error)))
    # The stream does not model it: the other form of an error has room for any code.
    message = error.message.encode()[:4096].decode(errors="ignore")
    return frame(
        {":message-type": "error", ":error-code": error.code, ":error-message": message}, b""
    )
