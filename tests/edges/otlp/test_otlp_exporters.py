"""OpenTelemetry's own exporters as clients: they need the endpoint and a header, nothing else."""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from otlp_ground import TENANT, OtlpGround

RESOURCE = Resource.create({"service.name": "a client", "session.id": "from the resource"})


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_HEADERS", raising=False)
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)


@pytest.mark.parametrize("compression", [Compression.Gzip, Compression.NoCompression])
async def test_spans(
    tmp_path: Path, compression: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        _configure(monkeypatch, ground)

        def work() -> None:
            provider = TracerProvider(resource=RESOURCE)
            exporter = OTLPSpanExporter(compression=compression)
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            tracer = provider.get_tracer("their.library", "1.2")
            with tracer.start_as_current_span("parent", context=context.Context()) as parent:
                parent.set_attribute("gen_ai.operation.name", "invoke_agent")
                with tracer.start_as_current_span("child", kind=trace.SpanKind.CLIENT) as child:
                    child.set_attribute("gen_ai.operation.name", "chat")
                    child.set_attribute("gen_ai.provider.name", "openai")
                    child.set_attribute("gen_ai.request.model", "gpt-4o")
                    child.set_attribute("gen_ai.usage.input_tokens", 7)
                    child.set_attribute("list", ["a", "b"])
                    child.record_exception(ValueError("no"))
            provider.shutdown()

        await asyncio.to_thread(work)
        child, parent = ground.spans.spans
    assert (child.trace_id, child.parent_id) == (parent.trace_id, parent.span_id)
    assert (parent.parent_id, child.kind, child.scope, child.scope_version) == (
        "", 3, "their.library", "1.2",
    )  # fmt: skip
    assert child.attributes["list"] == ["a", "b"]
    assert child.events[0].name == "exception"
    assert child.resource["service.name"] == "a client"
    assert child.session_id == "from the resource"
    assert (child.facts.operation, child.facts.model, child.facts.input_tokens) == (
        "chat", "gpt-4o", 7,
    )  # fmt: skip
    assert parent.tenant == TENANT


async def test_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        _configure(monkeypatch, ground)

        def work() -> None:
            delta = {_histogram(): AggregationTemporality.DELTA}
            exporter: MetricExporter = OTLPMetricExporter(preferred_temporality=delta)
            reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3600_000)
            exponential = View(
                instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation()
            )
            provider = MeterProvider([reader], resource=RESOURCE, views=[exponential])
            meter = provider.get_meter("their.library")
            meter.create_counter("calls", unit="1").add(3, {"model": "m"})
            meter.create_gauge("load").set(0.5)
            meter.create_histogram("seconds", unit="s").record(0.2)
            for size in (0, 1.0, 4.0, 1000.0):
                meter.create_histogram("sizes").record(size)
            provider.shutdown()

        await asyncio.to_thread(work)
        points = {point.name: point for point in ground.points.points}
    calls, seconds, sizes = points["calls"], points["seconds"], points["sizes"]
    assert (calls.kind, calls.value, calls.monotonic, calls.delta) == ("sum", 3.0, True, False)
    assert (calls.attributes, calls.session_id) == ({"model": "m"}, "from the resource")
    assert (points["load"].kind, points["load"].value) == ("gauge", 0.5)
    assert (seconds.kind, seconds.count, seconds.sum, seconds.delta) == ("histogram", 1, 0.2, True)
    assert sum(seconds.buckets) == 1 and len(seconds.buckets) == len(seconds.bounds) + 1
    assert (sizes.count, sum(sizes.buckets), sizes.buckets[0]) == (4, 4, 1)
    assert len(sizes.buckets) == len(sizes.bounds) + 1
    assert list(sizes.bounds) == sorted(sizes.bounds)
    for value in (1.0, 4.0, 1000.0):
        # The value's bucket by the bounds that were made holds something.
        index = sum(1 for bound in sizes.bounds if value > bound)
        assert sizes.buckets[index], value


async def test_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        _configure(monkeypatch, ground)

        def work() -> None:
            provider = LoggerProvider(resource=RESOURCE)
            provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter()))
            logger = provider.get_logger("their.library")
            logger.emit(
                severity_number=SeverityNumber.WARN, body="a line", event_name="their.event",
                attributes={"a": 1},
            )  # fmt: skip
            provider.shutdown()

        await asyncio.to_thread(work)
        [record] = ground.logs.logs
    assert (record.body, record.event, record.severity) == ("a line", "their.event", 13)
    assert (record.attributes, record.scope) == ({"a": 1}, "their.library")


async def test_an_exporter_sends_again_what_was_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        _configure(monkeypatch, ground)
        outcomes: list[Any] = []
        real = ground.spans.write
        failures = [RuntimeError, None]

        async def write(rows: Any) -> None:
            from freehold.kernel.errors import Unavailable

            if failures.pop(0) is not None:
                raise Unavailable("just now")
            await real(rows)

        ground.ingest._spans._write = write

        def work() -> None:
            provider = TracerProvider(resource=RESOURCE)
            exporter = OTLPSpanExporter(timeout=30)
            export: Callable[..., Any] = exporter.export

            def told(spans: Any) -> Any:
                outcomes.append(export(spans))
                return outcomes[-1]

            exporter.export = told  # type: ignore[method-assign]
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            provider.get_tracer("x").start_span("kept").end()
            provider.shutdown()

        await asyncio.to_thread(work)
        assert outcomes == [SpanExportResult.SUCCESS]
        assert [span.name for span in ground.spans.spans] == ["kept"]


def _configure(monkeypatch: pytest.MonkeyPatch, ground: OtlpGround) -> None:
    """As a user does, by the environment alone."""
    key = ground.key()
    shown = base64.b64encode(f"{key.id}:{key.secret}".encode()).decode()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{ground.endpoint}/otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"Authorization=Basic%20{shown}")


def _histogram() -> Any:
    from opentelemetry.sdk.metrics import Histogram

    return Histogram
