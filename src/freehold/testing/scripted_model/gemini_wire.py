"""Gemini's generateContent."""

from collections.abc import Iterator
from typing import Any

from freehold.testing.scripted_model.script import MODEL_NAME, Answer, Turn
from freehold.testing.scripted_model.wire import (
    BadRequest,
    Document,
    Frame,
    messages_of,
    sse,
    text_of,
    turn_of,
)

_STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED"}


class GenerateContent:
    """`stream`: streamGenerateContent, for here the path says so and not the body."""

    stream_content_type = "text/event-stream"

    def __init__(self, *, stream: bool) -> None:
        self._stream = stream

    def turn(self, request: Document) -> Turn:
        contents = [_read(content) for content in messages_of(request, "contents")]
        return turn_of(
            contents,
            system=_read(request.get("systemInstruction") or {}),
            tools=(
                declared.get("name")
                for tool in request.get("tools") or ()
                for declared in tool.get("functionDeclarations") or ()
            ),
            tool_said=any("functionResponse" in part for part in contents[-1]["parts"]),
            stream=self._stream,
        )

    def whole(self, answer: Answer) -> Document:
        if answer.tool_call is None:
            return self._response(answer, {"text": answer.text}, "STOP")
        return self._response(answer, self._call(answer), "STOP")

    def frames(self, answer: Answer, request: Document) -> Iterator[Frame]:
        if answer.tool_call is not None:
            yield sse(self.whole(answer), piece=True)
            return
        for piece in answer.pieces:
            yield sse(self._response(answer, {"text": piece}), piece=True)
        yield sse(self._response(answer, {"text": ""}, "STOP"))

    def error(self, status: int, message: str) -> Document:
        name = _STATUSES.get(status, "INTERNAL")
        return {"error": {"code": status, "message": message, "status": name}}

    @staticmethod
    def _call(answer: Answer) -> Document:
        assert answer.tool_call is not None
        called = {"name": answer.tool_call.name, "args": answer.tool_call.arguments}
        return {"functionCall": called, "thoughtSignature": "c2NyaXB0ZWQ="}

    @staticmethod
    def _response(answer: Answer, part: Document, finish: str | None = None) -> Document:
        """Counts come with the last piece alone; as Google does, input comes with each."""
        counts = {"promptTokenCount": answer.input_tokens}
        candidate: Document = {"content": {"role": "model", "parts": [part]}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
            counts["candidatesTokenCount"] = answer.output_tokens
        counts["totalTokenCount"] = sum(counts.values())
        return {
            "candidates": [candidate],
            "usageMetadata": counts,
            "modelVersion": MODEL_NAME,
            "responseId": f"scripted-{answer.number}",
        }


def _read(content: Document) -> Document:
    """With the text of what tools answered where the other wires have theirs."""
    parts = content.get("parts")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        if content:
            raise BadRequest("parts must be a list of objects")
        parts = []
    return {"parts": parts, "content": [_text(part) for part in parts]}


def _text(part: Document) -> Any:
    if "functionResponse" in part:
        response = part["functionResponse"].get("response") or {}
        said = response.get("output", response.get("result", response))
        return said if isinstance(said, str) else text_of({"json": said})
    return part.get("text", "")
