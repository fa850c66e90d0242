"""Bedrock's Converse, and InvokeModel as Anthropic's models have it there."""

import base64
import binascii
import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from freehold.testing.scripted_model.anthropic_wire import Messages
from freehold.testing.scripted_model.script import Answer, Turn
from freehold.testing.scripted_model.wire import Document, Frame, messages_of, turn_of


class Converse:
    """`stream`: ConverseStream, for here the path says so and not the body."""

    stream_content_type = "application/vnd.amazon.eventstream"

    def __init__(self, *, stream: bool) -> None:
        self._stream = stream

    def turn(self, request: Document) -> Turn:
        messages = messages_of(request)
        tools = (request.get("toolConfig") or {}).get("tools") or ()
        return turn_of(
            messages,
            system=request.get("system"),
            tools=(tool.get("toolSpec", {}).get("name") for tool in tools),
            tool_said=any("toolResult" in block for block in messages[-1].get("content") or ()),
            stream=self._stream,
        )

    def whole(self, answer: Answer) -> Document:
        if answer.tool_call is not None:
            tool_use = {**self._tool(answer), "input": answer.tool_call.arguments}
            block: Document = {"toolUse": tool_use}
        else:
            block = {"text": answer.text}
        return {
            "output": {"message": {"role": "assistant", "content": [block]}},
            "stopReason": self._stop_reason(answer),
            **self._metadata(answer),
        }

    def frames(self, answer: Answer, request: Document) -> Iterator[Frame]:
        yield _event("messageStart", {"role": "assistant"})
        at = {"contentBlockIndex": 0}
        if answer.tool_call is not None:
            start = {"start": {"toolUse": self._tool(answer)}, **at}
            yield _event("contentBlockStart", start)
            delta: Document = {"toolUse": {"input": answer.arguments_json}}
            yield _event("contentBlockDelta", {"delta": delta, **at}, piece=True)
        else:
            for piece in answer.pieces:
                yield _event("contentBlockDelta", {"delta": {"text": piece}, **at}, piece=True)
        yield _event("contentBlockStop", at)
        yield _event("messageStop", {"stopReason": self._stop_reason(answer)})
        yield _event("metadata", self._metadata(answer))

    def error(self, status: int, message: str) -> Document:
        return {"message": message}

    @staticmethod
    def _tool(answer: Answer) -> Document:
        assert answer.tool_call is not None
        return {"toolUseId": f"tooluse_{answer.number}", "name": answer.tool_call.name}

    @staticmethod
    def _stop_reason(answer: Answer) -> str:
        return "tool_use" if answer.tool_call is not None else "end_turn"

    @staticmethod
    def _metadata(answer: Answer) -> Document:
        usage = {
            "inputTokens": answer.input_tokens,
            "outputTokens": answer.output_tokens,
            "totalTokens": answer.input_tokens + answer.output_tokens,
        }
        return {"usage": usage, "metrics": {"latencyMs": 1}}


class InvokeModel:
    """The body is Anthropic's; a stream wraps its events in Bedrock's own."""

    stream_content_type = "application/vnd.amazon.eventstream"

    def __init__(self, *, stream: bool) -> None:
        self._stream = stream
        self._messages = Messages()

    def turn(self, request: Document) -> Turn:
        return msgspec.structs.replace(self._messages.turn(request), stream=self._stream)

    def whole(self, answer: Answer) -> Document:
        return self._messages.whole(answer)

    def frames(self, answer: Answer, request: Document) -> Iterator[Frame]:
        for name, fields, piece in self._messages.events(answer):
            document = {"type": name, **fields}
            if name == "message_stop":
                document["amazon-bedrock-invocationMetrics"] = {
                    "inputTokenCount": answer.input_tokens,
                    "outputTokenCount": answer.output_tokens,
                }
            raw = base64.b64encode(msgspec.json.encode(document)).decode()
            yield _event("chunk", {"bytes": raw}, piece=piece)

    def error(self, status: int, message: str) -> Document:
        return {"message": message}


def _event(name: str, payload: Document, *, piece: bool = False) -> Frame:
    """One message of AWS's event stream: prelude, headers, payload, and a checksum of each part."""
    headers = {
        ":event-type": name,
        ":content-type": "application/json",
        ":message-type": "event",
    }
    packed = b"".join(_header(key, value) for key, value in headers.items())
    body = msgspec.json.encode(payload)
    prelude = struct.pack("!II", 16 + len(packed) + len(body), len(packed))
    message = prelude + _crc(prelude) + packed + body
    return Frame(message + _crc(message), piece)


def _header(key: str, value: str) -> bytes:
    string_type = 7
    name, text = key.encode(), value.encode()
    return struct.pack("!B", len(name)) + name + struct.pack("!BH", string_type, len(text)) + text


def _crc(data: Any) -> bytes:
    return struct.pack("!I", binascii.crc32(data))
