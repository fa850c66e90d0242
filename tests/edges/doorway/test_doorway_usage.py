"""Every model call is recorded once, with the tokens that the provider counted."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from aiohttp import web
from served_doorway import SESSION, Recorded, open_doorway, openai_at, upstream

from freehold.edges.doorway.recording import ModelCallLog
from freehold.edges.doorway.usage import EventStreamUsage, SseUsage, usage_reader
from freehold.kernel.clock import now
from freehold.ports.models import ModelCall, ModelKind, Usage
from freehold.testing.scripted_model import ScriptedModel
from freehold.testing.scripted_model.bedrock_wire import Converse, InvokeModel
from freehold.testing.scripted_model.script import Answer

# The default script's answer to these three words has thirteen.
WORDS: Any = [{"role": "user", "content": "three little words"}]
BLOCKS: Any = [{"role": "user", "content": [{"text": "three little words"}]}]
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
    ],
)
async def test_a_call_is_recorded_with_its_tokens(
    model: ScriptedModel,
    path: str,
    asked: dict[str, Any],
    named: str,
    operation: str,
    streamed: bool,
) -> None:
    started = now()
    async with open_doorway(model.providers()) as door:
        document = asked if path.startswith("bedrock") else {"model": named, **asked}
        async with door.http.post(f"{door.url}/model/{path}", json=document) as answer:
            assert answer.status == 200
            await answer.read()
        [call] = await door.calls()
        assert door.authorizing.asked[0][1] == f"models:{operation}"

    assert call.session == SESSION
    assert call.provider == path.partition("/")[0]
    assert (call.operation, call.model, call.status) == (operation, named, 200)
    assert call.streamed is streamed
    assert (call.usage.input_tokens, call.usage.output_tokens) == (3, 13)
    assert started <= call.started_at <= now()
    assert call.first_byte_ms is not None
    assert 0 < call.first_byte_ms <= call.latency_ms < 10_000


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
    assert call.usage == Usage(input_tokens=1)


def a_call(number: int) -> ModelCall:
    return ModelCall(
        id=str(number),
        session=SESSION,
        provider=ModelKind.OPENAI,
        operation="ChatCompletions",
        model="gpt",
        status=200,
        streamed=False,
        usage=Usage(),
        started_at=now(),
        first_byte_ms=1.0,
        latency_ms=2.0,
    )


async def test_no_call_waits_for_the_recorder_and_what_waits_is_recorded_together() -> None:
    go_on = asyncio.Event()

    class Slow(Recorded):
        async def record(self, calls: Sequence[ModelCall]) -> None:
            await go_on.wait()
            await super().record(calls)

    recorder = Slow()
    calls = ModelCallLog(recorder)
    async with asyncio.timeout(10):
        await calls.add(a_call(0))
        await asyncio.sleep(0)  # the first batch is under way
        for number in range(1, 100):
            await calls.add(a_call(number))
        go_on.set()
        await calls.close()
    assert [call.id for call in recorder.calls] == [str(number) for number in range(100)]
    assert recorder.batches == [1, 99]


async def test_a_recorder_that_fails_is_asked_again() -> None:
    recorder = Recorded(failures=3)
    calls = ModelCallLog(recorder, backoff_seconds=0.001)
    await calls.add(a_call(1))
    await calls.close()
    assert [call.id for call in recorder.calls] == ["1"]


async def test_a_call_that_cannot_be_recorded_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = ModelCallLog(Recorded(failures=100), backoff_seconds=0.001)
    await calls.add(a_call(7))
    await calls.close()
    assert "model call 7 of session-of-the-doorway-tests-0001 not recorded" in caplog.text


async def test_a_recorder_that_hangs_does_not_hold_a_shutdown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Hanging(Recorded):
        async def record(self, calls: Sequence[ModelCall]) -> None:
            await asyncio.Event().wait()

    calls = ModelCallLog(Hanging())
    await calls.add(a_call(8))
    await calls.close(timeout_seconds=0.05)
    assert "model call 8 " in caplog.text
