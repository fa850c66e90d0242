"""The OTLP edge on a port, with everything behind it but a store: what is stored stays in lists."""

import asyncio
import base64
import io
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from edge_ground import REGION, Audited, Keys
from freehold.edges.otlp.app import OtlpEdge
from freehold.edges.pipeline import Pipeline
from freehold.edges.serving import Root
from freehold.kernel.caller import Caller
from freehold.kernel.errors import AccessDenied, FreeholdError, Unavailable
from freehold.kernel.session import SESSION_STATE, DoorwaySession
from freehold.ports.audit import AuditEvent
from freehold.ports.authorizer import AccessKey
from freehold.ports.spans import Facts, SpanRecord
from freehold.ports.telemetry import LogRecord, MetricPoint
from freehold.services.observability import mapper
from freehold.services.observability.configuration import Compiled, TelemetryConfiguration
from freehold.services.observability.content import ContentPolicy
from freehold.services.observability.exports import ExportService
from freehold.services.observability.ingest import Ingest
from freehold.services.observability.redaction import Redactor

TENANT = "123456789012"
PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


class Stored:
    """A store of spans, of log records or of points, which fails while `failure` is set, and
    stands still while `gate` is shut."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.batches: list[int] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, rows: Sequence[Any]) -> None:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.batches.append(len(rows))
        self.rows += rows

    @property
    def spans(self) -> list[SpanRecord]:
        return self.rows

    @property
    def logs(self) -> list[LogRecord]:
        return self.rows

    @property
    def points(self) -> list[MetricPoint]:
        return self.rows

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"ingest only writes: {name}")


class Capturing:
    """Which runtimes have their content captured."""

    def __init__(self, *runtimes: str) -> None:
        self.runtimes = set(runtimes)

    async def captures(self, tenant: str, runtime_id: str) -> bool:
        return runtime_id in self.runtimes


class Configured:
    """One configuration for every tenant."""

    def __init__(self, configuration: TelemetryConfiguration | None = None) -> None:
        self.configuration = configuration or TelemetryConfiguration()

    async def of(self, tenant: str) -> Compiled:
        redaction = self.configuration.redaction
        return Compiled(self.configuration, Redactor(redaction.built_in, redaction.rules))


class Noting(Audited):
    def note(self, event: AuditEvent) -> None:
        self.events.append(event)


class Free:
    """What nothing costs, and needs no prices."""

    async def ready(self, spans: Sequence[SpanRecord]) -> None:
        pass

    def facts_of(self, span: SpanRecord) -> Facts:
        return mapper.facts(span.name, span.attributes, scope=span.scope)


class Allowing:
    """Everybody, but `denied` tenants."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.denied: set[str] = set()

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        self.asked.append((caller.tenant, operation))
        if caller.tenant in self.denied:
            raise AccessDenied("not with these roles")
        return caller.tenant


class OtlpGround:
    def __init__(
        self,
        state: Path,
        *,
        capturing: Capturing | None = None,
        configured: Configured | None = None,
        session: DoorwaySession | None = None,
        client: tuple[str, int] | None = None,
        stores: Mapping[str, Any] | None = None,
        **limits: Any,
    ) -> None:
        self.spans, self.logs, self.points = Stored(), Stored(), Stored()
        kept = stores or {}
        self.keys, self.authorizing, self.audited = Keys(), Allowing(), Noting()
        self.ingest = Ingest(
            kept.get("spans", self.spans),
            kept.get("logs", self.logs),
            kept.get("points", self.points),
            content=ContentPolicy(capturing or Capturing(), configured or Configured()),
            prices=Free(),
            **limits,
        )
        self.exports = ExportService(self.ingest)
        self._session, self._client = session, client
        self._edge = OtlpEdge(
            self.exports,
            pipeline=Pipeline(
                authorizer=self.authorizing, calls_in_flight_max=200, audit=self.audited
            ),
            keys=self.keys,
            region=REGION,
            spool_directory=str(state),
            otherwise=_nothing,
        )
        self.endpoint = ""
        self.http: aiohttp.ClientSession

    @asynccontextmanager
    async def served(self) -> AsyncIterator["OtlpGround"]:
        root = Root({b"/otlp": self._edge, b"/v1": self._edge}, otherwise=_nothing)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if self._session is not None:
                scope["state"] = {SESSION_STATE: self._session}
            if self._client is not None:
                scope["client"] = self._client
            await root(scope, receive, send)

        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        async with asyncio.timeout(30):
            while not server.started:
                await asyncio.sleep(0.005)
        self.endpoint = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            async with aiohttp.ClientSession() as self.http:
                yield self
        finally:
            server.should_exit = server.force_exit = True
            async with asyncio.timeout(30):
                await task
                await self.ingest.close()

    def key(self, tenant: str = TENANT) -> AccessKey:
        return self.keys.of(tenant)

    async def send(
        self,
        body: bytes,
        signal: str = "traces",
        *,
        prefix: str = "/otlp",
        headers: Mapping[str, str] = PROTOBUF,
        authorization: str | None = None,
    ) -> "Answer":
        """With the tenant's key, unless something else is to be shown; "" shows nothing."""
        shown = basic(self.key()) if authorization is None else authorization
        sent = {**headers, **({"authorization": shown} if shown else {})}
        url = f"{self.endpoint}{prefix}/v1/{signal}"
        async with self.http.post(url, data=io.BytesIO(body), headers=sent) as answer:
            return Answer(answer.status, answer.headers, await answer.read())


class Answer:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


def basic(key: AccessKey, secret: str | None = None) -> str:
    shown = f"{key.id}:{key.secret if secret is None else secret}"
    return "Basic " + base64.b64encode(shown.encode()).decode()


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"nothing of the edge's"})


def fill(attributes: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        pair = attributes.add()
        pair.key = name
        put(pair.value, value)


def put(into: Any, value: Any) -> None:
    if isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, int):
        into.int_value = value
    elif isinstance(value, float):
        into.double_value = value
    elif isinstance(value, bytes):
        into.bytes_value = value
    elif isinstance(value, str):
        into.string_value = value
    elif isinstance(value, dict):
        into.kvlist_value.SetInParent()
        fill(into.kvlist_value.values, value)
    else:
        into.array_value.SetInParent()
        for each in value:
            put(into.array_value.values.add(), each)


def a_span(name: str = "chat", **more: Any) -> Span:
    """`attributes` among `more` as a mapping."""
    attributes = more.pop("attributes", {})
    now = time.time_ns()
    span = Span(
        **{
            "name": name, "trace_id": os.urandom(16), "span_id": os.urandom(8),
            "start_time_unix_nano": now - 10**9, "end_time_unix_nano": now, **more,
        }
    )  # fmt: skip
    fill(span.attributes, attributes)
    return span


def a_request(*spans: Span, resource: Mapping[str, Any] | None = None) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    fill(group.resource.attributes, resource or {"service.name": "a client"})
    scoped = group.scope_spans.add()
    scoped.scope.name, scoped.scope.version = "test", "1"
    scoped.spans.extend(spans)
    return request


STORE_AWAY: FreeholdError = Unavailable("the database is away")
