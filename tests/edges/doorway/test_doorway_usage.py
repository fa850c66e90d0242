"""Every model call is one span, with the tokens that the provider counted."""

import json
from typing import Any

import msgspec
import pytest
from aiohttp import web
from served_doorway import SESSION, open_doorway, openai_at, upstream

from freehold.kernel.tracing import Kind
from freehold.ports.model_spans import PROVIDERS
from freehold.ports.models import ModelKind, Usage
from freehold.ports.usage import EventStreamUsage, SseUsage, usage_reader
from freehold.testing.scripted_model import ScriptedModel
from freehold.testing.scripted_model.bedrock_wire import Converse, InvokeModel
from freehold.testing.scripted_model.script import Answer

# The default script's answer to these three words has thirteen.
WORDS: Any = [{"role": "user", "content": "three little words"}]
BLOCKS: Any = [{"role": "user", "content": [{"text": "three little words"}]}]
CONTENTS = {"contents": [{"parts": [{"text": "three little words"}]}]}
ANTHROPIC = {"max_tokens": 9, "messages": WORDS}
USAGE_ASKED = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("path", "asked", "named", "operation", "streamed"),
    [
        ("openai/v1/chat/completions", {"messages": WORDS}, "gpt", "ChatCompletions", False),
        (
            "openai/v1/chat/completions",
            {"messages": WORDS, **USAGE_ASKED},
            "gpt",
            "ChatCompletions",
            True,
        ),
        ("openai/v1/responses", {"input": "three little words"}, "gpt", "Responses", False),
        (
            "openai/v1/responses",
            {"input": "three little words", "stream": True},
            "gpt",
            "Responses",
            True,
        ),
        ("anthropic/v1/messages", ANTHROPIC, "claude", "Messages", False),
        ("anthropic/v1/messages", {**ANTHROPIC, "stream": True}, "claude", "Messages", True),
        ("bedrock/model/us.m%3A0/converse", {"messages": BLOCKS}, "us.m:0", "Converse", False),
        ("bedrock/model/m/converse-stream", {"messages": BLOCKS}, "m", "ConverseStream", True),
        ("bedrock/model/m/invoke", ANTHROPIC, "m", "InvokeModel", False),
        (
            "bedrock/model/m/invoke-with-response-stream",
            ANTHROPIC,
            "m",
            "InvokeModelStream",
            True,
        ),
        ("gemini/v1/models/m:generateContent", CONTENTS, "m", "GenerateContent", False),
        (
            "gemini/v1beta/models/m:streamGenerateContent?alt=sse",
            CONTENTS,
            "m",
            "StreamGenerateContent",
            True,
        ),
        ("mistral/v1/chat/completions", {"messages": WORDS}, "mst", "ChatCompletions", False),
        (
            "mistral/v1/chat/completions",
            {"messages": WORDS, "stream": True},
            "mst",
            "ChatCompletions",
            True,
        ),
    ],
)
async def test_a_call_is_a_span_with_its_tokens(
    model: ScriptedModel,
    path: str,
    asked: dict[str, Any],
    named: str,
    operation: str,
    streamed: bool,
) -> None:
    async with open_doorway(model.providers()) as door:
        document = asked if path.startswith(("bedrock", "gemini")) else {"model": named, **asked}
        async with door.http.post(f"{door.url}/model/{path}", json=document) as answer:
            assert answer.status == 200
            await answer.read()
        [call] = await door.calls()
        assert door.authorizing.asked[0][1] == f"models:{operation}"

    trail, told = call.trail, call.attributes
    assert (trail.tenant, trail.agent_id) == (SESSION.tenant, SESSION.runtime_id)
    assert (trail.session_id, trail.endpoint) == (SESSION.session_id, SESSION.endpoint)
    assert told["gen_ai.provider.name"] == PROVIDERS[ModelKind(path.partition("/")[0])]
    assert call.name == f"{told['gen_ai.operation.name']} {named}"
    assert call.kind is Kind.CLIENT
    assert told["gen_ai.request.model"] == named
    assert told["http.response.status_code"] == 200
    assert (told["freehold.streamed"], told["freehold.metered"]) == (streamed, True)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (3, 13)
    assert 0 < told["freehold.first_byte_ms"] <= (call.ended_ns - call.started_ns) / 1e6
    assert not [name for name in told if "messages" in name or "exchange" in name]


