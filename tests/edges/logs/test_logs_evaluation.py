"""The evaluation client of AgentCore's own SDK, unmodified, finds what it evaluates."""

import asyncio
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from logs_ground import GROUP, NOW_NS, RUNTIME, LogsGround, a_span

from freehold.adapters.spans.logs import PostgresLogs
from freehold.adapters.spans.postgres import PostgresSpans
from freehold.ports.spans import SpanEvent
from freehold.ports.telemetry import LogRecord
from freehold.services.observability.cloudwatch.ports import Endpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its models are of pydantic's older style
    from bedrock_agentcore.evaluation.agent_span_collector import CloudWatchAgentSpanCollector
    from bedrock_agentcore.evaluation.spans import tool_span_ids, trace_ids
    from bedrock_agentcore.evaluation.utils.cloudwatch_span_helper import (
        fetch_spans_from_cloudwatch,
    )

SESSION_OF = "session-of-{}-1"


@pytest.fixture
def sdk(ground: LogsGround, tenant: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    key = ground.access_keys.of(tenant)
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", ground.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    ground.runtimes[tenant] = [Endpoint(RUNTIME, "DEFAULT", NOW_NS // 1_000_000)]
    yield
    del ground.runtimes[tenant]


async def an_agent_ran(ground: LogsGround, tenant: str) -> None:
    said = [
        SpanEvent("gen_ai.user.message", NOW_NS, {"content": '[{"text": "two and two?"}]'}),
        SpanEvent("gen_ai.choice", NOW_NS, {"message": "four", "finish_reason": "end_turn"}),
    ]
    await ground.spans.write([
        a_span(
            tenant, 1, name="invoke_agent", events=said, attributes={"gen_ai.system": "strands"}
        ),
        a_span(
            tenant, 2, parent_id=f"{1:016x}", name="execute_tool add", kind=3, status=2,
            message="overflow", attributes={"gen_ai.operation.name": "execute_tool"},
        ),
        a_span(tenant, 3, session_id=f"session-of-{tenant}-2"),
        a_span(tenant, 4, scope=""),
    ])  # fmt: skip
    await ground.logs.write([
        LogRecord(
            tenant=tenant, at_ns=NOW_NS - 30 * 10**9, origin="agent", body={"output": "ok"},
            scope="my.events", trace_id=f"{tenant}{7:020x}", span_id=f"{2:016x}",
            agent_id=RUNTIME, session_id=SESSION_OF.format(tenant),
        )
    ])  # fmt: skip


async def collected(tenant: str) -> list[dict[str, Any]]:
    collector = CloudWatchAgentSpanCollector(
        GROUP, region="us-east-1", max_wait_seconds=1, poll_interval_seconds=5
    )
    ended = datetime.fromtimestamp(NOW_NS // 10**9 + 1, UTC)
    return await asyncio.to_thread(
        collector.collect, SESSION_OF.format(tenant), ended - timedelta(minutes=10), ended
    )


async def test_the_collector_gets_the_session_s_spans_and_what_was_said_in_them(
    ground: LogsGround, tenant: str, sdk: None
) -> None:
    await an_agent_ran(ground, tenant)

    documents = await collected(tenant)

    spans = [d for d in documents if "startTimeUnixNano" in d]
    told = [d for d in documents if "body" in d]
    assert [d["name"] for d in spans] == ["invoke_agent", "execute_tool add"]
    assert spans[0]["attributes"] == {
        "gen_ai.system": "strands", "session.id": SESSION_OF.format(tenant),
    }  # fmt: skip
    assert spans[0]["scope"] == {"name": "strands.telemetry.tracer", "version": "1.2"}
    assert spans[1]["kind"] == "CLIENT"
    assert spans[1]["parentSpanId"] == spans[0]["spanId"]
    assert spans[1]["status"] == {"code": "ERROR", "message": "overflow"}
    assert spans[1]["durationNano"] == 10**9
    assert trace_ids(documents) == [f"{tenant}{7:020x}"]
    assert tool_span_ids(documents) == [f"{2:016x}"]
    bodies = {d["spanId"]: d["body"] for d in told}
    assert bodies[f"{2:016x}"] == {"output": "ok"}
    assert bodies[f"{1:016x}"] == {
        "input": {"messages": [
            {"content": {"content": '[{"text": "two and two?"}]'}, "role": "user"},
        ]},
        "output": {"messages": [
            {"content": {"message": "four", "finish_reason": "end_turn"}, "role": "assistant"},
        ]},
    }  # fmt: skip


async def test_the_store_is_asked_for_the_session_alone(
    ground: LogsGround, tenant: str, sdk: None
) -> None:
    await an_agent_ran(ground, tenant)
    ground.spans.asked.clear()

    await collected(tenant)

    assert {wanted.session_id for wanted in ground.spans.asked} == {SESSION_OF.format(tenant)}


async def test_the_older_helper_finds_by_a_mention_of_the_session(
    ground: LogsGround, tenant: str, sdk: None
) -> None:
    await an_agent_ran(ground, tenant)
    mention = a_span(
        tenant, 5, session_id="another", attributes={"asked.by": SESSION_OF.format(tenant)}
    )
    await ground.spans.write([mention])

    def fetched() -> list[dict[str, Any]]:
        now = datetime.fromtimestamp(NOW_NS // 10**9)
        began, ended = now - timedelta(minutes=10), now + timedelta(minutes=1)
        return fetch_spans_from_cloudwatch(
            SESSION_OF.format(tenant), GROUP, began, ended, region="us-east-1"
        )

    documents = await asyncio.to_thread(fetched)

    names = [d["name"] for d in documents if "startTimeUnixNano" in d]
    assert names == ["invoke_agent", "execute_tool add", "step 5"]
    assert sum("body" in d for d in documents) == 2


async def test_another_tenant_s_session_is_empty(
    ground: LogsGround, tenant: str, sdk: None
) -> None:
    others = f"9{tenant[1:]}" if tenant[0] != "9" else f"8{tenant[1:]}"
    await an_agent_ran(ground, others)
    collector = CloudWatchAgentSpanCollector(GROUP, max_wait_seconds=1, poll_interval_seconds=5)
    ended = datetime.fromtimestamp(NOW_NS // 10**9 + 1, UTC)
    found = await asyncio.to_thread(
        collector.collect, SESSION_OF.format(others), ended - timedelta(minutes=10), ended
    )

    assert found == []


async def test_the_collector_gets_the_same_from_the_real_stores(
    ground: LogsGround, tenant: str, sdk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await an_agent_ran(ground, tenant)
    in_memory = await collected(tenant)
    spans, logs = PostgresSpans(ground.database), PostgresLogs(ground.database)
    await spans.write([span for span in ground.spans.kept if span.tenant == tenant])
    await logs.write([record for record in ground.logs.kept if record.tenant == tenant])
    monkeypatch.setattr(ground.groups, "_spans", spans)
    monkeypatch.setattr(ground.groups, "_logs", logs)

    kept = await collected(tenant)

    def by_id(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(documents, key=lambda d: (d["spanId"], "body" in d))

    assert by_id(kept) == by_id(in_memory)
    assert len(kept) == 4
