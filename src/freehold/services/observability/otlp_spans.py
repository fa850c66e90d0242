"""Spans in protobuf, read piece by piece: the hot path of what comes in.

Of the attributes of a batch most are the same from span to span, byte by byte. Each is decoded once
a request, and found again by its bytes, which takes half of the time that the generated classes
need for all of it; they decode what is rare. Source: opentelemetry/proto/trace/v1/trace.proto.
"""

from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from freehold.services.observability.otlp_values import NotTaken, ProtobufWire, text

_PIECE_BYTES_MAX = 256
_PIECES_MAX = 20_000
# Keys: a field's number and its wire type.
_TRACE_ID, _SPAN_ID, _PARENT_ID, _NAME = 0x0A, 0x12, 0x22, 0x2A
_KIND, _STARTED, _ENDED, _ATTRIBUTE = 0x30, 0x39, 0x41, 0x4A
_EVENT, _LINK, _STATUS = 0x5A, 0x6A, 0x7A
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Pieces(list[bytes]):
    """KeyValue messages, encoded."""


class SpanPieces:
    """Has the members of the generated Span that are read. `attributes` are encoded still."""

    __slots__ = (
        "attributes", "end_time_unix_nano", "events", "kind", "links", "name", "parent_span_id",
        "span_id", "start_time_unix_nano", "status", "trace_id",
    )  # fmt: skip

    def __init__(self, sent: bytes) -> None:
        """Raises NotTaken, DecodeError or UnicodeDecodeError for what is no span."""
        self.trace_id = self.span_id = self.parent_span_id = b""
        self.name, self.kind = "", 0
        self.start_time_unix_nano = self.end_time_unix_nano = 0
        self.attributes = Pieces()
        self.events: list[Any] = []
        self.links: list[Any] = []
        self.status: Status | None = None
        at, end = 0, len(sent)
        while at < end:
            key = sent[at]
            at += 1
            if key >= 0x80:
                key, at = _varint(sent, at - 1, end)
            kind = key & 7
            if kind == _BYTES:
                length = sent[at] if at < end else 0x80
                at += 1
                if length >= 0x80:
                    length, at = _varint(sent, at - 1, end)
                start, at = at, at + length
                if at > end:
                    raise _cut()
                if key == _ATTRIBUTE:
                    self.attributes.append(sent[start:at])
                else:
                    self._member(key, sent[start:at])
            elif kind == _FIXED64:
                self._time(key, sent[at : at + 8])
                at += 8
            elif kind == _VARINT:
                number, at = _varint(sent, at, end)
                self.kind = number if key == _KIND else self.kind
            elif kind == _FIXED32:
                at += 4
            else:
                raise NotTaken("one that cannot be read: an unknown wire type")
        if at > end:
            raise _cut()

    def _time(self, key: int, value: bytes) -> None:
        if key == _STARTED:
            self.start_time_unix_nano = int.from_bytes(value, "little")
        elif key == _ENDED:
            self.end_time_unix_nano = int.from_bytes(value, "little")

    def _member(self, key: int, value: bytes) -> None:
        if key == _TRACE_ID:
            self.trace_id = value
        elif key == _SPAN_ID:
            self.span_id = value
        elif key == _PARENT_ID:
            self.parent_span_id = value
        elif key == _NAME:
            self.name = value.decode()
        elif key == _EVENT:
            self.events.append(Span.Event.FromString(value))
        elif key == _LINK:
            self.links.append(Span.Link.FromString(value))
        elif key == _STATUS:
            self.status = Status.FromString(value)


class SpanWire(ProtobufWire):
    """Of one request: what it has decoded, it keeps until the request's end. Values are shared
    between spans, so that nobody may change one in place."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[str, Any]] = {}

    def attributes(self, pairs: Any, depth: int = 0) -> dict[str, Any]:
        if pairs.__class__ is not Pieces:
            return super().attributes(pairs, depth)
        found: dict[str, Any] = {}
        known = self._known
        for piece in pairs:
            pair = known.get(piece)
            if pair is None:
                pair = self._read(piece)
            found[pair[0]] = pair[1]
        return found

    def _read(self, piece: bytes) -> tuple[str, Any]:
        decoded = KeyValue.FromString(piece)
        pair = text(decoded.key), self.value(decoded.value)
        if len(piece) <= _PIECE_BYTES_MAX and len(self._known) < _PIECES_MAX:
            self._known[piece] = pair
        return pair


def _varint(sent: bytes, at: int, end: int) -> tuple[int, int]:
    number = shift = 0
    while at < end and shift < 70:
        byte = sent[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise _cut()


def _cut() -> NotTaken:
    return NotTaken("one that cannot be read: it was cut off")
