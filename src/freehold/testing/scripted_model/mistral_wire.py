"""Mistral's chat completions: OpenAI's, but for what they ask and count."""

from collections.abc import Iterator

from freehold.testing.scripted_model.openai_wire import ChatCompletions
from freehold.testing.scripted_model.script import Answer, Turn
from freehold.testing.scripted_model.wire import BadRequest, Document, Frame


class MistralChat(ChatCompletions):
    """Refuses what Mistral refuses: ids of tool calls of another length, OpenAI's own members."""

    def turn(self, request: Document) -> Turn:
        if "stream_options" in request:
            raise BadRequest("stream_options: extra inputs are not permitted")
        turn = super().turn(request)
        for message in request["messages"]:
            for call in message.get("tool_calls") or ():
                if len(call.get("id", "")) != _ID_CHARACTERS:
                    raise BadRequest(f"the id of a tool call has {_ID_CHARACTERS} characters")
        return turn

    def frames(self, answer: Answer, request: Document) -> Iterator[Frame]:
        return super().frames(answer, {"stream_options": {"include_usage": True}})

    def error(self, status: int, message: str) -> Document:
        kind = "invalid_request_error" if status < 500 else "server_error"
        return {"object": "error", "message": message, "type": kind, "param": None, "code": None}

    @staticmethod
    def _tool_call(answer: Answer) -> Document:
        called = ChatCompletions._tool_call(answer)
        return {**called, "id": f"scrip{answer.number % 10_000:04d}"}


_ID_CHARACTERS = 9
