"""The clients of `otlp.py`, in a process of their own: batches of spans, prepared, then sent.

Reads a Load as JSON from its standard input; prints Figures.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

BATCH = 512
_SPANS_A_TRACE = 8
_MODELS = ("gpt-5-mini", "claude-sonnet-5", "gemini-3-flash", "mistral-large-3")
_TEXT = (
    "The order was shipped on Tuesday and should be with you within three working days. If the "
    "parcel does not arrive, tell me the order's number and I shall look into it at once. "
)


class Load(msgspec.Struct, kw_only=True):
    url: str
    headers: dict[str, str]
    clients: int
    batches: int
    seconds: float
    content: bool = False


class Figures(msgspec.Struct, kw_only=True):
    """`seconds` from the first byte to the last answer; answers other than 200 are `refused`."""

    spans: int
    seconds: float
    batch_p50_ms: float
    refused: int
    bytes: int


def _filled(attributes: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        pair = attributes.add()
        pair.key = name
        if isinstance(value, int):
            pair.value.int_value = value
        elif isinstance(value, float):
            pair.value.double_value = value
        elif isinstance(value, list):
            pair.value.array_value.values.add().string_value = value[0]
        else:
            pair.value.string_value = value


def _steps(number: int, content: bool) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Of one trace: an agent that asks a model, calls a tool, and asks again, three times."""
    session = f"session-{number % 200:04}-of-a-benchmark-of-telemetry"
    common = {
        "session.id": session,
        "gen_ai.conversation.id": session,
        "user.id": f"u{number % 50}",
    }
    yield "invoke_agent support", 1, {
        **common, "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support",
        "gen_ai.agent.id": f"support-{number % 5}", "gen_ai.provider.name": "openai",
    }  # fmt: skip
    model = _MODELS[number % len(_MODELS)]
    for step in range(_SPANS_A_TRACE - 1):
        if step % 2:
            yield "execute_tool lookup_order", 1, {
                **common, "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "lookup_order", "gen_ai.tool.type": "function",
                "gen_ai.tool.call.id": f"call_{number}_{step}",
                **({"gen_ai.tool.call.arguments": '{"order": "A-1042"}',
                    "gen_ai.tool.call.result": _TEXT} if content else {}),
            }  # fmt: skip
            continue
        yield f"chat {model}", 3, {
            **common, "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
            "gen_ai.request.model": model, "gen_ai.response.model": model,
            "gen_ai.response.id": f"resp_{number}_{step}", "gen_ai.request.temperature": 0.2,
            "gen_ai.response.finish_reasons": ["stop"], "gen_ai.request.max_tokens": 2048,
            "gen_ai.usage.input_tokens": 812 + step, "gen_ai.usage.output_tokens": 120 + step,
            "server.address": "api.openai.com", "server.port": 443,
            **({"gen_ai.input.messages": _messages("user", 3 + step),
                "gen_ai.output.messages": _messages("assistant", 1)} if content else {}),
        }  # fmt: skip


def _messages(role: str, count: int) -> str:
    message = {"role": role, "parts": [{"type": "text", "content": _TEXT}]}
    return msgspec.json.encode([message] * count).decode()


def batches(count: int, *, content: bool) -> Iterator[bytes]:
    """Encoded, with ids of their own and times of now."""
    chance = random.Random(os.urandom(8))
    for number in range(count):
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        _filled(group.resource.attributes, {
            "service.name": "support", "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry", "deployment.environment.name": "production",
        })  # fmt: skip
        scope = group.scope_spans.add()
        scope.scope.name = "opentelemetry.instrumentation.openai_v2"
        now = time.time_ns()
        for trace in range(BATCH // _SPANS_A_TRACE):
            trace_id, root = chance.randbytes(16), b""
            began = now - chance.randrange(10**9, 60 * 10**9)
            steps = _steps(number * BATCH + trace, content)
            for step, (name, kind, attributes) in enumerate(steps):
                span = scope.spans.add()
                span.trace_id, span.span_id, span.name = trace_id, chance.randbytes(8), name
                span.kind, span.parent_span_id = kind, root
                span.start_time_unix_nano = began + step * 10**8
                span.end_time_unix_nano = began + step * 10**8 + chance.randrange(10**7, 10**8)
                root = root or span.span_id
                _filled(span.attributes, attributes)
        yield request.SerializeToString()


async def send(load: Load) -> Figures:
    prepared = list(batches(load.batches, content=load.content))
    waiting = iter(prepared)
    headers = {**load.headers, "content-type": "application/x-protobuf"}
    took: list[float] = []
    refused = 0
    sent_bytes = 0
    began = time.perf_counter()

    async def client(http: aiohttp.ClientSession) -> None:
        nonlocal refused, sent_bytes
        for body in waiting:
            if time.perf_counter() - began > load.seconds:
                return
            started = time.perf_counter()
            async with http.post(load.url, data=body, headers=headers) as answer:
                await answer.read()
                if answer.status == 200:
                    took.append(time.perf_counter() - started)
                    sent_bytes += len(body)
                else:
                    refused += 1

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        await asyncio.gather(*[client(http) for _ in range(load.clients)])
    seconds = time.perf_counter() - began
    middle = sorted(took)[len(took) // 2] * 1e3 if took else 0.0
    return Figures(
        spans=len(took) * BATCH, seconds=seconds, batch_p50_ms=middle, refused=refused,
        bytes=sent_bytes,
    )  # fmt: skip


if __name__ == "__main__":
    figures = asyncio.run(send(msgspec.json.decode(sys.stdin.buffer.read(), type=Load)))
    sys.stdout.buffer.write(msgspec.json.encode(figures))
