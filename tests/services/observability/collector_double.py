"""A collector of OTLP over HTTP on loopback, which keeps what it gets and answers as it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PROTOBUF = "application/x-protobuf"
_REQUESTS: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


@dataclass
class CollectorDouble:
    endpoint: str = ""
    requests: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[web.Response] = field(default_factory=list)
    """What it says first; then it takes everything."""
    spans_max: int | None = None
    """More in one request are too many for it."""
    silent: asyncio.Event | None = None
    """While set to an event, it answers when that is set."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def span_ids(self) -> list[str]:
        return [span.span_id.hex() for span in self.spans]

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            if isinstance(request, ExportTraceServiceRequest)
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    async def has(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.span_ids) < count:
                await asyncio.sleep(0.01)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        assert request.headers["Content-Encoding"] == "gzip"
        message = _REQUESTS[request.path].FromString(body)  # aiohttp has unpacked it
        self.headers.append(dict(request.headers))
        self.asked.set()
        if self.silent is not None:
            await self.silent.wait()
        if self.answers:
            return self.answers.pop(0)
        if self.spans_max is not None:
            spans = sum(len(s.spans) for r in message.resource_spans for s in r.scope_spans)
            if spans > self.spans_max:
                return web.Response(status=413)
        self.requests.append(message)
        return web.Response(body=b"", content_type=PROTOBUF)


def partly(rejected: int, why: str) -> web.Response:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = why
    return web.Response(body=answer.SerializeToString(), content_type=PROTOBUF)


@asynccontextmanager
async def collecting(port: int = 0) -> AsyncIterator[CollectorDouble]:
    double = CollectorDouble()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/{signal}", double.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    double.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield double
    finally:
        await runner.cleanup()
