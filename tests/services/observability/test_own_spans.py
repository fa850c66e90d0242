"""The platform's own spans: recorded without waiting, of those who were let in, bounded."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from freehold.kernel import tracing
from freehold.kernel.errors import Throttled
from freehold.ports.spans import SpanRecord
from freehold.services.observability.recording import OwnSpans


class Store:
    def __init__(self, failures: int = 0) -> None:
        self.spans: list[SpanRecord] = []
        self.failures = failures
        self.gate = asyncio.Event()
        self.gate.set()

    async def take(self, spans: Sequence[SpanRecord]) -> None:
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise Throttled("too many wait")
        self.spans += spans


def trail(recorder: tracing.Recorder, tenant: str = "123456789012") -> tracing.Trail:
    made = tracing.Trail(recorder)
    made.tenant = tenant
    return made


async def test_a_span_is_stored_with_what_its_trail_knows() -> None:
    store = Store()
    own = OwnSpans(store.take)
    path = trail(own)
    root = tracing.Span(path, "invoke_agent", kind=tracing.Kind.SERVER, parent=None)
    with tracing.within(root), tracing.span("policy", attributes={"freehold.policy.ids": ("a",)}):
        path.agent_id, path.session_id, path.user = "weather", "s", "anna"
    await own.close()
    policy, root_kept = store.spans
    assert (policy.name, policy.parent_id, policy.trace_id) == (
        "policy", root_kept.span_id, root_kept.trace_id,
    )  # fmt: skip
    assert policy.attributes == {"freehold.policy.ids": ["a"]}
    assert {(s.agent_id, s.session_id, s.user, s.origin) for s in store.spans} == {
        ("weather", "s", "anna", "platform")
    }


async def test_a_trail_that_gets_its_tenant_late_keeps_its_first_spans() -> None:
    store = Store()
    own = OwnSpans(store.take, gather_seconds=0)
    path, stranger = trail(own, ""), trail(own, "")
    root = tracing.Span(path, "root", kind=tracing.Kind.SERVER, parent=None)
    root.child("authenticate").end()
    tracing.Span(stranger, "refused", kind=tracing.Kind.SERVER, parent=None).end()
    async with asyncio.timeout(30):
        while own._waiting:
            await asyncio.sleep(0)
    assert store.spans == []
    path.tenant = "123456789012"
    root.end()
    await own.close()
    assert sorted(span.name for span in store.spans) == ["authenticate", "root"]


async def test_content_is_recorded_only_where_the_trail_captures_it() -> None:
    store = Store()
    own = OwnSpans(store.take)
    for captured in (False, True):
        path = trail(own)
        path.content = captured
        said = {"gen_ai.input.messages": "said", "gen_ai.request.model": "m"}
        tracing.Span(
            path, str(captured), kind=tracing.Kind.CLIENT, parent=None, attributes=said
        ).end()
    await own.close()
    kept = {span.name: "gen_ai.input.messages" in span.attributes for span in store.spans}
    assert kept == {"False": False, "True": True}


async def test_what_is_throttled_is_stored_later() -> None:
    store = Store(failures=2)
    own = OwnSpans(store.take)
    tracing.Span(trail(own), "one", kind=tracing.Kind.SERVER, parent=None).end()
    await own.close()
    assert [span.name for span in store.spans] == ["one"]


async def test_beyond_what_may_wait_spans_are_dropped_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store()
    store.gate.clear()
    own = OwnSpans(store.take, waiting_max=10)
    with caplog.at_level(logging.WARNING, "freehold.telemetry"):
        for number in range(25):
            tracing.Span(trail(own), f"{number}", kind=tracing.Kind.SERVER, parent=None).end()
    assert own.dropped == 15
    assert 1 <= len(caplog.records) < 15
    store.gate.set()
    await own.close()
    assert len(store.spans) == 10


async def test_a_span_that_ends_in_a_thread_is_recorded() -> None:
    store = Store()
    own = OwnSpans(store.take, gather_seconds=0)
    span = tracing.Span(trail(own), "in a thread", kind=tracing.Kind.SERVER, parent=None)
    await asyncio.to_thread(span.end)
    await own.close()
    assert [kept.name for kept in store.spans] == ["in a thread"]
