"""Arize Phoenix, which is nobody of ours, reads the spans that we forward, and agrees with us."""

import asyncio
import collections
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from phoenix_server import NotInstalled, Phoenix, phoenix

from freehold.adapters.otlp.exporter import OtlpExporter
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.spans.postgres import PostgresSpans
from freehold.kernel.clock import now
from freehold.ports.spans import SpanEvent, SpanRecord
from freehold.services.observability.forwarded import ForwardedWrites
from freehold.services.observability.forwarding import Forwarding

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TENANT = "111122223333"
TRACE = secrets.token_hex(16)
_MS = 1_000_000
KINDS = {
    "invoke_agent": "AGENT", "chat": "LLM", "execute_tool": "TOOL", "embeddings": "EMBEDDING",
    "retrieval": "RETRIEVER",
}  # fmt: skip
"""What Phoenix calls the operations of the GenAI conventions."""


@pytest.fixture(scope="module")
def reader() -> Iterator[Phoenix]:
    try:
        with phoenix() as running:
            yield running
    except NotInstalled as why:
        pytest.skip(f"Phoenix is not here: {why}")


@pytest.fixture(scope="module")
async def own_database(fresh_dsn: Callable[[], Awaitable[str]]) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(await fresh_dsn(), pool_size_max=4)
    await database.start()
    yield database
    await database.close()


def a_run() -> list[SpanRecord]:
    """An agent asks its memory, a model, a tool that fails, and the model again."""
    began = int(now().timestamp() * 1e9) - 60_000 * _MS
    root = _step(began, "", "invoke_agent helper", "invoke_agent", 2, took=900)
    steps: list[tuple[str, str, int, dict[str, Any], int]] = [
        ("embeddings minilm", "embeddings", 3, {"gen_ai.request.model": "minilm"}, 0),
        ("retrieval", "retrieval", 1, {"freehold.memory.record_ids": ["mem-1", "mem-2"]}, 0),
        ("chat gpt", "chat", 3, _MODEL, 0),
        ("execute_tool add", "execute_tool", 1, {"gen_ai.tool.name": "add"}, 2),
        ("chat gpt", "chat", 3, _MODEL, 0),
        ("policy", "", 1, {"freehold.policy.decision": "allow"}, 0),
    ]  # fmt: skip
    return [root] + [
        _step(
            began + at * 100 * _MS,
            root.span_id,
            name,
            operation,
            kind,
            attributes=attributes,
            status=status,
        )
        for at, (name, operation, kind, attributes, status) in enumerate(steps)
    ]


_MODEL = {
    "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt", "gen_ai.response.model": "gpt",
    "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 3,
}  # fmt: skip


def _step(
    began: int, parent_id: str, name: str, operation: str, kind: int, *, took: int = 50,
    attributes: dict[str, Any] | None = None, status: int = 0,
) -> SpanRecord:  # fmt: skip
    said = {"gen_ai.operation.name": operation} if operation else {}
    return SpanRecord(
        tenant=TENANT, trace_id=TRACE, span_id=secrets.token_hex(8), parent_id=parent_id,
        name=name, kind=kind, status=status, message="overflow" if status == 2 else "",
        started_ns=began, ended_ns=began + took * _MS, origin="agent",
        attributes={**said, "gen_ai.conversation.id": "session-1", **(attributes or {})},
        events=[SpanEvent("noted", began + _MS, {"what": name})],
        resource={"service.name": "helper"}, scope="strands", scope_version="1",
    )  # fmt: skip


async def test_phoenix_has_the_same_spans_of_the_same_kinds_in_the_same_tree(
    reader: Phoenix, own_database: PostgresDatabase
) -> None:
    sent = a_run()
    store = PostgresSpans(own_database)
    exporter = OtlpExporter(reader.endpoint)
    forwarding = Forwarding(own_database, exporter, signals=("traces",))
    await forwarding.start()
    await ForwardedWrites(store, forwarding.take_spans).write(sent)
    async with asyncio.timeout(120):
        while len(found := await asyncio.to_thread(reader.spans)) < len(sent):
            await asyncio.sleep(0.2)
    await forwarding.close()
    await exporter.close()

    ours = {span.span_id: span for span in await store.trace(TENANT, TRACE)}
    theirs = {span["context"]["span_id"]: span for span in found}
    assert theirs.keys() == ours.keys()
    for id, span in ours.items():
        read = theirs[id]
        assert read["name"] == span.name
        assert read["context"]["trace_id"] == TRACE
        assert (read["parent_id"] or "") == span.parent_id
        assert read["status_code"] == ("ERROR" if span.status == 2 else "UNSET")
        assert [event["name"] for event in read["events"]] == ["noted"]
        operation = span.attributes.get("gen_ai.operation.name")
        if operation is not None:
            assert read["span_kind"] == KINDS[operation]
    kinds = collections.Counter(span["span_kind"] for span in theirs.values())
    assert (kinds["AGENT"], kinds["LLM"], kinds["TOOL"], kinds["EMBEDDING"]) == (1, 2, 1, 1)
    assert kinds["RETRIEVER"] == 1


async def test_phoenix_counts_the_same_trace_and_tokens(reader: Phoenix) -> None:
    answer = await asyncio.to_thread(
        reader.query,
        "{ projects { edges { node { name traceCount recordCount"
        " tokenCountTotal tokenCountPrompt tokenCountCompletion } } } }",
    )

    [project] = [edge["node"] for edge in answer["projects"]["edges"]]
    assert project == {
        "name": "default", "traceCount": 1, "recordCount": 7,
        "tokenCountTotal": 30.0, "tokenCountPrompt": 24.0, "tokenCountCompletion": 6.0,
    }  # fmt: skip
