"""Anthropic's messages."""

from collections.abc import Iterator
from typing import Any

from freehold.testing.scripted_model.script import MODEL_NAME, Answer, Turn
from freehold.testing.scripted_model.wire import (
    BadRequest,
    Document,
    Frame,
    messages_of,
    sse,
    turn_of,
)


class Messages:
    stream_content_type = "text/event-stream"

    def turn(self, request: Document) -> Turn:
        messages = messages_of(request)
        if "max_tokens" not in request:
            raise BadRequest("max_tokens is required")
        return turn_of(
            messages,
            system=request.get("system"),
            tools=(tool.get("name") for tool in request.get("tools") or ()),
            tool_said=_holds_tool_result(messages[-1].get("content")),
            stream=bool(request.get("stream")),
        )

    def whole(self, answer: Answer) -> Document:
        return {
            **self._begun(answer),
            "content": [self._block(answer)],
            "stop_reason": self._stop_reason(answer),
            "usage": {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens},
        }

    def frames(self, answer: Answer, request: Document) -> Iterator[Frame]:
        for name, fields, piece in self.events(answer):
            yield sse({"type": name, **fields}, name, piece=piece)

    def events(self, answer: Answer) -> Iterator[tuple[str, Document, bool]]:
        """Name, members, and whether it carries a piece of the answer."""
        block = self._block(answer)
        yield "message_start", {"message": self._begun(answer)}, False
        if answer.tool_call is not None:
            yield (
                "content_block_start",
                {"index": 0, "content_block": {**block, "input": {}}},
                False,
            )
            deltas = [{"type": "input_json_delta", "partial_json": answer.arguments_json}]
        else:
            yield "content_block_start", {"index": 0, "content_block": {**block, "text": ""}}, False
            deltas = [{"type": "text_delta", "text": piece} for piece in answer.pieces]
        for delta in deltas:
            yield "content_block_delta", {"index": 0, "delta": delta}, True
        yield "content_block_stop", {"index": 0}, False
        end = {"stop_reason": self._stop_reason(answer), "stop_sequence": None}
        usage = {"output_tokens": answer.output_tokens}
        yield "message_delta", {"delta": end, "usage": usage}, False
        yield "message_stop", {}, False

    def error(self, status: int, message: str) -> Document:
        kind = "invalid_request_error" if status < 500 else "api_error"
        return {"type": "error", "error": {"type": kind, "message": message}}

    @staticmethod
    def _begun(answer: Answer) -> Document:
        return {
            "id": f"msg_scripted_{answer.number}",
            "type": "message",
            "role": "assistant",
            "model": MODEL_NAME,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": answer.input_tokens, "output_tokens": 1},
        }

    @staticmethod
    def _block(answer: Answer) -> Document:
        if answer.tool_call is None:
            return {"type": "text", "text": answer.text}
        call = answer.tool_call
        name, arguments = call.name, call.arguments
        return {
            "type": "tool_use",
            "id": f"toolu_{answer.number}",
            "name": name,
            "input": arguments,
        }

    @staticmethod
    def _stop_reason(answer: Answer) -> str:
        return "tool_use" if answer.tool_call is not None else "end_turn"


def _holds_tool_result(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in content
    )
