"""OpenAI's chat completions: its own, Mistral's, and the many servers that speak the same."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from freehold.adapters.models.http import Document, ProviderHttp
from freehold.kernel.errors import Unavailable
from freehold.ports.models import (
    Completion,
    Message,
    ModelKind,
    ModelProvider,
    Tool,
    ToolCall,
    Usage,
)


class OpenAiCompatibleModels:
    def __init__(self, provider: ModelProvider) -> None:
        key = {"authorization": f"Bearer {provider.api_key}"} if provider.api_key else {}
        self._http = ProviderHttp(provider, key)
        self._default_model = provider.default_model
        self._kind = provider.kind

    async def close(self) -> None:
        await self._http.close()

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        model: str = "",
        output_tokens_max: int = 1024,
    ) -> Completion:
        asked = self._request(messages, tools, model, output_tokens_max)
        answer = await self._http.post("/chat/completions", asked)
        choices = answer.get("choices")
        if not choices:
            raise Unavailable(f"{self._kind.value} answered without a choice")
        message = choices[0]["message"]
        return Completion(
            text=message.get("content") or "",
            tool_calls=tuple(
                _tool_call(call["id"], call["function"]["name"], call["function"]["arguments"])
                for call in message.get("tool_calls") or ()
            ),
            usage=_usage(answer.get("usage")),
            model=answer.get("model", ""),
        )

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        model: str = "",
        output_tokens_max: int = 1024,
    ) -> AsyncIterator[str | Completion]:
        asked = self._request(messages, tools, model, output_tokens_max)
        asked["stream"] = True
        if self._kind is not ModelKind.MISTRAL:  # it counts unasked, and may refuse the member
            asked["stream_options"] = {"include_usage": True}
        text: list[str] = []
        calls: dict[int, dict[str, str]] = {}
        usage, answered_by = Usage(), ""
        async for chunk in self._http.events("/chat/completions", asked):
            answered_by = chunk.get("model") or answered_by
            if chunk.get("usage"):
                usage = _usage(chunk["usage"])
            delta = chunk["choices"][0]["delta"] if chunk.get("choices") else {}
            for part in delta.get("tool_calls") or ():
                _grow(calls.setdefault(part["index"], {}), part)
            if piece := delta.get("content"):
                text.append(piece)
                yield piece
        yield Completion(
            text="".join(text),
            tool_calls=tuple(
                _tool_call(call["id"], call["name"], call["arguments"])
                for _, call in sorted(calls.items())
            ),
            usage=usage,
            model=answered_by,
        )

    def _request(
        self, messages: Sequence[Message], tools: Sequence[Tool], model: str, tokens_max: int
    ) -> Document:
        asked: Document = {
            "model": model or self._default_model,
            "messages": [_message(message) for message in messages],
            "max_tokens": tokens_max,
        }
        if tools:
            asked["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": tool.schema,
                    },
                }
                for tool in tools
            ]
        return asked


def _message(message: Message) -> Document:
    document: Document = {"role": message.role, "content": message.text}
    if message.role == "tool":
        document["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        document["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": msgspec.json.encode(call.arguments).decode(),
                },
            }
            for call in message.tool_calls
        ]
    return document


def _grow(call: dict[str, str], part: dict[str, Any]) -> None:
    """A streamed tool call comes in parts: id and name once, arguments in pieces."""
    function = part.get("function") or {}
    call["id"] = part.get("id") or call.get("id", "")
    call["name"] = function.get("name") or call.get("name", "")
    call["arguments"] = call.get("arguments", "") + (function.get("arguments") or "")


def _tool_call(id: str, name: str, arguments: str) -> ToolCall:
    try:
        return ToolCall(id, name, msgspec.json.decode(arguments or "{}", type=dict))
    except msgspec.DecodeError:
        raise Unavailable(f"the model called {name} with arguments that are not JSON") from None


def _usage(counts: dict[str, Any] | None) -> Usage:
    counts = counts or {}
    return Usage(
        input_tokens=counts.get("prompt_tokens"),
        output_tokens=counts.get("completion_tokens"),
        cache_read_tokens=(counts.get("prompt_tokens_details") or {}).get("cached_tokens"),
    )
