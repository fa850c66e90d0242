"""Large bodies go through in flat memory, both ways."""

import asyncio
import tracemalloc
from typing import Any

import pytest
from aiohttp import web
from served_doorway import SESSION, Authorizing, upstream
from starlette.types import Message

from freehold.edges.doorway import DoorwayEdge
from freehold.edges.pipeline import Pipeline
from freehold.kernel.session import SESSION_STATE
from freehold.ports.models import ModelKind, ModelProvider

MIB = 1 << 20
PIECE = b"x" * (64 << 10)
PIECES = 20 * MIB // len(PIECE)


async def counts_and_answers_as_much(request: web.Request) -> web.StreamResponse:
    received = 0
    async for chunk in request.content.iter_any():
        received += len(chunk)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    while received > 0:
        await response.write(PIECE)
        received -= len(PIECE)
    await response.write_eof()
    return response


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (ModelKind.OPENAI, "/model/openai/v1/chat/completions"),
        (ModelKind.BEDROCK, "/model/bedrock/model/m/converse-stream"),
    ],
)
async def test_twenty_mebibytes_each_way_in_a_few(kind: ModelKind, path: str) -> None:
    left, received, status = PIECES, 0, 0

    async def receive() -> Message:
        nonlocal left
        if left == 0:
            await asyncio.Event().wait()  # the session listens, and says no more
        left -= 1
        return {"type": "http.request", "body": PIECE, "more_body": left > 0}

    async def send(message: Message) -> None:
        nonlocal received, status
        status = message.get("status", status)
        received += len(message.get("body", b""))

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-length", str(PIECES * len(PIECE)).encode())],
        "state": {SESSION_STATE: SESSION},
    }
    async with upstream(counts_and_answers_as_much) as base_url:
        keys = ("AKIAPLATFORM", "secret", "")
        provider = ModelProvider(kind=kind, base_url=base_url, region="us-east-1", aws_keys=keys)
        edge = DoorwayEdge(
            platform=lambda *_: None,  # type: ignore[arg-type,return-value]
            pipeline=Pipeline(authorizer=Authorizing(), calls_in_flight_max=10),
            providers={kind: provider},
        )
        tracemalloc.start()
        try:
            await edge(scope, receive, send)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            await edge.close()

    assert status == 200
    assert received == PIECES * len(PIECE)
    assert peak_bytes < 6 * MIB
