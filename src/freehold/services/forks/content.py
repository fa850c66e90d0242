"""The texts of a recorded step, and whether they are whole. Pure."""

from typing import Any

import msgspec

from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.ports.exchanges.raw import recorded_bytes
from freehold.ports.spans import SpanRecord
from freehold.services.forks.digests import digest_of, digest_of_arguments, digest_of_cut
from freehold.services.forks.record import failed, text_of

REQUEST, RESPONSE, CONTENT_TYPE, REQUEST_TYPE, TRUNCATED = (
    f"freehold.exchange.{part}"
    for part in ("request", "response", "content_type", "request_content_type", "truncated")
)
ARGUMENTS, RESULT = "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"
_JSON = "application/json"
# One that was cut within a character, or within a group of base64, is a little shorter.
_TEXT_BYTES_CUT = CONTENT_BYTES_MAX - 3
_BINARY_BYTES_CUT = CONTENT_BYTES_MAX * 3 // 4


class Said(msgspec.Struct, frozen=True):
    """`cut`: there was more of it."""

    body: bytes
    content_type: str
    cut: bool = False


def said(span: SpanRecord, name: str) -> Said | None:
    """REQUEST or RESPONSE of a turn or a model's call. None: it was not kept."""
    body = _body(span, name)
    if body is None:
        return None
    other = REQUEST if name == RESPONSE else RESPONSE
    # Which of the two was cut the mark does not say: the one that is as long as it may be.
    cut = span.attributes.get(TRUNCATED) is True and (
        _is_long(span, name, body) or not _is_long(span, other, _body(span, other) or b"")
    )
    return Said(body, _type(span, name, body), cut)


def request_digest(span: SpanRecord) -> str:
    """Of a model's call; "" where its request was not kept."""
    asked = said(span, REQUEST)
    if asked is None:
        return ""
    return digest_of_cut(text_of(span, REQUEST)) if asked.cut else digest_of(asked.body)


def arguments_digest(span: SpanRecord) -> str:
    """Of a tool's call; "" where its arguments were not kept, or not whole."""
    text = text_of(span, ARGUMENTS)
    try:
        return digest_of_arguments(msgspec.json.decode(text)) if text else ""
    except msgspec.DecodeError:
        return ""


def tool_result(span: SpanRecord) -> dict[str, Any] | None:
    """MCP's CallToolResult. A call that ended in an error of the protocol's has one made of that.
    None: it was not kept, or not whole."""
    text = span.attributes.get(RESULT)
    if isinstance(text, str):
        try:
            return msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError:
            return None
    if ARGUMENTS in span.attributes and failed(span):
        return tool_text(span.message or "the tool failed", failed=True)
    return None


def tool_text(text: str, *, failed: bool = False) -> dict[str, Any]:
    """A CallToolResult of one text."""
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}]}
    return {**result, "isError": True} if failed else result


def _body(span: SpanRecord, name: str) -> bytes | None:
    text = span.attributes.get(name)
    if not isinstance(text, str):
        return None
    try:
        return recorded_bytes(text)
    except ValueError:  # redacted within: it cannot be told what it was
        return None


def _is_long(span: SpanRecord, name: str, body: bytes) -> bool:
    binary = text_of(span, name).encode("utf-8", "replace") != body
    return len(body) >= (_BINARY_BYTES_CUT if binary else _TEXT_BYTES_CUT)


def _type(span: SpanRecord, name: str, body: bytes) -> str:
    if name == REQUEST:
        return text_of(span, REQUEST_TYPE) or _JSON
    guessed = "text/event-stream" if body.startswith((b"data:", b"event:", b":")) else _JSON
    return text_of(span, CONTENT_TYPE) or guessed
