"""A request that asks another model, or with other words. All else of it stays as it is."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.ports.exchanges.parts import Json
from freehold.ports.exchanges.reading import Wire

_INSTRUCTING = ("system", "developer")
_MODEL_IN_BODY = ("chat", "responses")


def changed(
    wire: Wire, body: bytes, *, model: str = "", system: str = "", prompt: str = ""
) -> bytes:
    """What is "" is left. `system` takes the place of all instructions, `prompt` of the text of the
    newest message of the user's: one that holds the results of tools alone is none. `model` is put
    where the body names one; in Bedrock's and Gemini's the path does.

    Raises ValidationFailed where the request has no place for it.
    """
    if not (model or system or prompt):
        return body
    try:
        asked: Json = msgspec.json.decode(body, type=dict)
        if model and (wire in _MODEL_IN_BODY or "model" in asked):
            asked["model"] = model
        if system:
            _shape(wire, asked).instruct(asked, system)
        if prompt:
            _shape(wire, asked).say(asked, prompt)
    except (AttributeError, KeyError, TypeError, msgspec.MsgspecError):
        raise ValidationFailed(
            "the request is of no shape in which a model, instructions or a prompt can be changed"
        ) from None
    return msgspec.json.encode(asked)


class _Parts(NamedTuple):
    """How a wire's parts hold texts. `put` of None makes a part."""

    text: Callable[[Json], str | None]
    put: Callable[[Json | None, str], Json]
    is_result: Callable[[Json], bool]


def _told(content: Any, how: _Parts, text: str) -> Any:
    """In its first text's place, the others gone; what is no text stays where it is."""
    if not isinstance(content, list):
        return text
    kept, told = [], False
    for part in content:
        if how.text(part) is None:
            kept.append(part)
        elif not told:
            kept.append(how.put(part, text))
            told = True
    return kept if told else [*kept, how.put(None, text)]


def _newest(messages: list[Json], member: str, how: _Parts) -> Json:
    for each in reversed(messages):
        if (each.get("role") or "user") != "user" or each.get("type", "message") != "message":
            continue
        content = each.get(member)
        if not (isinstance(content, list) and content and all(map(how.is_result, content))):
            return each
    raise ValidationFailed("the request has no message of a user's, and so no prompt to change")


def _say(asked: Json, member: str, parts: str, how: _Parts, text: str) -> None:
    newest = _newest(asked[member], parts, how)
    newest[parts] = _told(newest.get(parts), how, text)


def _instruct_among(messages: list[Json], how: _Parts, text: str) -> list[Json]:
    """Where instructions are messages: the first has the text, the others are gone."""
    among = [each for each in messages if each.get("role") in _INSTRUCTING]
    if not among:
        return [{"role": "system", "content": text}, *messages]
    among[0]["content"] = _told(among[0].get("content"), how, text)
    return [each for each in messages if each is among[0] or each not in among]


# -- the wires


def _plain_text(part: Json) -> str | None:
    text = part.get("text")
    return text if isinstance(text, str) else None


def _typed(kind: str) -> _Parts:
    def put(part: Json | None, text: str) -> Json:
        return {**(part or {"type": kind}), "text": text}

    return _Parts(_plain_text, put, lambda part: str(part.get("type")).endswith("tool_result"))


def _bedrock_text(part: Json) -> str | None:
    guarded = part.get("guardContent")
    return _plain_text(guarded["text"] if guarded and "text" in guarded else part)


def _bedrock_put(part: Json | None, text: str) -> Json:
    if part is None or "guardContent" not in part:
        return {**(part or {}), "text": text}
    guarded = part["guardContent"]
    return {**part, "guardContent": {**guarded, "text": {**guarded["text"], "text": text}}}


_CHAT, _RESPONSES = _typed("text"), _typed("input_text")
_CONVERSE = _Parts(_bedrock_text, _bedrock_put, lambda part: "toolResult" in part)
_GEMINI = _Parts(
    lambda part: None if part.get("thought") else _plain_text(part),
    lambda part, text: {**(part or {}), "text": text},
    lambda part: "functionResponse" in part,
)


def _instruct_chat(asked: Json, system: str) -> None:
    asked["messages"] = _instruct_among(asked["messages"], _CHAT, system)


def _instruct_responses(asked: Json, system: str) -> None:
    given = asked.get("input")
    items: list[Json] = given if isinstance(given, list) else []
    among = [each for each in items if each.get("role") in _INSTRUCTING]
    if among and asked.get("instructions") is None:
        asked["input"] = _instruct_among(items, _RESPONSES, system)
        return
    asked["instructions"] = system
    if among:
        asked["input"] = [each for each in items if each not in among]


def _say_responses(asked: Json, prompt: str) -> None:
    if isinstance(asked["input"], str):
        asked["input"] = prompt
    else:
        _say(asked, "input", "content", _RESPONSES, prompt)


def _instruct_messages(asked: Json, system: str) -> None:
    asked["system"] = _told(asked.get("system"), _CHAT, system)


def _instruct_converse(asked: Json, system: str) -> None:
    asked["system"] = _told(asked.get("system") or [], _CONVERSE, system)


def _instruct_gemini(asked: Json, system: str) -> None:
    member = "system_instruction" if "system_instruction" in asked else "systemInstruction"
    given = asked.get(member) or {}
    asked[member] = {**given, "parts": _told(given.get("parts") or [], _GEMINI, system)}


class _Shape(NamedTuple):
    instruct: Callable[[Json, str], None]
    say: Callable[[Json, str], None]


def _saying(member: str, parts: str, how: _Parts) -> Callable[[Json, str], None]:
    return lambda asked, prompt: _say(asked, member, parts, how, prompt)


_SHAPES: Mapping[str, _Shape] = {
    "chat": _Shape(_instruct_chat, _saying("messages", "content", _CHAT)),
    "responses": _Shape(_instruct_responses, _say_responses),
    "messages": _Shape(_instruct_messages, _saying("messages", "content", _CHAT)),
    "converse": _Shape(_instruct_converse, _saying("messages", "content", _CONVERSE)),
    "gemini": _Shape(_instruct_gemini, _saying("contents", "parts", _GEMINI)),
}


def _shape(wire: Wire, asked: Json) -> _Shape:
    """InvokeModel's body, which names no model, is of its maker's shape: Anthropic's says so,
    Amazon's has Converse's parts, others' are chat completions."""
    if wire != "messages" or "model" in asked or "anthropic_version" in asked:
        return _SHAPES[wire]
    parts = [
        part
        for each in asked["messages"]
        if isinstance(each["content"], list)
        for part in each["content"]
    ]
    bare = any("type" not in part for part in parts)
    return _SHAPES["converse" if bare else "chat"]
