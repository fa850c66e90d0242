"""What was said in a message that a framework wrapped.

AWS's session manager for Strands puts the JSON of a whole message where a text is expected: the
words among ids, times and token counts, a tool's answer under the role of the user. Who searches or
learns is given what was said; the event stays as it came. A text of any other form is itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

_SESSION_MESSAGE = {"message", "message_id", "created_at"}
"""Of Strands' own form, {"message": {"role", "content": [block, ...]}, ...}."""
_CHAT_MESSAGE = {
    "role", "content", "tool_calls", "tool_call_id", "status", "_strands_reasoning_content",
}  # fmt: skip
"""All that the other form has, a message of OpenAI's; a document with more is somebody's text."""
_CHAT_ROLES = {"user", "assistant", "tool", "system"}


def said_in(text: str) -> tuple[str, bool]:
    """The words, and whether they are a tool's answer alone."""
    if not (text.startswith('{"message": {') or text.startswith('{"role": "')):
        return text, False
    try:
        found = msgspec.json.decode(text.encode())
    except (ValueError, RecursionError):
        return text, False
    if found.keys() >= _SESSION_MESSAGE:
        message = found.get("redact_message") or found["message"]
        blocks = message.get("content") if isinstance(message, dict) else None
        return _of_blocks(blocks) if isinstance(blocks, list) else (text, False)
    role = found.get("role")
    if found.keys() <= _CHAT_MESSAGE and "content" in found and str(role) in _CHAT_ROLES:
        calls = [call.get("function") for call in _objects(found.get("tool_calls"))]
        used = [_call(each.get("name"), each.get("arguments")) for each in _objects(calls)]
        content = found["content"]
        words = [content] if isinstance(content, str) and content else []
        return "\n".join([*words, *used]), role == "tool"
    return text, False


def _of_blocks(blocks: Sequence[Any]) -> tuple[str, bool]:
    words, answers = [], []
    for block in _objects(blocks):
        if isinstance(block.get("text"), str):
            words.append(block["text"])
        elif isinstance(use := block.get("toolUse"), dict):
            words.append(_call(use.get("name"), use.get("input")))
        elif isinstance(result := block.get("toolResult"), dict):
            answers += [_answer(part) for part in _objects(result.get("content"))]
    return "\n".join([*words, *filter(None, answers)]), bool(answers) and not words


def _answer(part: Mapping[str, Any]) -> str:
    if isinstance(part.get("text"), str):
        return str(part["text"])
    return msgspec.json.encode(part["json"]).decode() if "json" in part else ""


def _call(name: Any, arguments: Any) -> str:
    """What an agent did is a part of what happened."""
    given = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return f"[{name} {given}]"


def _objects(values: Any) -> list[Mapping[str, Any]]:
    if not isinstance(values, list):
        return []
    return [value for value in values if isinstance(value, dict)]
