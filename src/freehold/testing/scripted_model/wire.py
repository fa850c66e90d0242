"""What the wires share: reading a conversation, and framing a stream."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import msgspec

from freehold.testing.scripted_model.script import Answer, Turn, words

Document = dict[str, Any]


class Frame(NamedTuple):
    """Bytes of a stream; `piece` when they carry a piece of the answer."""

    data: bytes
    piece: bool = False


class Wire(Protocol):
    stream_content_type: str

    def turn(self, request: Document) -> Turn: ...

    def whole(self, answer: Answer) -> Document: ...

    def frames(self, answer: Answer, request: Document) -> Iterator[Frame]: ...

    def error(self, status: int, message: str) -> Document: ...


class BadRequest(Exception):
    """The request is not one of this wire."""


def text_of(content: Any) -> str:
    """The text in what a message holds: a string, a block, or a list of blocks, in any wire."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, map(text_of, content)))
    if not isinstance(content, dict):
        return ""
    if "json" in content:
        return msgspec.json.encode(content["json"]).decode()
    inner = next((content[key] for key in _HOLDS_TEXT if key in content), None)
    return text_of(inner)


_HOLDS_TEXT = ("text", "content", "output", "toolResult")


def messages_of(request: Document, name: str = "messages") -> list[Document]:
    messages = request.get(name)
    if not isinstance(messages, list) or not messages:
        raise BadRequest(f"{name} must be a list of at least one item")
    if not all(isinstance(message, dict) for message in messages):
        raise BadRequest(f"every item of {name} must be an object")
    return messages


def turn_of(
    messages: list[Document],
    *,
    system: Any,
    tools: Iterable[Any],
    tool_said: bool,
    stream: bool,
) -> Turn:
    return Turn(
        role="tool" if tool_said else "user",
        text=text_of(messages[-1]),
        tools=frozenset(name for name in tools if isinstance(name, str)),
        input_tokens=words(text_of(system)) + sum(words(text_of(m)) for m in messages),
        stream=stream,
    )


def sse(document: Document, event: str | None = None, *, piece: bool = False) -> Frame:
    name = f"event: {event}\n".encode() if event else b""
    return Frame(name + b"data: " + msgspec.json.encode(document) + b"\n\n", piece)
