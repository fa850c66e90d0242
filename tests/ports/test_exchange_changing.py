"""A recorded request asks another model, or says other words, and is the same in all else."""

import copy
from typing import Any

import msgspec
import pytest

from freehold.kernel.errors import ValidationFailed
from freehold.ports.exchanges import Wire, changed

SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}}
NEW = {"model": "other", "system": "be kind", "prompt": "and in Rome?"}

# -- as the clients of each provider send them: (wire, request, what each change makes of it)

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
CHAT: dict[str, Any] = {
    "model": "gpt", "temperature": 0.2, "stream": True, "stream_options": {"include_usage": True},
    "messages": [
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": "the weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "assistant", "content": "Rain."},
        {"role": "system", "content": "and polite"},
        {"role": "user", "content": [
            {"type": "text", "text": "and"}, IMAGE, {"type": "text", "text": "here?"},
        ]},
    ],
}  # fmt: skip
RESPONSES: dict[str, Any] = {
    "model": "gpt", "instructions": "be brief", "store": False,
    "input": [
        {"role": "user", "content": [
            {"type": "input_text", "text": "what is this?"},
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="},
        ]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "id": "f"},
        {"type": "function_call_output", "call_id": "c1", "output": "a cat"},
    ],
}  # fmt: skip
CACHED = {"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}
ASKED = {"type": "text", "text": "the weather in Oslo?"}
PICTURE = {"type": "base64", "media_type": "image/png", "data": "iVBO"}
MESSAGES: dict[str, Any] = {
    "model": "claude", "max_tokens": 100,
    "system": [CACHED, {"type": "text", "text": "and polite"}],
    "tools": [{"name": "weather", "input_schema": SCHEMA}],
    "messages": [
        {"role": "user", "content": [
            {"type": "image", "source": PICTURE}, ASKED,
        ]},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "rain"},
        ]},
    ],
}  # fmt: skip
POINT = {"cachePoint": {"type": "default"}}
TOOL_USE: Any = {"toolUse": {"toolUseId": "t", "name": "w", "input": {}}}
TOOL_RESULT = {"toolResult": {"toolUseId": "t", "content": [{"text": "rain"}]}}
CONVERSE: dict[str, Any] = {
    "system": [{"text": "be brief"}, POINT], "inferenceConfig": {"maxTokens": 9},
    "messages": [
        {"role": "user", "content": [
            {"document": {"format": "txt", "name": "d", "source": {"bytes": "aGk="}}},
            {"guardContent": {"text": {"text": "the weather?", "qualifiers": ["query"]}}},
        ]},
        {"role": "assistant", "content": [TOOL_USE]},
        {"role": "user", "content": [TOOL_RESULT]},
    ],
}  # fmt: skip
GEMINI: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "be brief"}], "role": "user"},
    "generationConfig": {"temperature": 0.0},
    "contents": [
        {"role": "user", "parts": [
            {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}, {"text": "what is this?"},
        ]},
        {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"a": 1}}}]},
    ],
}  # fmt: skip


def after(asked: dict[str, Any], *path: Any, value: Any) -> dict[str, Any]:
    """The same with another value there."""
    document = copy.deepcopy(asked)
    place = document
    for each in path[:-1]:
        place = place[each]
    place[path[-1]] = value
    return document


def without(asked: dict[str, Any], member: str, *indices: int) -> dict[str, Any]:
    kept = [each for at, each in enumerate(asked[member]) if at not in indices]
    return {**asked, member: kept}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


