"""What spans say of agents, and when a session's start is one of them."""

from datetime import timedelta
from typing import Any, cast

import pytest

from freehold.kernel import tracing
from freehold.kernel.clock import now
from freehold.kernel.errors import Throttled
from freehold.kernel.tracing import Context, Kind, Span, Status, Trail
from freehold.ports.placement import Launch, Lease, Placement, SessionKey
from freehold.services.runtime.model import Deployment, Prepared
from freehold.services.runtime.protocols import Served
from freehold.services.runtime.traces import Serving, acquired, tell_agent
from kept_spans import KeptSpans

DEPLOYMENT = Deployment(
    tenant="100000000001", runtime_id="x-AAAAAAAAAA", runtime_arn="arn", runtime_name="shop",
    endpoint="DEFAULT", version=3, tier="", served=Served(protocol="HTTP", port=8080, path="/"),
    entry_point=("main.py",), environment={}, captures_content=True,
    idle_seconds=60, lifetime_seconds=60, header_allowlist=frozenset(),
    prepared=Prepared(code="code", layers=(), interpreter="PYTHON_3_11"),
)  # fmt: skip
KEY = SessionKey(DEPLOYMENT.tenant, DEPLOYMENT.runtime_id, "DEFAULT", "the-session")
LAUNCH = cast(Launch, None)
"""Of no interest to a placement that has its answer already."""


class Answering:
    """A placement that gives a lease of a sandbox of that age, or raises."""

    def __init__(self, age_seconds: float, failure: Exception | None = None) -> None:
        self._age, self._failure = timedelta(seconds=age_seconds), failure

    async def acquire(self, launch: Launch) -> Lease:
        if self._failure is not None:
            raise self._failure
        return Lease(
            key=KEY, sandbox_id="s-1", tier="container", version=3, started_at=now() - self._age,
            user=None, start="forked",
        )  # fmt: skip


def placement(age_seconds: float, failure: Exception | None = None) -> Placement:
    return cast(Placement, Answering(age_seconds, failure))


class Board:
    """Implements ports.trace_board.TraceBoard."""

    def __init__(self) -> None:
        self.shown: dict[str, Context] = {}

    def show(self, sandbox_id: str, context: Context) -> None:
        self.shown[sandbox_id] = context

    def clear(self, sandbox_id: str, context: Context) -> None:
        if self.shown.get(sandbox_id) == context:
            del self.shown[sandbox_id]

    def read(self, sandbox_id: str) -> Context | None:
        return self.shown.get(sandbox_id)


@pytest.fixture
def kept() -> KeptSpans:
    return KeptSpans()


def operation(kept: KeptSpans, name: str = "invoke_agent", **attributes: Any) -> Span:
    attributes = attributes or {"freehold.operation": "bedrock-agentcore:InvokeAgentRuntime"}
    return Span(Trail(kept), name, kind=Kind.SERVER, parent=None, attributes=attributes)


def test_an_invocation_is_told_with_the_agent_and_its_session(kept: KeptSpans) -> None:
    with tracing.within(operation(kept)):
        tell_agent(DEPLOYMENT, "the-session", "alice")
    [span] = kept.spans
    assert span.name == "invoke_agent shop"
    assert span.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert span.attributes["gen_ai.agent.id"] == DEPLOYMENT.runtime_id
    assert span.attributes["gen_ai.conversation.id"] == "the-session"
    trail = span.trail
    assert (trail.agent_id, trail.agent_version) == (DEPLOYMENT.runtime_id, "3")
    assert (trail.endpoint, trail.session_id, trail.user) == ("DEFAULT", "the-session", "alice")
    assert trail.content


def test_a_call_within_a_step_leaves_the_caller_as_it_is(kept: KeptSpans) -> None:
    """A function that runs in a session is a step of whoever calls it."""
    with tracing.within(operation(kept, "function", **{"freehold.function.instance": "f"})):
        tell_agent(DEPLOYMENT, "the-session", None)
    [span] = kept.spans
    assert (span.name, span.trail.agent_id, span.trail.content) == ("function", "", False)


async def test_a_session_that_had_to_be_started_is_a_step(kept: KeptSpans) -> None:
    with tracing.within(operation(kept)) as around:
        await acquired(placement(age_seconds=0), LAUNCH)
    start = kept.one("session start")
    assert start.parent_id == around.context.span_id
    assert start.attributes["freehold.session.start"] == "forked"
    assert start.attributes["freehold.session.tier"] == "container"


async def test_a_session_that_was_there_is_none(kept: KeptSpans) -> None:
    with tracing.within(operation(kept)):
        await acquired(placement(age_seconds=60), LAUNCH)
    assert not kept.named("session start")


async def test_a_start_that_failed_says_why_by_its_code(kept: KeptSpans) -> None:
    with tracing.within(operation(kept)), pytest.raises(Throttled):
        await acquired(placement(0, Throttled("the machine is full")), LAUNCH)
    start = kept.one("session start")
    assert (start.status, start.message) == (Status.ERROR, Throttled.code)


def test_while_an_agent_serves_a_call_the_board_says_which(kept: KeptSpans) -> None:
    board = Board()
    with tracing.within(operation(kept)) as span:
        first = Serving(board)
        first.begin("s-1")
        assert board.read("s-1") == span.context
    with tracing.within(operation(kept)) as later:
        second = Serving(board)
        second.begin("s-1")
    first.end()
    assert board.read("s-1") == later.context
    second.end()
    second.end()
    assert board.shown == {}


def test_where_nothing_is_traced_the_board_stays_empty() -> None:
    board = Board()
    serving = Serving(board)
    serving.begin("s-1")
    assert board.shown == {}
    serving.end()
