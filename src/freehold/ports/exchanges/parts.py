"""Parts of messages as the GenAI conventions have them, and what they are called elsewhere."""

from typing import Any

import msgspec

Json = dict[str, Any]

_FINISHED = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_call",
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "completed": "stop",
    "incomplete": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}


def finish_reason(said: object) -> str:
    word = str(said or "").lower()
    return _FINISHED.get(word, word)


def text(content: object) -> Json:
    return {"type": "text", "content": str(content)}


def reasoning(content: object) -> Json:
    return {"type": "reasoning", "content": str(content)}


def tool_call(id: object, name: object, arguments: object) -> Json:
    return {"type": "tool_call", "id": id, "name": name, "arguments": arguments}


def tool_answer(id: object, response: object) -> Json:
    return {"type": "tool_call_response", "id": id, "response": response}


def other(kind: object) -> Json:
    """An image, a document, a sound: that there was one."""
    return {"type": str(kind)}


def decoded(arguments: object) -> object:
    """Arguments come as a text of JSON, or as what a model made of it."""
    if not isinstance(arguments, str):
        return arguments
    try:
        found: object = msgspec.json.decode(arguments or "{}")
    except msgspec.DecodeError:
        return arguments
    return found


def message(role: object, parts: list[Json], **more: Any) -> Json:
    return {"role": str(role), "parts": parts, **more}
