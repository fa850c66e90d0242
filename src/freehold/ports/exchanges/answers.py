"""What was answered: the assistant's messages, of whole documents and of streams put together."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from freehold.ports.exchanges.parts import (
    Json,
    decoded,
    finish_reason,
    message,
    reasoning,
    text,
    tool_call,
)
from freehold.ports.exchanges.requests import (
    chat_parts,
    converse_parts,
    gemini_parts,
    message_parts,
    response_parts,
)


def _answered(parts: list[Json], finished: object) -> Json:
    return message("assistant", parts, finish_reason=finish_reason(finished))


# -- whole documents


def chat(answer: Json) -> list[Json]:
    return [
        _answered(chat_parts(choice["message"]), choice.get("finish_reason"))
        for choice in answer["choices"]
    ]


def responses(answer: Json) -> list[Json]:
    parts = [part for item in answer["output"] for part in response_parts(item)]
    called = any(part["type"] == "tool_call" for part in parts)
    return [_answered(parts, "tool_use" if called else answer.get("status"))]


def messages(answer: Json) -> list[Json]:
    return [_answered(message_parts(answer["content"]), answer.get("stop_reason"))]


def converse(answer: Json) -> list[Json]:
    said = answer["output"]["message"]
    return [_answered(converse_parts(said["content"]), answer.get("stopReason"))]


def gemini(answer: Json) -> list[Json]:
    return [
        _answered(gemini_parts(found["content"]["parts"]), found.get("finishReason"))
        for found in answer["candidates"]
    ]


# -- streams, event by event


class _Grown:
    """One part of a streamed message: text, thoughts, or a call whose arguments come in pieces."""

    def __init__(self) -> None:
        self.text, self.thought, self.arguments = "", "", ""
        self.id: object = None
        self.name = ""

    def parts(self) -> list[Json]:
        found = [reasoning(self.thought)] if self.thought else []
        found += [text(self.text)] if self.text else []
        if self.name:
            found.append(tool_call(self.id, self.name, decoded(self.arguments)))
        return found


def _put_together(blocks: Mapping[int, _Grown], finished: object) -> list[Json]:
    parts = [part for _, block in sorted(blocks.items()) for part in block.parts()]
    return [_answered(parts, finished)]


def chat_stream(events: Iterable[Json]) -> list[Json]:
    said, calls, finished = _Grown(), dict[int, _Grown](), None
    for event in events:
        choice = (event.get("choices") or [{}])[0]
        delta = choice.get("delta") or {}
        said.text += delta.get("content") or ""
        said.thought += delta.get("reasoning_content") or ""
        finished = choice.get("finish_reason") or finished
        for part in delta.get("tool_calls") or ():
            call = calls.setdefault(part.get("index", 0), _Grown())
            function = part.get("function") or {}
            call.id = part.get("id") or call.id
            call.name = function.get("name") or call.name
            call.arguments += function.get("arguments") or ""
    return _put_together({-1: said, **calls}, finished)


def responses_stream(events: Iterable[Json]) -> list[Json]:
    """The last event has the whole."""
    for event in reversed(list(events)):
        if str(event.get("type", "")) in ("response.completed", "response.incomplete"):
            return responses(event["response"])
    return []


def messages_stream(events: Iterable[Json]) -> list[Json]:
    blocks, finished = dict[int, _Grown](), None
    for event in events:
        match event.get("type"):
            case "content_block_start":
                begun = event["content_block"]
                block = blocks.setdefault(event["index"], _Grown())
                block.id, block.name = begun.get("id"), begun.get("name") or ""
                block.text, block.thought = begun.get("text") or "", begun.get("thinking") or ""
            case "content_block_delta":
                delta, block = event["delta"], blocks.setdefault(event["index"], _Grown())
                block.text += delta.get("text") or ""
                block.thought += delta.get("thinking") or ""
                block.arguments += delta.get("partial_json") or ""
            case "message_delta":
                finished = event["delta"].get("stop_reason") or finished
    return _put_together(blocks, finished)


def converse_stream(events: Iterable[Json]) -> list[Json]:
    """Which event it is, its members tell."""
    blocks, finished = dict[int, _Grown](), None
    for event in events:
        block = blocks.setdefault(event.get("contentBlockIndex", 0), _Grown())
        if "start" in event and "toolUse" in event["start"]:
            use = event["start"]["toolUse"]
            block.id, block.name = use.get("toolUseId"), use.get("name") or ""
        delta = event.get("delta") or {}
        block.text += delta.get("text") or ""
        block.thought += (delta.get("reasoningContent") or {}).get("text") or ""
        block.arguments += (delta.get("toolUse") or {}).get("input") or ""
        finished = event.get("stopReason") or finished
    return _put_together(blocks, finished)


def gemini_stream(events: Iterable[Json]) -> list[Json]:
    parts: list[Json] = []
    finished: Any = None
    for event in events:
        candidate = (event.get("candidates") or [{}])[0]
        finished = candidate.get("finishReason") or finished
        for part in gemini_parts((candidate.get("content") or {}).get("parts") or ()):
            last = parts[-1] if parts else {}
            if part["type"] == last.get("type") and part["type"] in ("text", "reasoning"):
                last["content"] += part["content"]
            else:
                parts.append(part)
    return [_answered(parts, finished)]


Whole = Callable[[Json], list[Json]]
Stream = Callable[[Iterable[Json]], list[Json]]
