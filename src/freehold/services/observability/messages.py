"""Messages of every shape that models and instrumentations have, as one shape.

Whatever cannot be understood stays as it came, in a part of the type "other": nothing is dropped.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

PARTS_MAX = 10_000
_DEPTH_MAX = 12
_TEXT_TYPES = frozenset({"text", "input_text", "output_text", "refusal", "summary_text"})
_REASONING_TYPES = frozenset({"reasoning", "thinking", "reasoningContent", "reasoning_content"})


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`type`: text, reasoning, tool_call, tool_result, image, audio, file or other. `text` of the
    first two; `id`, `name` and `arguments` of a call; `id` and `result` of a result; `uri` or
    `media_type` of the rest; `raw` of what was not understood."""

    type: str
    text: str = ""
    id: str = ""
    name: str = ""
    arguments: Any = None
    result: Any = None
    media_type: str = ""
    uri: str = ""
    raw: Any = None


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`role`: system, user, assistant or tool, or what the instrumentation said besides."""

    role: str
    parts: list[Part]
    finish_reason: str = ""


def decoded(value: Any) -> Any:
    """JSON where a text is JSON of an object or a list; otherwise as it is."""
    if isinstance(value, str) and value[:1] in ("{", "[") and value[-1:] in ("}", "]"):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value


def messages(value: Any, *, role: str) -> list[Message]:
    """A list of messages, one message, or a text; `role` for those that name none."""
    value = decoded(value)
    if value is None or value in ("", [], {}):
        return []
    if isinstance(value, Mapping):
        nested = value.get("messages")
        return messages(nested, role=role) if nested is not None else [message(value, role=role)]
    if isinstance(value, list):
        if value and all(isinstance(each, Mapping) and not _is_message(each) for each in value):
            return [Message(role=role, parts=parts(value))]
        return [message(each, role=role) for each in value[:PARTS_MAX]]
    return [Message(role=role, parts=[Part(type="text", text=str(value))])]


def message(value: Any, *, role: str) -> Message:
    if not isinstance(value, Mapping):
        return Message(role=role, parts=parts(value))
    inner = value.get("message")
    if isinstance(inner, Mapping):
        value = {**value, **inner}
    said = str(value.get("role") or role)
    found: list[Part] = []
    reasoning = value.get("reasoning_content") or value.get("reasoning")
    if isinstance(reasoning, str) and reasoning:
        found.append(Part(type="reasoning", text=reasoning))
    body = value.get("parts", value.get("content", value.get("contents")))
    id = value.get("tool_call_id") or value.get("toolCallId")
    if id and said in ("tool", "function"):
        found.append(Part(type="tool_result", id=str(id), result=one_text(body)))
    else:
        found += parts(body)
        if value.get("parts") is None and value.get("contents") and value.get("content"):
            found += parts(value["contents"])
    found += _calls(value)
    finish = value.get("finish_reason") or value.get("finishReason") or ""
    return Message(role=_ROLES.get(said, said), parts=found, finish_reason=str(finish))


_ROLES = {"model": "assistant", "ai": "assistant", "human": "user", "function": "tool"}


def parts(value: Any, *, depth: int = 0) -> list[Part]:
    value = decoded(value)
    if value is None or value == "":
        return []
    if isinstance(value, list):
        if depth > _DEPTH_MAX:
            return [Part(type="other", raw=value)]
        return [part for each in value[:PARTS_MAX] for part in parts(each, depth=depth + 1)]
    if isinstance(value, Mapping):
        return [_part(value)]
    return [Part(type="text", text=str(value))]


def _part(block: Mapping[str, Any]) -> Part:
    """A block of OpenAI's, Anthropic's, Bedrock's, Gemini's or the conventions' own."""
    kind = str(block.get("type") or "")
    if kind in _REASONING_TYPES or "reasoningContent" in block or block.get("thought") is True:
        return Part(type="reasoning", text=_reasoning(block))
    if called := _call(block, kind):
        return called
    if answered := _result(block, kind):
        return answered
    text = block.get("text", block.get("content") if kind in _TEXT_TYPES else None)
    if isinstance(text, str) and (kind in _TEXT_TYPES or not kind):
        return Part(type="text", text=text)
    return _media(block, kind) or Part(type="other", raw=dict(block))


def _reasoning(block: Mapping[str, Any]) -> str:
    for key in ("text", "content", "thinking", "reasoning", "reasoningContent", "reasoningText"):
        inner = block.get(key)
        if isinstance(inner, str):
            return inner
        if isinstance(inner, Mapping):
            return _reasoning(inner)
    summary = block.get("summary")
    if isinstance(summary, list):
        return "\n".join(part.text for part in parts(summary) if part.text)
    return ""


