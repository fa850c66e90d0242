"""Observability, put together: what comes in, where it is kept, and what is asked of it."""

from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from starlette.types import ASGIApp

from freehold.adapters.signals.counting import SharedSignals
from freehold.adapters.signals.spans import CountedSpans
from freehold.adapters.signals.writes import CountedWrites
from freehold.adapters.spans.logs import PostgresLogs
from freehold.adapters.spans.metrics import PostgresMetrics
from freehold.adapters.spans.postgres import PostgresSpans
from freehold.adapters.spans.retention import Retention, SpanRetention
from freehold.edges.otlp.app import PREFIX, OtlpEdge
from freehold.edges.pipeline import Pipeline
from freehold.kernel.operation import Operation
from freehold.kernel.sweep import HOUR_SECONDS, Sweep
from freehold.ports.authorizer import AccessKeys
from freehold.ports.content_capture import ContentCapture
from freehold.ports.database import Database
from freehold.ports.resources import Resources
from freehold.ports.spans import SpanRecord
from freehold.ports.telemetry import LogRecord, MetricPoint
from freehold.processes.telemetry_out import (
    CloudWatchLogs,
    Forwarded,
    logs_edge,
    make_cloudwatch_logs,
    make_forwarding,
    metrics_edge,
    open_cloudwatch_logs,
    open_forwarding,
)
from freehold.services.observability import native
from freehold.services.observability.configuration import (
    TelemetryConfigurations,
    configuration_operations,
)
from freehold.services.observability.content import ContentPolicy
from freehold.services.observability.exports import ExportService, SessionTelemetry
from freehold.services.observability.forwarded import ForwardedWrites
from freehold.services.observability.ingest import Ingest
from freehold.services.observability.model_prices import PriceBook, read_model_prices
from freehold.services.observability.news import DatabaseNews, TellingWriter
from freehold.services.observability.ports import Writer
from freehold.services.observability.queries import Queries
from freehold.settings import Settings

_SWEEP_EVERY_SECONDS = 6 * HOUR_SECONDS


class Observability(msgspec.Struct, frozen=True, kw_only=True):
    """`recorder` takes the platform's own spans."""

    ingest: Ingest
    recorder: CountedSpans
    forwarded: Forwarded | None
    cloudwatch: CloudWatchLogs
    exports: ExportService
    sessions: SessionTelemetry
    configurations: TelemetryConfigurations
    queries: Queries
    retention: SpanRetention


def model_prices(settings: Settings) -> PriceBook:
    """Raises PricesWrong."""
    if settings.model_prices is None:
        return PriceBook()
    return PriceBook(read_model_prices(Path(settings.model_prices)))


def make_observability(
    settings: Settings, database: Database, resources: Resources,
    *, content: ContentCapture, signals: SharedSignals,
) -> Observability:  # fmt: skip
    """Before `database.start`: it listens. `content` says whose texts may be kept."""
    days = settings.telemetry_days
    spans = PostgresSpans(database, days_kept=days)
    logs = PostgresLogs(database, days_kept=days)
    points = PostgresMetrics(database, days_kept=days)
    news = DatabaseNews(database)
    configurations = TelemetryConfigurations(database)
    forwarded = make_forwarding(settings, database)
    forwarding = None if forwarded is None else forwarded.forwarding
    to_spans: Writer[SpanRecord] = TellingWriter(CountedWrites(spans, signals, "traces"), news)
    to_logs: Writer[LogRecord] = CountedWrites(logs, signals, "logs")
    to_points: Writer[MetricPoint] = CountedWrites(points, signals, "metrics")
    if forwarding is not None:
        to_spans = ForwardedWrites(to_spans, forwarding.take_spans)
        to_logs = ForwardedWrites(to_logs, forwarding.take_logs)
        to_points = ForwardedWrites(to_points, forwarding.take_points)
    ingest = Ingest(
        to_spans, to_logs, to_points,
        content=ContentPolicy(content, configurations), prices=model_prices(settings),
        signals=signals,
    )  # fmt: skip
    exports = ExportService(ingest, days_max=days)
    return Observability(
        ingest=ingest,
        recorder=CountedSpans(ingest, signals),
        forwarded=forwarded,
        cloudwatch=make_cloudwatch_logs(settings, database, resources, spans=spans, logs=logs),
        exports=exports,
        sessions=SessionTelemetry(exports),
        configurations=configurations,
        queries=Queries(spans, logs=logs, news=news),
        retention=SpanRetention(
            database, Retention(spans_days=days, logs_days=days, points_days=days)
        ),
    )


async def open_observability(observability: Observability, stack: AsyncExitStack) -> None:
    """After the database; the last to close before it."""
    await open_forwarding(observability.forwarded, stack)
    await open_cloudwatch_logs(observability.cloudwatch, stack)
    stack.push_async_callback(observability.ingest.close)
    sweep = Sweep("telemetry", observability.retention.sweep, every_seconds=_SWEEP_EVERY_SECONDS)
    await sweep.start()
    stack.push_async_callback(sweep.close)


def observability_edges(
    settings: Settings,
    observability: Observability,
    *,
    pipeline: Pipeline,
    keys: AccessKeys,
    database: Database,
    run: Path,
    otherwise: ASGIApp,
) -> dict[bytes, ASGIApp]:
    otlp = OtlpEdge(
        observability.exports,
        pipeline=pipeline,
        keys=keys,
        region=settings.region,
        spool_directory=str(settings.state / "spool"),
        otherwise=otherwise,
        trusts_network=settings.public_url.startswith("https:"),
    )
    logs = logs_edge(
        settings, observability.cloudwatch, pipeline=pipeline, keys=keys, otherwise=otherwise
    )
    metrics = metrics_edge(settings, run, database, observability.forwarded)
    return {PREFIX.encode(): otlp, b"/v1": otlp, b"/": logs, b"/metrics": metrics}


def observability_operations(observability: Observability) -> list[Operation]:
    return [
        *native.operations(observability.queries),
        *configuration_operations(observability.configurations),
    ]
