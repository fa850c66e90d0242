"""Anthropic's messages."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from freehold.adapters.models.http import Document, ProviderHttp
from freehold.kernel.errors import Unavailable
from freehold.ports.models import Completion, Message, ModelProvider, Tool, ToolCall, Usage

_API_VERSION = "2023-06-01"


class AnthropicModels:
    def __init__(self, provider: ModelProvider) -> None:
        headers = {"x-api-key": provider.api_key, "anthropic-version": _API_VERSION}
        self._http = ProviderHttp(provider, headers)
        self._default_model = provider.default_model

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
        answer = await self._http.post("/v1/messages", asked)
        return _completion(answer.get("content", ()), answer.get("usage", {}), answer["model"])

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        model: str = "",
        output_tokens_max: int = 1024,
    ) -> AsyncIterator[str | Completion]:
        asked = self._request(messages, tools, model, output_tokens_max)
        blocks: dict[int, Document] = {}
        usage: dict[str, Any] = {}
        answered_by = ""
        async for event in self._http.events("/v1/messages", {**asked, "stream": True}):
            kind = event.get("type")
            if kind == "message_start":
                answered_by = event["message"]["model"]
                usage |= event["message"].get("usage", {})
            elif kind == "content_block_start":
                blocks[event["index"]] = {**event["content_block"], "json": ""}
            elif kind == "content_block_delta":
                block, delta = blocks[event["index"]], event["delta"]
                if delta["type"] == "text_delta":
                    block["text"] += delta["text"]
                    yield delta["text"]
                elif delta["type"] == "input_json_delta":
                    block["json"] += delta["partial_json"]
            elif kind == "message_delta":
                usage |= event.get("usage", {})
            elif kind == "error":
                raise Unavailable(f"anthropic broke off: {event['error'].get('type')}")
        for block in blocks.values():
            if block["json"]:
                block["input"] = msgspec.json.decode(block["json"], type=dict)
        yield _completion(blocks.values(), usage, answered_by)

    def _request(
        self, messages: Sequence[Message], tools: Sequence[Tool], model: str, tokens_max: int
    ) -> Document:
        system = "\n\n".join(message.text for message in messages if message.role == "system")
        asked: Document = {
            "model": model or self._default_model,
            "max_tokens": tokens_max,
            "messages": [_message(message) for message in messages if message.role != "system"],
        }
        if system:
            asked["system"] = system
        if tools:
            asked["tools"] = [
                {"name": t.name, "description": t.description, "input_schema": t.schema}
                for t in tools
            ]
        return asked


def _message(message: Message) -> Document:
    if message.role == "tool":
        result = {
            "type": "tool_result",
            "tool_use_id": message.tool_call_id,
            "content": message.text,
        }
        return {"role": "user", "content": [result]}
    blocks: list[Document] = [{"type": "text", "text": message.text}] if message.text else []
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
        for call in message.tool_calls
    ]
    return {"role": message.role, "content": blocks}


def _completion(content: Any, counts: dict[str, Any], model: str) -> Completion:
    read, write = counts.get("cache_read_input_tokens"), counts.get("cache_creation_input_tokens")
    fresh = counts.get("input_tokens")
    return Completion(
        text="".join(block["text"] for block in content if block["type"] == "text"),
        tool_calls=tuple(
            ToolCall(block["id"], block["name"], block["input"])
            for block in content
            if block["type"] == "tool_use"
        ),
        usage=Usage(
            input_tokens=None if fresh is None else fresh + (read or 0) + (write or 0),
            output_tokens=counts.get("output_tokens"),
            cache_read_tokens=read,
            cache_write_tokens=write,
        ),
        model=model,
    )
