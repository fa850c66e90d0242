"""OpenAI's chat completions and responses."""

from collections.abc import Iterator

from freehold.testing.scripted_model.script import MODEL_NAME, Answer, Turn
from freehold.testing.scripted_model.wire import (
    BadRequest,
    Document,
    Frame,
    messages_of,
    sse,
    turn_of,
)

_CREATED = 1_700_000_000  # fixed: the same script gives the same bytes


def _error(status: int, message: str) -> Document:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


class ChatCompletions:
    stream_content_type = "text/event-stream"

    def turn(self, request: Document) -> Turn:
        messages = messages_of(request)
        if not request.get("model"):
            raise BadRequest("model is required")
        return turn_of(
            messages,
            system=None,
            tools=(tool.get("function", {}).get("name") for tool in request.get("tools") or ()),
            tool_said=messages[-1].get("role") == "tool",
            stream=bool(request.get("stream")),
        )

    def whole(self, answer: Answer) -> Document:
        message: Document = {"role": "assistant", "content": answer.text or None, "refusal": None}
        if answer.tool_call is not None:
            message["tool_calls"] = [self._tool_call(answer)]
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": self._finish(answer),
            "logprobs": None,
        }
        return self._envelope(answer, "chat.completion", [choice], self._usage(answer))

    def frames(self, answer: Answer, request: Document) -> Iterator[Frame]:
        def chunk(delta: Document, finish: str | None = None, *, piece: bool = False) -> Frame:
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            return sse(self._envelope(answer, "chat.completion.chunk", [choice]), piece=piece)

        yield chunk({"role": "assistant", "content": ""})
        if answer.tool_call is not None:
            yield chunk({"tool_calls": [{"index": 0, **self._tool_call(answer)}]}, piece=True)
        else:
            for piece in answer.pieces:
                yield chunk({"content": piece}, piece=True)
        yield chunk({}, self._finish(answer))
        if (request.get("stream_options") or {}).get("include_usage"):
            yield sse(self._envelope(answer, "chat.completion.chunk", [], self._usage(answer)))
        yield Frame(b"data: [DONE]\n\n")

    def error(self, status: int, message: str) -> Document:
        return _error(status, message)

    @staticmethod
    def _finish(answer: Answer) -> str:
        return "tool_calls" if answer.tool_call is not None else "stop"

    @staticmethod
    def _tool_call(answer: Answer) -> Document:
        assert answer.tool_call is not None
        function = {"name": answer.tool_call.name, "arguments": answer.arguments_json}
        return {"id": f"call_{answer.number}", "type": "function", "function": function}

    @staticmethod
    def _usage(answer: Answer) -> Document:
        return {
            "prompt_tokens": answer.input_tokens,
            "completion_tokens": answer.output_tokens,
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }

    @staticmethod
    def _envelope(
        answer: Answer, kind: str, choices: list[Document], usage: Document | None = None
    ) -> Document:
        return {
            "id": f"chatcmpl-scripted-{answer.number}",
            "object": kind,
            "created": _CREATED,
            "model": MODEL_NAME,
            "choices": choices,
            "usage": usage,
        }


class Responses:
    stream_content_type = "text/event-stream"

    def turn(self, request: Document) -> Turn:
        if not request.get("model"):
            raise BadRequest("model is required")
        said = request.get("input")
        if isinstance(said, str):
            messages: list[Document] = [{"role": "user", "content": said}]
        else:
            messages = messages_of(request, "input")
        return turn_of(
            messages,
            system=request.get("instructions"),
            tools=(tool.get("name") for tool in request.get("tools") or ()),
            tool_said=messages[-1].get("type") == "function_call_output",
            stream=bool(request.get("stream")),
        )

    def whole(self, answer: Answer) -> Document:
        return self._response(answer, "completed", [self._item(answer)])

    def frames(self, answer: Answer, request: Document) -> Iterator[Frame]:
        number = 0

        def event(name: str, /, *, piece: bool = False, **fields: object) -> Frame:
            nonlocal number
            number += 1
            document = {"type": name, "sequence_number": number - 1, **fields}
            return sse(document, name, piece=piece)

        item = self._item(answer)
        begun: Document = {**item, "status": "in_progress"}
        begun["content" if answer.tool_call is None else "arguments"] = (
            [] if answer.tool_call is None else ""
        )
        at = {"output_index": 0, "item_id": item["id"]}
        yield event("response.created", response=self._response(answer, "in_progress", []))
        yield event("response.output_item.added", output_index=0, item=begun)
        if answer.tool_call is not None:
            arguments = answer.arguments_json
            name = "response.function_call_arguments"
            yield event(f"{name}.delta", piece=True, delta=arguments, **at)
            yield event(f"{name}.done", arguments=arguments, name=answer.tool_call.name, **at)
        else:
            at["content_index"] = 0
            part: Document = {"type": "output_text", "text": "", "annotations": []}
            yield event("response.content_part.added", part=part, **at)
            for piece in answer.pieces:
                delta = {"delta": piece, "logprobs": [], **at}
                yield event("response.output_text.delta", piece=True, **delta)
            yield event("response.output_text.done", text=answer.text, logprobs=[], **at)
            yield event("response.content_part.done", part={**part, "text": answer.text}, **at)
        yield event("response.output_item.done", output_index=0, item=item)
        yield event("response.completed", response=self.whole(answer))

    def error(self, status: int, message: str) -> Document:
        return _error(status, message)

    @staticmethod
    def _item(answer: Answer) -> Document:
        if answer.tool_call is not None:
            return {
                "id": f"fc_{answer.number}",
                "type": "function_call",
                "status": "completed",
                "call_id": f"call_{answer.number}",
                "name": answer.tool_call.name,
                "arguments": answer.arguments_json,
            }
        return {
            "id": f"msg_{answer.number}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": answer.text, "annotations": []}],
        }

    @staticmethod
    def _response(answer: Answer, status: str, output: list[Document]) -> Document:
        usage = {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
        return {
            "id": f"resp_scripted_{answer.number}",
            "object": "response",
            "created_at": _CREATED,
            "status": status,
            "model": MODEL_NAME,
            "output": output,
            "usage": usage if status == "completed" else None,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "top_p": 1.0,
            "tool_choice": "auto",
            "tools": [],
        }