def _call(block: Mapping[str, Any], kind: str) -> Part | None:
    used = block.get("toolUse")
    if isinstance(used, Mapping):
        return _called(used.get("toolUseId"), used.get("name"), used.get("input"))
    function = block.get("function_call", block.get("functionCall"))
    if isinstance(function, Mapping):
        return _called(function.get("id"), function.get("name"), function.get("args"))
    if kind == "function":
        return _function(block)
    if kind not in _CALL_TYPES:
        return None
    arguments = next((block[key] for key in _ARGUMENTS if key in block), None)
    return _called(block.get("call_id") or block.get("id"), block.get("name"), arguments)


_CALL_TYPES = frozenset(
    {"tool_use", "server_tool_use", "tool_call", "function_call", "server_tool_call"}
)
_ARGUMENTS = ("arguments", "args", "input", "server_tool_call")


def _called(id: Any, name: Any, arguments: Any) -> Part:
    return Part(
        type="tool_call", id=str(id or ""), name=str(name or ""), arguments=decoded(arguments)
    )


def _function(call: Mapping[str, Any]) -> Part:
    """`{id, function: {name, arguments}}`, or the same without the inner one."""
    function = call.get("function")
    inner: Mapping[str, Any] = function if isinstance(function, Mapping) else call
    arguments = inner.get("arguments", inner.get("args", inner.get("input")))
    return _called(call.get("id"), inner.get("name"), arguments)


def _calls(value: Mapping[str, Any]) -> Iterable[Part]:
    calls = decoded(value.get("tool_calls", value.get("toolCalls")))
    if not isinstance(calls, list):
        return ()
    return [_function(call) for call in calls[:PARTS_MAX] if isinstance(call, Mapping)]


def _result(block: Mapping[str, Any], kind: str) -> Part | None:
    result = block.get("toolResult")
    if isinstance(result, Mapping):
        return _resulted(result.get("toolUseId"), result.get("content"))
    function = block.get("function_response", block.get("functionResponse"))
    if isinstance(function, Mapping):
        return _resulted(function.get("id"), function.get("response"))
    if kind == "tool_result":
        return _resulted(block.get("tool_use_id") or block.get("id"), block.get("content"))
    if kind in ("tool_call_response", "function_call_output", "server_tool_call_response"):
        answer = block.get("response", block.get("result", block.get("output")))
        if answer is None:
            answer = block.get("server_tool_call_response")
        return _resulted(block.get("id") or block.get("call_id"), answer)
    return None


def _resulted(id: Any, result: Any) -> Part:
    # Some instrumentations put a blank before the id; the specification's own example does.
    return Part(type="tool_result", id=str(id or "").strip(), result=one_text(result))


def one_text(value: Any) -> Any:
    """A lone text for the list of one text block that several wires make of it."""
    value = decoded(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        only = value[0]
        text = only.get("text", only.get("content") if only.get("type") == "text" else None)
        if isinstance(text, str):
            return text
        if set(only) == {"json"}:
            return only["json"]
    return value


def _media(block: Mapping[str, Any], kind: str) -> Part | None:
    modality = str(block.get("modality") or "")
    media_type = str(block.get("mime_type") or block.get("media_type") or "")
    if kind in ("blob", "file", "uri"):
        named = modality if modality in ("image", "audio", "video") else "file"
        uri = str(block.get("uri") or block.get("file_id") or "")
        return Part(type=named, media_type=media_type, uri=uri)
    for named in ("image", "image_url", "audio", "input_audio", "document", "video"):
        inner = block.get(named)
        if kind == named or isinstance(inner, Mapping):
            shown = {"image_url": "image", "input_audio": "audio", "document": "file"}
            return Part(type=shown.get(named, named), media_type=media_type, uri=_uri(inner))
    return None


def _uri(inner: Any) -> str:
    """A picture's bytes are no address: they are left out."""
    while isinstance(inner, Mapping):
        inner = inner.get("url", inner.get("uri", inner.get("image")))
    return inner if isinstance(inner, str) and not inner.startswith("data:") else ""


def _is_message(value: Mapping[str, Any]) -> bool:
    return "role" in value or "parts" in value or "message" in value or "tool_calls" in value


def unflattened(attributes: Mapping[str, Any], prefix: str) -> list[Any]:
    """What `prefix.0.a.b`, `prefix.1...` say, as a list. OpenInference repeats the name of what an
    item is in each (`.message.`, `.tool_call.`): such steps are left out."""
    start = prefix + "."
    root: dict[str, Any] = {}
    for key, value in attributes.items():
        if not key.startswith(start):
            continue
        steps = [step for step in key[len(start) :].split(".") if step not in _REPEATED]
        if not steps or not steps[0].isdecimal() or len(steps) > _DEPTH_MAX:
            continue
        _put(root, steps, value)
    return _lists(root) if root else []


_REPEATED = frozenset({"message", "message_content", "tool_call", "document"})


def _put(root: dict[str, Any], steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        inner = root.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        root = inner
    root.setdefault(steps[-1], value)


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(key.isdecimal() for key in value):
        return [_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _lists(inner) for key, inner in value.items()}
