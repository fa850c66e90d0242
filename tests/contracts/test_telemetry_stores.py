"""What every adapter of the ports of log records and of points of metrics does."""

from typing import Any

import pytest
from span_ground import DAY_NS, NOW_NS, SECOND_NS, span_id, trace_id

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.spans.logs import PostgresLogs
from freehold.adapters.spans.metrics import PostgresMetrics
from freehold.kernel.errors import ValidationFailed
from freehold.ports.telemetry import LogRecord, LogStore, LogsWanted, MetricPoint, MetricStore


@pytest.fixture(params=["postgres"])
def logs(database: PostgresDatabase) -> LogStore:
    return PostgresLogs(database)


@pytest.fixture(params=["postgres"])
def metrics(database: PostgresDatabase) -> MetricStore:
    return PostgresMetrics(database)


def _said(tenant: str, body: Any = "hello", *, at_ns: int = NOW_NS, **values: Any) -> LogRecord:
    return LogRecord(
        **{"tenant": tenant, "at_ns": at_ns, "origin": "agent", "body": body, **values}
    )


def _asked(**values: Any) -> LogsWanted:
    return LogsWanted(**{"since_ns": NOW_NS - 9 * DAY_NS, "until_ns": NOW_NS + DAY_NS, **values})


def _whole(tenant: str) -> LogRecord:
    return _said(
        tenant,
        {"input": ["Zoë\0", 1.5, None], "deep": {"a": True}},
        event="gen_ai.user.message",
        severity=9,
        severity_text="INFO",
        attributes={"event.name": "x\0y", "n": 3},
        resource={"service.name": "agent"},
        scope="strands",
        trace_id=trace_id(),
        span_id=span_id(),
        agent_id="demo-abcdefghij",
        endpoint="DEFAULT",
        session_id="session-1",
    )


async def test_a_record_comes_back_as_it_was(logs: LogStore, tenant: str) -> None:
    records = [_whole(tenant), _said(tenant, None, at_ns=NOW_NS - 1), _said(tenant, 7, at_ns=1)]
    await logs.write(records)
    await logs.write([])
    assert (await logs.logs(tenant, _asked(since_ns=0), limit=9)).items == records


async def test_records_of_another_tenant_are_not_there(logs: LogStore, tenant: str) -> None:
    await logs.write([_whole(tenant)])
    assert (await logs.logs(tenant + "1", _asked(), limit=9)).items == []


@pytest.mark.parametrize(
    "by",
    [
        {"agent_id": "demo-abcdefghij"},
        {"session_id": "session-1"},
        {"event": "gen_ai.user.message"},
        {"severity_min": 9},
        {"text": "zoë"},
        {"text": "USER.mess"},
        {"text": "event.NAME"},
        {"since_ns": NOW_NS},
        {"agent_id": "demo-abcdefghij", "session_id": "session-1", "severity_min": 1, "text": "z"},
    ],
)
async def test_each_filter_finds_the_records_that_are_meant(
    logs: LogStore, tenant: str, by: dict[str, Any]
) -> None:
    whole = _whole(tenant)
    await logs.write([_said(tenant, "other", at_ns=NOW_NS - 1, severity=8), whole])
    assert (await logs.logs(tenant, _asked(**by), limit=9)).items == [whole]


async def test_records_of_a_trace_and_of_a_span(logs: LogStore, tenant: str) -> None:
    one, two = _whole(tenant), _whole(tenant)
    same_trace = _said(tenant, trace_id=one.trace_id, at_ns=NOW_NS - 1)
    await logs.write([one, two, same_trace])
    found = await logs.logs(tenant, _asked(trace_id=one.trace_id), limit=9)
    assert found.items == [one, same_trace]
    assert (await logs.logs(tenant, _asked(span_id=two.span_id), limit=9)).items == [two]
    assert (await logs.logs(tenant, _asked(trace_id="unknown\0"), limit=9)).items == []


@pytest.mark.parametrize("oldest_first", [True, False])
async def test_pages_of_records_in_either_order(
    logs: LogStore, tenant: str, oldest_first: bool
) -> None:
    """Over days, many of one moment; those of one moment in the order in which they came."""
    records = [_said(tenant, n, at_ns=NOW_NS - (3 - n // 6) * DAY_NS) for n in range(24)]
    await logs.write(records[:20])
    await logs.write(records[20:])
    seen, token = [], None
    for _ in range(30):
        page = await logs.logs(tenant, _asked(oldest_first=oldest_first), limit=5, token=token)
        seen += [record.body for record in page.items]
        token = page.next_token
        if token is None:
            break
    assert seen == (list(range(24)) if oldest_first else list(range(23, -1, -1)))


async def test_a_token_of_the_other_order_is_refused(logs: LogStore, tenant: str) -> None:
    await logs.write([_said(tenant, n) for n in range(3)])
    newest = await logs.logs(tenant, _asked(), limit=1)
    with pytest.raises(ValidationFailed):
        await logs.logs(tenant, _asked(oldest_first=True), limit=1, token=newest.next_token)
    with pytest.raises(ValidationFailed):
        await logs.logs(tenant, _asked(), limit=1, token="x")


def _point(tenant: str, *, at_ns: int = NOW_NS, **values: Any) -> MetricPoint:
    return MetricPoint(
        **{
            "tenant": tenant, "at_ns": at_ns, "started_ns": NOW_NS - DAY_NS, "origin": "agent",
            "name": "gen_ai.client.token.usage", "kind": "sum", "value": 3.0, **values,
        }
    )  # fmt: skip


async def _points(metrics: MetricStore, tenant: str, **values: Any) -> list[MetricPoint]:
    asked = {"since_ns": 0, "until_ns": NOW_NS + DAY_NS, "limit": 99, **values}
    return await metrics.points(tenant, "gen_ai.client.token.usage", **asked)


async def test_a_point_comes_back_as_it_was(metrics: MetricStore, tenant: str) -> None:
    histogram = _point(
        tenant, kind="histogram", value=None, count=4, sum=10.5, bounds=[1.0, 2.5],
        buckets=[1, 2, 1], unit="{token}", delta=True, attributes={"gen_ai.token.type": "in\0"},
        resource={"service.name": "agent"}, agent_id="a", session_id="s",
    )  # fmt: skip
    total = _point(tenant, at_ns=NOW_NS + 1, monotonic=True, bounds=[], buckets=[])
    await metrics.write([total, histogram])
    await metrics.write([])
    assert await _points(metrics, tenant) == [histogram, total]
    assert await _points(metrics, tenant, agent_id="a") == [histogram]
    assert await _points(metrics, tenant, since_ns=NOW_NS + 1) == [total]
    assert await _points(metrics, tenant, until_ns=NOW_NS + 1) == [histogram]
    assert await _points(metrics, tenant, limit=1) == [histogram]
    assert await _points(metrics, tenant + "1") == []


async def test_the_names_of_metrics_that_were_told_lately(
    metrics: MetricStore, tenant: str
) -> None:
    await metrics.write(
        [
            _point(tenant, name="b\0"),
            _point(tenant, name="a"),
            _point(tenant, name="old", at_ns=NOW_NS - 2 * DAY_NS),
            _point(tenant + "1", name="theirs"),
        ]
    )
    assert await metrics.names(tenant, since_ns=NOW_NS - DAY_NS) == ["a", "b\ufffd"]
    await metrics.write([_point(tenant, name="old", at_ns=NOW_NS + SECOND_NS)])
    assert await metrics.names(tenant, since_ns=NOW_NS - DAY_NS) == ["a", "b\ufffd", "old"]
