"""From raw bytes to attributes of a span."""

import base64
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.ports.exchanges import answers, requests
from freehold.ports.exchanges.parts import Json
from freehold.ports.exchanges.raw import EVENT_STREAM, media_type, recorded

Wire = Literal["chat", "responses", "messages", "converse", "gemini", ""]

_OPERATIONS: Mapping[str, Wire] = {
    "ChatCompletions": "chat",
    "Responses": "responses",
    "Messages": "messages",
    "InvokeModel": "messages",
    "InvokeModelStream": "messages",
    "Converse": "converse",
    "ConverseStream": "converse",
    "GenerateContent": "gemini",
    "StreamGenerateContent": "gemini",
}
_PATHS: Mapping[str, Wire] = {
    "chat/completions": "chat",
    "responses": "responses",
    "messages": "messages",
}
_READERS: Mapping[str, tuple[Callable[[Json], requests.Asked], answers.Whole, answers.Stream]] = {
    "chat": (requests.chat, answers.chat, answers.chat_stream),
    "responses": (requests.responses, answers.responses, answers.responses_stream),
    "messages": (requests.messages, answers.messages, answers.messages_stream),
    "converse": (requests.converse, answers.converse, answers.converse_stream),
    "gemini": (requests.gemini, answers.gemini, answers.gemini_stream),
}
_PRELUDE_BYTES, _CHECKSUM_BYTES = 12, 4
# What reading another shape than the known ones ends in.
_UNKNOWN = (
    AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error,
)  # fmt: skip


def wire_of_operation(operation: str) -> Wire:
    """By the doorway's names."""
    return _OPERATIONS.get(operation, "")


def wire_of_path(path: str) -> Wire:
    """By the end of a provider's path."""
    return next((wire for end, wire in _PATHS.items() if path.rstrip("/").endswith(end)), "")


def raw_contents(
    request: bytes,
    response: bytes,
    content_type: str,
    *,
    request_type: str = "application/json",
    cut: bool = False,
) -> dict[str, Any]:
    """Attributes. `content_type` is the answer's. `cut`: not all of either is given."""
    found: dict[str, Any] = {}
    for name, raw, kind in (
        ("request", request, request_type),
        ("response", response, content_type),
    ):
        if raw:
            found[f"freehold.exchange.{name}"], shortened = recorded(raw, kind)
            cut = cut or shortened
    if content_type:
        found["freehold.exchange.content_type"] = content_type
    if media_type(request_type) != "application/json":
        found["freehold.exchange.request_content_type"] = request_type
    if cut:
        found["freehold.exchange.truncated"] = True
    return found


def contents(
    wire: Wire, request: bytes, response: bytes, content_type: str, *, cut: bool = False
) -> dict[str, Any]:
    """Those, and the messages that are in them."""
    kind = media_type(content_type)
    found = raw_contents(request, response, content_type, cut=cut)
    readers = _READERS.get(wire)
    if readers is None:
        return found
    asked, whole, stream = readers
    try:
        system, said = asked(msgspec.json.decode(request))
        found["gen_ai.system_instructions"] = _told(system)
        found["gen_ai.input.messages"] = _told(said)
    except _UNKNOWN:
        pass
    try:
        if kind == "application/json":
            answered = whole(msgspec.json.decode(response))
        else:
            answered = stream(_events(response, kind))
        found["gen_ai.output.messages"] = _told(answered)
    except _UNKNOWN:
        pass
    return {name: value for name, value in found.items() if value}


def _told(messages: list[Json]) -> str:
    """As JSON; of what is too long the last ones."""
    kept: list[bytes] = []
    left = CONTENT_BYTES_MAX
    for each in reversed(messages):
        encoded = msgspec.json.encode(each)
        left -= len(encoded) + 1
        if left < 0:
            break
        kept.append(encoded)
    return f"[{b','.join(reversed(kept)).decode()}]" if kept else ""


def _events(raw: bytes, kind: str) -> Iterator[Json]:
    if kind == EVENT_STREAM:
        yield from _frames(raw)
        return
    for line in raw.split(b"\n"):
        data = line[5:].strip() if line.startswith(b"data:") else b""
        if data.startswith(b"{"):
            try:
                yield msgspec.json.decode(data)
            except msgspec.DecodeError:
                continue  # the last one, where it is cut


def _frames(raw: bytes) -> Iterator[Json]:
    at = 0
    while at + _PRELUDE_BYTES <= len(raw):
        total, headers = struct.unpack_from("!II", raw, at)
        if total < _PRELUDE_BYTES + headers + _CHECKSUM_BYTES or at + total > len(raw):
            return
        payload = raw[at + _PRELUDE_BYTES + headers : at + total - _CHECKSUM_BYTES]
        at += total
        event = msgspec.json.decode(payload)
        # InvokeModel's are the model's own events, packed.
        yield msgspec.json.decode(base64.b64decode(event["bytes"])) if "bytes" in event else event