def sse(*documents: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\r\n\r\n" for each in documents)


def read_in_pieces(reader: Any, data: bytes, size: int) -> Usage:
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    usage: Usage = reader.usage()
    return usage


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_cached_tokens_are_part_of_the_input_whatever_the_wire_calls_them(size: int) -> None:
    counted = Usage(input_tokens=100, output_tokens=9, cache_read_tokens=60)
    openai = {
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 60},
        }
    }
    assert read_in_pieces(SseUsage(), sse(openai), size) == counted
    plain = usage_reader("application/json; charset=utf-8", {})
    assert read_in_pieces(plain, json.dumps(openai).encode(), size) == counted
    start = {"input_tokens": 30, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 10}
    anthropic = sse(
        {"type": "message_start", "message": {"usage": {**start, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"text": 'he said "usage" aloud'}},
        {"type": "message_delta", "usage": {"output_tokens": 9}},
    )
    assert read_in_pieces(SseUsage(), anthropic, size) == msgspec.structs.replace(
        counted, cache_write_tokens=10
    )


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("wire", [Converse(stream=True), InvokeModel(stream=True)])
def test_binary_events_are_read_however_they_are_cut(wire: Any, size: int) -> None:
    answer = Answer(number=1, text="one two", tool_call=None, status=200, input_tokens=5)
    data = b"".join(frame.data for frame in wire.frames(answer, {}))
    usage = read_in_pieces(EventStreamUsage(), data, size)
    assert (usage.input_tokens, usage.output_tokens) == (5, 2)


def test_what_is_no_count_is_unknown_and_never_zero() -> None:
    for reader, data in (
        (SseUsage(), b'data: {"usage": "much"}\n\ndata: {"usage"\n\n'),
        (EventStreamUsage(), b"\x00\x00\x00\x01 no event stream, by its lengths"),
        (usage_reader("application/json", {}), b"<html>"),
        (usage_reader("application/json", {"content-encoding": "gzip"}), b"\x1f\x8b"),
        (usage_reader("audio/mpeg", {}), b"usage"),
    ):
        assert read_in_pieces(reader, data, 5) == Usage()


def test_a_long_answer_is_counted_without_being_held() -> None:
    reader = usage_reader("application/json", {})
    reader.feed(b'{"data":[')
    for _ in range(200):
        reader.feed(b"0.123456789," * 4096)
    assert len(getattr(reader, "_held")) < 256 << 10  # noqa: B009 - what is held is the point
    reader.feed(b'0],"model":"e","usage":{"prompt_tokens":5,"total_tokens":5}}')
    assert reader.usage() == Usage(input_tokens=5)


def test_an_endless_line_is_skipped_and_the_next_is_read() -> None:
    reader = SseUsage()
    reader.feed(b"data: ")
    for _ in range(40):
        reader.feed(b"x" * 65536)
    reader.feed(b'"usage"\n\ndata: {"usage":{"prompt_tokens":5}}\n')
    assert reader.usage() == Usage(input_tokens=5)


async def test_bytes_are_not_changed_on_the_way() -> None:
    body = sse({"usage": {"prompt_tokens": 1}}) + b": comment\r\n\r\ndata: \xff\xfe broken \x00\n\n"

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="text/event-stream")

    async with upstream(handle) as base_url, open_doorway(openai_at(base_url)) as door:
        async with door.http.post(f"{door.url}/model/openai/v1/responses", json={}) as answer:
            assert await answer.read() == body
        [call] = await door.calls()
    assert call.attributes["gen_ai.usage.input_tokens"] == 1