GUARDED = {"guardContent": {"text": {"text": "and in Rome?", "qualifiers": ["query"]}}}
CASES: list[tuple[Wire, dict[str, Any], str, dict[str, Any]]] = [
    ("chat", CHAT, "model", after(CHAT, "model", value="other")),
    ("chat", CHAT, "system", without(
        after(CHAT, "messages", 0, "content", 0, "text", value="be kind"), "messages", 5)),
    ("chat", CHAT, "prompt",
     after(CHAT, "messages", 6, "content", value=[text("and in Rome?"), IMAGE])),
    ("responses", RESPONSES, "model", after(RESPONSES, "model", value="other")),
    ("responses", RESPONSES, "system", after(RESPONSES, "instructions", value="be kind")),
    ("responses", RESPONSES, "prompt",
     after(RESPONSES, "input", 0, "content", 0, "text", value="and in Rome?")),
    ("messages", MESSAGES, "model", after(MESSAGES, "model", value="other")),
    ("messages", MESSAGES, "system",
     after(MESSAGES, "system", value=[{**CACHED, "text": "be kind"}])),
    ("messages", MESSAGES, "prompt",
     after(MESSAGES, "messages", 0, "content", 1, "text", value="and in Rome?")),
    ("converse", CONVERSE, "model", CONVERSE),
    ("converse", CONVERSE, "system", after(CONVERSE, "system", value=[{"text": "be kind"}, POINT])),
    ("converse", CONVERSE, "prompt", after(CONVERSE, "messages", 0, "content", 1, value=GUARDED)),
    ("gemini", GEMINI, "model", GEMINI),
    ("gemini", GEMINI, "system",
     after(GEMINI, "systemInstruction", "parts", 0, "text", value="be kind")),
    ("gemini", GEMINI, "prompt",
     after(GEMINI, "contents", 0, "parts", 1, "text", value="and in Rome?")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wire", "asked", "what", "expected"), CASES, ids=[f"{case[0]}-{case[2]}" for case in CASES]
)
def test_one_thing_is_changed_and_nothing_else(
    wire: Wire, asked: dict[str, Any], what: str, expected: dict[str, Any]
) -> None:
    body = msgspec.json.encode(asked)
    assert msgspec.json.decode(changed(wire, body, **{what: NEW[what]})) == expected


def told(wire: Wire, asked: dict[str, Any], **change: str) -> Any:
    return msgspec.json.decode(changed(wire, msgspec.json.encode(asked), **change))


HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("wire", "asked", "instructed"),
    [
        ("chat", {"messages": HELLO},
         {"messages": [{"role": "system", "content": "be kind"}, *HELLO]}),
        ("responses", {"input": "hello", "instructions": None},
         {"input": "hello", "instructions": "be kind"}),
        ("responses", {"input": [{"role": "system", "content": "a"}, *HELLO]},
         {"input": [{"role": "system", "content": "be kind"}, *HELLO]}),
        ("responses", {"input": [{"role": "system", "content": "a"}, *HELLO], "instructions": "b"},
         {"input": HELLO, "instructions": "be kind"}),
        ("messages", {"messages": HELLO, "model": "m"},
         {"messages": HELLO, "model": "m", "system": "be kind"}),
        ("messages", {"messages": HELLO, "model": "m", "system": "be brief"},
         {"messages": HELLO, "model": "m", "system": "be kind"}),
        ("converse", {"messages": []}, {"messages": [], "system": [{"text": "be kind"}]}),
        ("gemini", {"contents": []},
         {"contents": [], "systemInstruction": {"parts": [{"text": "be kind"}]}}),
        ("gemini", {"contents": [], "system_instruction": {"parts": [{"text": "a"}]}},
         {"contents": [], "system_instruction": {"parts": [{"text": "be kind"}]}}),
    ],
)  # fmt: skip
def test_instructions_come_to_where_the_request_has_its_own(
    wire: Wire, asked: dict[str, Any], instructed: dict[str, Any]
) -> None:
    assert told(wire, asked, system="be kind") == instructed


@pytest.mark.parametrize(
    ("wire", "asked", "member"),
    [
        ("chat", {"model": "m", "messages": HELLO}, "messages"),
        ("responses", {"model": "m", "input": HELLO}, "input"),
        ("messages", {"model": "m", "messages": HELLO}, "messages"),
    ],
)
def test_a_prompt_of_one_text_stays_one(wire: Wire, asked: dict[str, Any], member: str) -> None:
    said = {"role": "user", "content": "and in Rome?"}
    assert told(wire, asked, prompt="and in Rome?") == {**asked, member: [said]}


def test_a_prompt_that_is_the_whole_input_stays_that() -> None:
    asked = {"model": "m", "input": "hello"}
    assert told("responses", asked, prompt="and in Rome?") == {**asked, "input": "and in Rome?"}


def test_a_prompt_of_a_picture_alone_gets_words() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": [IMAGE]}]}
    [said] = told("chat", asked, prompt="and in Rome?")["messages"]
    assert said["content"] == [IMAGE, text("and in Rome?")]


# InvokeModel: the body is of its model's maker, and names no model.
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": HELLO}
NOVA = {"schemaVersion": "messages-v1", "messages": [{"role": "user", "content": [{"text": "a"}]}]}
GPT_OSS = {"messages": [{"role": "system", "content": "be brief"}, *HELLO]}
PROMPTED = {"role": "user", "content": "and in Rome?"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (CLAUDE, {**CLAUDE, "system": "be kind", "messages": [PROMPTED]}),
        (NOVA, {**NOVA, "system": [{"text": "be kind"}],
                "messages": [{"role": "user", "content": [{"text": "and in Rome?"}]}]}),
        (GPT_OSS, {"messages": [{"role": "system", "content": "be kind"}, PROMPTED]}),
    ],
    ids=["anthropic", "nova", "chat"],
)  # fmt: skip
def test_a_body_of_invoke_model_is_changed_in_its_makers_shape(
    asked: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert told("messages", asked, **NEW) == expected


def test_without_a_change_not_a_byte_is_another() -> None:
    body = b'{ "messages" : [] , "temperature":1.0}'
    assert changed("chat", body) is body


@pytest.mark.parametrize(
    ("wire", "body", "change"),
    [
        ("chat", b"not json", {"model": "m"}),
        ("chat", b"[]", {"model": "m"}),
        ("chat", b"{}", {"prompt": "p"}),
        ("chat", b'{"messages": {}}', {"prompt": "p"}),
        ("chat", b'{"messages": "hello"}', {"system": "s"}),
        ("chat", b'{"messages": [{"role": "assistant", "content": "a"}]}', {"prompt": "p"}),
        ("chat", b'{"messages": [{"role": "user", "content": ["a"]}]}', {"prompt": "p"}),
        ("messages", b'{"inputText": "a"}', {"prompt": "p"}),
        ("converse", b'{"messages": [{"role": "user", "content": [7]}]}', {"prompt": "p"}),
        ("gemini", b'{"contents": 7}', {"prompt": "p"}),
        ("gemini", b'{"systemInstruction": "a"}', {"system": "s"}),
        ("", b'{"prompt": "a"}', {"prompt": "p"}),
    ],
)
def test_what_has_no_place_for_a_change_is_refused(
    wire: Wire, body: bytes, change: dict[str, str]
) -> None:
    with pytest.raises(ValidationFailed):
        changed(wire, body, **change)
