"""From an operation's output, by member name, to an HTTP answer.

What the model does not know is a defect of ours, and raises TypeError. Values are not validated
again: a handler's answer is trusted to be of the model's types.
"""

import base64
import functools
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import msgspec

from freehold.edges.aws import eventstream
from freehold.edges.aws.model import Member, Operation, Shape
from freehold.edges.aws.reply import JSON_TYPE, Reply

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Writer = Callable[[Any], Any]
_encode = msgspec.json.Encoder().encode


@functools.cache
def writer_of(shape: Shape) -> Writer | None:
    """To a value that JSON can hold; None where it is one already."""
    if shape.kind == "structure":
        return _structure_writer(shape)
    if shape.kind == "list":
        element = writer_of(shape.element)
        return element and (lambda value: [element(item) for item in value])
    if shape.kind == "map":
        return _map_writer(shape)
    if shape.kind == "timestamp":
        return _timestamp_writer(shape, "unixTimestamp")
    return _SCALARS.get(shape.kind)


def _structure_writer(shape: Shape) -> Writer:
    # Made when used, or a shape that holds itself would never end.
    writers: dict[str, tuple[str, Writer | None]] = {}

    def write(value: Mapping[str, Any]) -> dict[str, Any]:
        written = {}
        for name, item in value.items():
            if item is None:
                continue
            known = writers.get(name)
            if known is None:
                member = _member(shape, name)
                known = writers[name] = (member.wire_name, writer_of(member.shape))
            wire_name, writer = known
            written[wire_name] = item if writer is None else writer(item)
        return written

    return write


def _member(shape: Shape, name: str) -> Member:
    member = shape.members.get(name)
    if member is None:
        raise TypeError(f"{shape.name} has no member {name!r}")
    return member


def _map_writer(shape: Shape) -> Writer:
    def write(value: Mapping[str, Any]) -> dict[str, Any]:
        writer = writer_of(shape.value)
        if writer is None:
            return dict(value)
        return {key: writer(item) for key, item in value.items()}

    return write


def _write_float(value: float) -> float | str:
    """JSON has no word for the others; AWS writes them as strings."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _write_blob(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _timestamp_writer(shape: Shape, default: str) -> Callable[[datetime], Any]:
    wire_format = shape.traits.get("timestampFormat", default).lower()
    if wire_format == "iso8601":
        return lambda value: value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if wire_format == "rfc822":
        return lambda value: format_datetime(value.astimezone(UTC), usegmt=True)
    return lambda value: round(value.timestamp(), 3)


_SCALARS: Mapping[str, Writer] = {
    "float": _write_float,
    "double": _write_float,
    "blob": _write_blob,
}


def _header_writer(shape: Shape) -> Callable[[Any], str]:
    if shape.kind == "timestamp":
        write = _timestamp_writer(shape, "rfc822")
        return lambda value: str(write(value))
    if shape.kind == "boolean":
        return lambda value: "true" if value else "false"
    return str


class OutputSerializer:
    """Of one operation."""

    def __init__(self, operation: Operation) -> None:
        self._shape = operation.output
        self._status = operation.status
        self._payload = self._shape.payload
        self._headers: dict[str, tuple[bytes, Callable[[Any], str]]] = {}
        self._status_member = None
        for member in self._shape.members.values():
            if member.location == "header":
                wire_name = member.wire_name.lower().encode("ascii")
                self._headers[member.name] = (wire_name, _header_writer(member.shape))
            elif member.location == "statusCode":
                self._status_member = member.name
            elif member.location is not None:
                raise TypeError(f"{operation.id} has a member in {member.location}")

    def serialize(self, output: Mapping[str, Any] | None, request_id: str) -> Reply:
        """Takes over the stream in `output`, if there is one: the reply's body ends it."""
        in_body = dict(output or ())
        status = self._status
        if self._status_member is not None:
            status = in_body.pop(self._status_member, None) or status
            if not 200 <= status <= 599:
                raise TypeError(f"{status} is not the status of an answer")
        headers = []
        for name, (wire_name, write) in self._headers.items():
            value = in_body.pop(name, None)
            if value is not None:
                headers.append((wire_name, _header_bytes(write(value))))
        if self._payload is None:
            return self._document(status, headers, in_body, writer_of(self._shape))
        payload = in_body.pop(self._payload.name, None)
        for name in in_body:
            _member(self._shape, name)
            raise TypeError(f"{self._shape.name} has no place for {name!r}")
        return self._with_payload(self._payload.shape, Reply(status, headers), payload, request_id)

    def _document(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        value: Any,
        writer: Writer | None,
    ) -> Reply:
        written = value if writer is None else writer(value)
        if status == 204:
            return Reply(status, headers)
        headers.append((b"content-type", JSON_TYPE))
        return Reply(status, headers, _encode(written))

    def _with_payload(self, shape: Shape, reply: Reply, payload: Any, request_id: str) -> Reply:
        if shape.is_event_stream:
            _default_type(reply, eventstream.CONTENT_TYPE)
            reply.body = eventstream.EncodedEvents(shape, payload, writer_of, request_id)
        elif shape.kind in {"blob", "string"}:
            _default_type(reply, JSON_TYPE)
            reply.body = payload.encode() if isinstance(payload, str) else payload or b""
        elif payload is not None:
            return self._document(reply.status, reply.headers, payload, writer_of(shape))
        return reply


def _default_type(reply: Reply, content_type: bytes) -> None:
    """Where the output has no member that says it."""
    if not any(name == b"content-type" for name, _ in reply.headers):
        reply.headers.append((b"content-type", content_type))


def _header_bytes(text: str) -> bytes:
    if _CONTROL.search(text):
        # A line break, from an agent perhaps, would begin a header of its own.
        raise TypeError("a header's value holds a control character")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


@functools.cache
def output_serializer(operation: Operation) -> OutputSerializer:
    return OutputSerializer(operation)
