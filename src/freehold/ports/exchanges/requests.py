"""What was asked: (system instructions, messages) of each wire's request."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from freehold.ports.exchanges.parts import (
    Json,
    decoded,
    message,
    other,
    reasoning,
    text,
    tool_answer,
    tool_call,
)

Asked = tuple[list[Json], list[Json]]


def chat(asked: Json) -> Asked:
    """OpenAI's chat completions; the system's words are messages among the others there."""
    return [], [_chat_message(each) for each in asked["messages"]]


def _chat_message(said: Json) -> Json:
    if said["role"] == "tool":
        content = said.get("content")
        return message("tool", [tool_answer(said.get("tool_call_id"), _plain(content))])
    return message(said["role"], chat_parts(said))


def chat_parts(said: Json) -> list[Json]:
    parts = [reasoning(said["reasoning_content"])] if said.get("reasoning_content") else []
    content = said.get("content")
    if isinstance(content, str) and content:
        parts.append(text(content))
    elif isinstance(content, list):
        parts += [
            text(each["text"]) if isinstance(each.get("text"), str) else other(each.get("type"))
            for each in content
        ]
    for call in said.get("tool_calls") or ():
        function = call["function"]
        parts.append(tool_call(call.get("id"), function["name"], decoded(function["arguments"])))
    return parts


def responses(asked: Json) -> Asked:
    instructions = asked.get("instructions")
    system = [text(instructions)] if instructions else []
    given = asked.get("input")
    if isinstance(given, str):
        return system, [message("user", [text(given)])]
    return system, [_response_message(each) for each in given or ()]


def _response_message(item: Json) -> Json:
    kind = item.get("type", "message")
    if kind == "function_call_output":
        return message("tool", [tool_answer(item.get("call_id"), _plain(item.get("output")))])
    role = item.get("role", "assistant")
    return message(role, response_parts(item))


def response_parts(item: Json) -> list[Json]:
    match item.get("type", "message"):
        case "message":
            content = item.get("content")
            if isinstance(content, str):
                return [text(content)]
            return [
                text(each["text"]) if isinstance(each.get("text"), str) else other(each.get("type"))
                for each in content or ()
            ]
        case "function_call":
            return [tool_call(item.get("call_id"), item["name"], decoded(item["arguments"]))]
        case "reasoning":
            return [reasoning(each["text"]) for each in item.get("summary") or ()]
        case kind:
            return [other(kind)]


def messages(asked: Json) -> Asked:
    """Anthropic's."""
    system = asked.get("system")
    instructions = [text(system)] if isinstance(system, str) and system else []
    if isinstance(system, list):
        instructions = [text(each["text"]) for each in system]
    return instructions, [_turn(each, message_parts) for each in asked["messages"]]


def message_parts(content: object) -> list[Json]:
    if isinstance(content, str):
        return [text(content)]
    assert isinstance(content, list), "a text or blocks"
    return [_block(each) for each in content]


def _block(block: Json) -> Json:
    match block.get("type"):
        case "text":
            return text(block["text"])
        case "thinking":
            return reasoning(block["thinking"])
        case "tool_use":
            return tool_call(block.get("id"), block["name"], block.get("input"))
        case "tool_result":
            return tool_answer(block.get("tool_use_id"), _plain(block.get("content")))
        case kind:
            return other(kind)


def converse(asked: Json) -> Asked:
    """Bedrock's."""
    system = [text(each["text"]) for each in asked.get("system") or () if "text" in each]
    return system, [_turn(each, converse_parts) for each in asked["messages"]]


def converse_parts(content: Iterable[Json]) -> list[Json]:
    return [_converse_block(each) for each in content]


def _converse_block(block: Json) -> Json:
    if "text" in block:
        return text(block["text"])
    if "toolUse" in block:
        use = block["toolUse"]
        return tool_call(use.get("toolUseId"), use["name"], use.get("input"))
    if "toolResult" in block:
        result = block["toolResult"]
        given = [each.get("text", each.get("json")) for each in result.get("content") or ()]
        return tool_answer(result.get("toolUseId"), given[0] if len(given) == 1 else given)
    if "reasoningContent" in block:
        return reasoning(block["reasoningContent"]["reasoningText"]["text"])
    return other(next(iter(block), "unknown"))


def gemini(asked: Json) -> Asked:
    system = (asked.get("systemInstruction") or asked.get("system_instruction") or {}).get("parts")
    return (
        gemini_parts(system or ()),
        [_gemini_turn(each) for each in asked.get("contents") or ()],
    )


def _gemini_turn(said: Json) -> Json:
    role = "assistant" if said.get("role") == "model" else "user"
    return _of_tools(message(role, gemini_parts(said.get("parts") or ())))


def gemini_parts(parts: Iterable[Json]) -> list[Json]:
    return [_gemini_part(each) for each in parts]


def _gemini_part(part: Json) -> Json:
    if "functionCall" in part:
        call = part["functionCall"]
        return tool_call(call.get("id"), call["name"], call.get("args"))
    if "functionResponse" in part:
        answer = part["functionResponse"]
        return tool_answer(answer.get("id") or answer.get("name"), answer.get("response"))
    if "text" in part:
        return reasoning(part["text"]) if part.get("thought") else text(part["text"])
    return other(next(iter(part), "unknown"))


def _turn(said: Json, parts: Callable[[Any], list[Json]]) -> Json:
    return _of_tools(message(said["role"], parts(said["content"])))


def _of_tools(said: Json) -> Json:
    """Answers of tools come as a user's; here they have a role of their own."""
    answers = [each for each in said["parts"] if each["type"] == "tool_call_response"]
    return {**said, "role": "tool"} if answers and len(answers) == len(said["parts"]) else said


def _plain(content: object) -> object:
    """A tool's answer in one text, where it is texts."""
    if isinstance(content, list):
        texts = [each["text"] for each in content if isinstance(each, Mapping) and "text" in each]
        return "\n".join(texts) if len(texts) == len(content) else content
    return content
