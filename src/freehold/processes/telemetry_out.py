"""Telemetry on its way out: to the operator's collector, to Prometheus, and to whoever reads
CloudWatch Logs."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import LiteralString, cast

import msgspec
from starlette.types import ASGIApp

from freehold.adapters.otlp.exporter import OtlpExporter
from freehold.adapters.signals.counting import SharedSignals
from freehold.adapters.signals.exposition import SharedExposition
from freehold.edges.logs.app import LogsEdge
from freehold.edges.metrics.app import MetricsEdge
from freehold.edges.pipeline import Pipeline
from freehold.kernel.sweep import HOUR_SECONDS, Sweep
from freehold.ports.authorizer import AccessKeys
from freehold.ports.collector import Signal
from freehold.ports.database import Database
from freehold.ports.resources import Resources
from freehold.ports.signals import Sample, Source
from freehold.ports.spans import SpanStore
from freehold.ports.telemetry import LogStore
from freehold.services.observability.cloudwatch.api import LogsApi
from freehold.services.observability.cloudwatch.groups import LogGroups
from freehold.services.observability.cloudwatch.ports import Endpoint
from freehold.services.observability.cloudwatch.queries import Queries
from freehold.services.observability.cloudwatch.store import Answers
from freehold.services.observability.forwarding import Bounds, Forwarding
from freehold.services.runtime.model import ENDPOINT
from freehold.settings import Settings, SettingsError, variable

_SIGNALS_DIRECTORY = "signals"
_ENDPOINTS_PAGE = 1000
_SESSIONS = "SELECT tier, count(*) FROM sessions WHERE ended_at IS NULL GROUP BY tier"
_CONNECTIONS = """
SELECT coalesce(state, 'unknown'), count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'freehold %%' GROUP BY 1
"""


class Forwarded(msgspec.Struct, frozen=True):
    forwarding: Forwarding
    exporter: OtlpExporter


def make_forwarding(settings: Settings, database: Database) -> Forwarded | None:
    """None where the operator named no collector. Raises SettingsError."""
    if settings.telemetry_forward_url is None:
        return None
    exporter = OtlpExporter(
        settings.telemetry_forward_url,
        headers=_headers(settings),
        seconds_max=settings.telemetry_forward_seconds_max,
    )
    signals = dict.fromkeys(_listed(settings.telemetry_forward_signals))
    forwarding = Forwarding(
        database, exporter,
        signals=[cast("Signal", signal) for signal in signals],
        accounts=frozenset(_listed(settings.telemetry_forward_accounts)),
        bounds=Bounds(
            hours=settings.telemetry_forward_hours, mib=settings.telemetry_forward_mib_max
        ),
    )  # fmt: skip
    return Forwarded(forwarding, exporter)


async def open_forwarding(forwarded: Forwarded | None, stack: AsyncExitStack) -> None:
    """After the database, and before what brings telemetry: that ends first."""
    if forwarded is not None:
        stack.push_async_callback(forwarded.exporter.close)
        await forwarded.forwarding.start()
        stack.push_async_callback(forwarded.forwarding.close)


def make_signals(run: Path, name: str) -> SharedSignals:
    """`name` is the process's, the same after a restart."""
    return SharedSignals(run / _SIGNALS_DIRECTORY, name)


def metrics_edge(
    settings: Settings, run: Path, database: Database, forwarded: Forwarded | None
) -> MetricsEdge:
    sources: list[Source] = [
        _counted(database, _SESSIONS, "freehold_sessions", "tier"),
        _counted(database, _CONNECTIONS, "freehold_database_connections", "state"),
    ]
    if forwarded is not None:
        sources.append(_forwarding(forwarded.forwarding))
    exposition = SharedExposition(run / _SIGNALS_DIRECTORY, sources)
    return MetricsEdge(exposition, token=settings.metrics_token)


class CloudWatchLogs(msgspec.Struct, frozen=True):
    api: LogsApi
    answers: Answers


def make_cloudwatch_logs(
    settings: Settings, database: Database, resources: Resources,
    *, spans: SpanStore, logs: LogStore,
) -> CloudWatchLogs:  # fmt: skip
    async def endpoints(tenant: str) -> Sequence[Endpoint]:
        found: list[Endpoint] = []
        token: str | None = None
        while True:
            page = await resources.page(tenant, ENDPOINT, limit=_ENDPOINTS_PAGE, token=token)
            found += [
                Endpoint(each.parent, each.name, int(each.created_at.timestamp() * 1000))
                for each in page.items
            ]
            token = page.next_token
            if token is None:
                return found

    answers = Answers(database)
    groups = LogGroups(spans, logs, endpoints)
    return CloudWatchLogs(LogsApi(groups, Queries(answers), region=settings.region), answers)


async def open_cloudwatch_logs(logs: CloudWatchLogs, stack: AsyncExitStack) -> None:
    sweep = Sweep("answers of log queries", logs.answers.expire, every_seconds=HOUR_SECONDS)
    await sweep.start()
    stack.push_async_callback(sweep.close)


def logs_edge(
    settings: Settings,
    logs: CloudWatchLogs,
    *,
    pipeline: Pipeline,
    keys: AccessKeys,
    otherwise: ASGIApp,
) -> LogsEdge:
    return LogsEdge(
        logs.api.handlers(), pipeline=pipeline, keys=keys, region=settings.region,
        otherwise=otherwise,
    )  # fmt: skip


def _counted(database: Database, statement: LiteralString, family: str, label: str) -> Source:
    async def samples() -> list[Sample]:
        async with database.connection() as connection:
            found = await connection.execute(statement, ())
            return [Sample(family, {label: name}, count) for name, count in await found.fetchall()]

    return samples


def _forwarding(forwarding: Forwarding) -> Source:
    async def samples() -> list[Sample]:
        found: list[Sample] = []
        for each in await forwarding.status():
            of = {"signal": each.signal}
            found += [
                Sample("freehold_forwarding_items_total", {**of, "outcome": outcome}, count)
                for outcome, count in (
                    ("sent", each.sent), ("refused", each.refused), ("dropped", each.dropped),
                )
            ]  # fmt: skip
            found += [
                Sample("freehold_forwarding_waiting_items", of, each.waiting),
                Sample("freehold_forwarding_oldest_seconds", of, each.age_seconds),
            ]
        return found

    return samples


def _headers(settings: Settings) -> Mapping[str, str]:
    pairs = _listed(settings.telemetry_forward_headers or "")
    if settings.telemetry_forward_headers_file is not None:
        try:
            pairs += Path(settings.telemetry_forward_headers_file).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{variable('telemetry_forward_headers_file')} cannot be read: "
                f"{type(error).__name__}"
            ) from None
    headers: dict[str, str] = {}
    for pair in filter(None, map(str.strip, pairs)):
        name, separator, value = pair.partition("=")
        if not separator or not name.strip().isprintable() or not value.isprintable():
            # It says no more: what is wrong may be a part of a secret.
            raise SettingsError(f"{variable('telemetry_forward_headers')}: expected NAME=VALUE")
        headers[name.strip()] = value.strip()
    return headers


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
