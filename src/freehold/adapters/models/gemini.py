"""Gemini's generateContent."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from freehold.adapters.models.http import Document, ProviderHttp
from freehold.kernel.errors import Unavailable
from freehold.ports.models import Completion, Message, ModelProvider, Tool, ToolCall, Usage


class GeminiModels:
    def __init__(self, provider: ModelProvider) -> None:
        self._http = ProviderHttp(provider, {"x-goog-api-key": provider.api_key})
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
        asked = _request(messages, tools, output_tokens_max)
        model = model or self._default_model
        answer = await self._http.post(_path(model, "generateContent"), asked)
        return _completion(_parts(answer), answer.get("usageMetadata"), _version(answer, model))

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        model: str = "",
        output_tokens_max: int = 1024,
    ) -> AsyncIterator[str | Completion]:
        asked = _request(messages, tools, output_tokens_max)
        model = answered_by = model or self._default_model
        parts: list[Document] = []
        counts: Document = {}
        path = _path(model, "streamGenerateContent") + "?alt=sse"
        async for event in self._http.events(path, asked):
            if "error" in event:
                raise Unavailable(f"gemini broke off: {event['error'].get('status')}")
            answered_by = _version(event, answered_by)
            counts = event.get("usageMetadata") or counts
            for part in _parts(event):
                parts.append(part)
                if piece := _text(part):
                    yield piece
        yield _completion(parts, counts, answered_by)


def _path(model: str, method: str) -> str:
    return f"/v1beta/models/{quote(model.removeprefix('models/'), safe='')}:{method}"


def _version(answer: Document, model: str) -> str:
    return str(answer.get("modelVersion") or model)


def _request(messages: Sequence[Message], tools: Sequence[Tool], tokens_max: int) -> Document:
    system = [{"text": message.text} for message in messages if message.role == "system"]
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    asked: Document = {
        "contents": [_content(m, names) for m in messages if m.role != "system"],
        "generationConfig": {"maxOutputTokens": tokens_max},
    }
    if system:
        asked["systemInstruction"] = {"parts": system}
    if tools:
        declared = [
            {"name": t.name, "description": t.description, "parametersJsonSchema": t.schema}
            for t in tools
        ]
        asked["tools"] = [{"functionDeclarations": declared}]
    return asked


def _content(message: Message, names: Mapping[str, str]) -> Document:
    """`names` of the tools that were called, by the id of the call: an answer must name its own."""
    if message.role == "tool":
        id, _ = _unpacked(message.tool_call_id)
        answered = {"name": names.get(message.tool_call_id, ""), **_member("id", id)}
        answered["response"] = {"output": message.text}
        return {"role": "user", "parts": [{"functionResponse": answered}]}
    parts: list[Document] = [{"text": message.text}] if message.text else []
    for call in message.tool_calls:
        id, signature = _unpacked(call.id)
        called = {"name": call.name, "args": call.arguments, **_member("id", id)}
        parts.append({"functionCall": called, **_member("thoughtSignature", signature)})
    return {"role": "model" if message.role == "assistant" else "user", "parts": parts}


def _packed(number: int, part: Document) -> str:
    """The id of a call, for the port. Google's own may be missing, and newer models want back the
    signature of the thought that led to the call: both are in it."""
    return f"{number}:{part['functionCall'].get('id', '')}:{part.get('thoughtSignature', '')}"


def _unpacked(id: str) -> tuple[str, str]:
    """Google's id and the signature; of another provider's call neither."""
    _, _, rest = id.partition(":")
    own, _, signature = rest.partition(":")
    return own, signature


def _member(name: str, value: str) -> Document:
    return {name: value} if value else {}


def _parts(answer: Document) -> list[Document]:
    candidates: Any = answer.get("candidates") or ({},)
    return list((candidates[0].get("content") or {}).get("parts") or ())


def _text(part: Document) -> str:
    return "" if part.get("thought") else str(part.get("text", ""))


def _completion(parts: Sequence[Document], counts: Any, model: str) -> Completion:
    counts = counts or {}
    called = [(part["functionCall"], part) for part in parts if "functionCall" in part]
    return Completion(
        text="".join(map(_text, parts)),
        tool_calls=tuple(
            ToolCall(_packed(number, part), call["name"], call.get("args") or {})
            for number, (call, part) in enumerate(called)
        ),
        usage=Usage(
            input_tokens=_sum(counts, "promptTokenCount", "toolUsePromptTokenCount"),
            output_tokens=_sum(counts, "candidatesTokenCount", "thoughtsTokenCount"),
            cache_read_tokens=counts.get("cachedContentTokenCount"),
        ),
        model=model,
    )


def _sum(counts: Mapping[str, int], *names: str) -> int | None:
    known = [counts[name] for name in names if counts.get(name) is not None]
    return sum(known) if known else None
