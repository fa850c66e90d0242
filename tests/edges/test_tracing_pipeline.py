"""A governed call is a span, and finds its place in the caller's trace."""

from typing import Any

import pytest

from freehold.edges.pipeline import Call, Pipeline
from freehold.kernel import tracing
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, NotFound
from freehold.kernel.session import SESSION_STATE, DoorwaySession
from freehold.kernel.tracing import Context, Kind, Status
from kept_spans import KeptSpans

TENANT = "123456789012"
INVOKE, LIST = (
    "bedrock-agentcore:InvokeAgentRuntime", "bedrock-agentcore-control:ListAgentRuntimes",
)  # fmt: skip
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SESSION = DoorwaySession(
    tenant=TENANT, runtime_id="hello-Abc123Def4", endpoint="DEFAULT", session_id="s" * 33,
    runtime_arn=f"arn:aws:bedrock-agentcore:us-east-1:{TENANT}:runtime/hello-Abc123Def4",
    sandbox_id="sandbox-1", user="alice",
)  # fmt: skip


class Everybody:
    """Implements ports.authorizer.Authorizer: all but who is called "nobody"."""

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        if caller.principal == "nobody":
            raise AccessDenied("not you")
        return TENANT


class Board:
    """Implements ports.trace_board.TraceBoard with one entry."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def show(self, sandbox_id: str, context: Context) -> None:
        raise AssertionError("nobody writes here")

    def clear(self, sandbox_id: str, context: Context) -> None:
        raise AssertionError("nobody writes here")

    def read(self, sandbox_id: str) -> Context | None:
        return self._context if sandbox_id == SESSION.sandbox_id else None


class Capturing:
    """Implements ports.content_capture.ContentCapture."""

    async def captures(self, tenant: str, runtime_id: str) -> bool:
        return (tenant, runtime_id) == (SESSION.tenant, SESSION.runtime_id)


@pytest.fixture
def kept() -> KeptSpans:
    return KeptSpans()


def pipeline(kept: KeptSpans | None, **more: Any) -> Pipeline:
    return Pipeline(authorizer=Everybody(), calls_in_flight_max=10, recorder=kept, **more)


def a_call(
    operation: str = INVOKE,
    *,
    principal: str = "somebody",
    session: DoorwaySession | None = None,
    **headers: str,
) -> Call:
    async def authenticate(call: Call) -> Caller:
        kind = CallerKind.ACCESS_KEY if session is None else CallerKind.SESSION
        return Caller(tenant=TENANT, principal=principal, kind=kind, user="bob")

    async def prepare(call: Call) -> None:
        pass

    async def receive() -> Any:
        raise AssertionError("the body is nobody's business here")

    named = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope = {
        "type": "http",
        "headers": [(b"authorization", b"a-secret"), *named],
        "state": {} if session is None else {SESSION_STATE: session},
    }
    return Call(
        edge="test", operation=operation, scope=scope, receive=receive,
        authenticator=authenticate, prepare=prepare,
    )  # fmt: skip


async def answered(pipeline: Pipeline, call: Call, status: int = 200) -> None:
    async with pipeline.governed(call):
        call.status = status


async def test_a_call_of_the_table_is_a_span_with_its_outcome(kept: KeptSpans) -> None:
    call = a_call()
    await answered(pipeline(kept), call)
    [span] = kept.spans
    assert (span.name, span.kind, span.status) == ("invoke_agent", Kind.SERVER, Status.UNSET)
    assert (span.parent_id, span.trail.tenant, span.trail.user) == ("", TENANT, "bob")
    assert span.attributes == {
        "freehold.operation": INVOKE,
        "freehold.request_id": call.request_id,
        "freehold.caller.kind": "access_key",
        "http.response.status_code": 200,
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": f"00-{TRACE}-{PARENT}-01"},
        # Whether it is recorded here is not for the caller to say.
        {"traceparent": f"00-{TRACE}-{PARENT}-00", "tracestate": "a=1"},
        {"x_amzn_trace_id": f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={PARENT};Sampled=0"},
        {"traceparent": "broken", "x_amzn_trace_id": f"Root=1-{TRACE[:8]}-{TRACE[8:]};"
         f"Parent={PARENT}"},
    ],
)  # fmt: skip
async def test_it_goes_on_with_the_trace_that_the_caller_says(
    kept: KeptSpans, headers: dict[str, Any]
) -> None:
    await answered(pipeline(kept), a_call(**headers))
    [span] = kept.spans
    assert (span.context.trace_id, span.parent_id) == (TRACE, PARENT)
    assert span.context.state == headers.get("tracestate", "")


async def test_a_root_of_aws_without_a_parent_is_the_trace_alone(kept: KeptSpans) -> None:
    await answered(pipeline(kept), a_call(x_amzn_trace_id=f"Root=1-{TRACE[:8]}-{TRACE[8:]}"))
    [span] = kept.spans
    assert (span.context.trace_id, span.parent_id) == (TRACE, "")


@pytest.mark.parametrize(
    "header",
    ["", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01"],
)
async def test_what_is_no_context_begins_a_trace_of_its_own(kept: KeptSpans, header: str) -> None:
    await answered(pipeline(kept), a_call(traceparent=header))
    [span] = kept.spans
    assert (span.parent_id, span.context.trace_id != TRACE) == ("", True)


async def test_a_session_without_a_context_works_for_what_the_board_says(kept: KeptSpans) -> None:
    own = pipeline(kept, board=Board(Context(TRACE, PARENT)), content=Capturing())
    await answered(own, a_call(session=SESSION))
    await answered(own, a_call(session=SESSION, traceparent=f"00-{'a' * 32}-{'b' * 16}-01"))
    await answered(own, a_call())
    by_board, by_header, outside = kept.spans
    assert (by_board.context.trace_id, by_board.parent_id) == (TRACE, PARENT)
    assert (by_header.context.trace_id, by_header.parent_id) == ("a" * 32, "b" * 16)
    assert outside.parent_id == ""
    trail = by_board.trail
    assert (trail.agent_id, trail.endpoint) == (SESSION.runtime_id, SESSION.endpoint)
    assert (trail.session_id, trail.user) == (SESSION.session_id, "alice")
    assert (trail.content, outside.trail.content) == (True, False)


async def test_other_calls_are_no_spans_and_their_steps_are_the_callers(kept: KeptSpans) -> None:
    own = pipeline(kept)
    traced = a_call(LIST, traceparent=f"00-{TRACE}-{PARENT}-01")
    async with own.governed(traced):
        with tracing.span("a step"):
            pass
    async with own.governed(a_call(LIST)):
        with tracing.span("a step of nothing"):
            pass
    [step] = kept.spans
    assert (step.name, step.context.trace_id, step.parent_id) == ("a step", TRACE, PARENT)
    assert step.trail.tenant == TENANT


async def test_a_call_from_within_is_a_part_of_what_makes_it(kept: KeptSpans) -> None:
    own = pipeline(kept)
    async with own.governed(a_call()):
        await answered(own, a_call())
    inner, outer = kept.spans
    assert inner.parent_id == outer.context.span_id
    assert inner.trail is not outer.trail


async def test_who_is_not_let_in_has_no_tenant_to_record_for(kept: KeptSpans) -> None:
    with pytest.raises(AccessDenied):
        await answered(pipeline(kept), a_call(principal="nobody"))
    assert [span.trail.tenant for span in kept.spans] == [""]


async def test_an_error_is_told_by_its_code_and_never_by_its_words(kept: KeptSpans) -> None:
    own = pipeline(kept)
    with pytest.raises(NotFound):
        async with own.governed(a_call()):
            raise NotFound("runtime of-a-name does not exist")
    told = a_call()
    async with own.governed(told):
        told.status, told.noted["error"] = 424, "RuntimeClientError"
    raised, answered_so = kept.spans
    assert (raised.status, raised.message) == (Status.ERROR, NotFound.code)
    assert raised.attributes["http.response.status_code"] == 404
    assert (answered_so.status, answered_so.message) == (Status.ERROR, "RuntimeClientError")
    assert "of-a-name" not in repr([span.attributes for span in kept.spans])


async def test_without_a_recorder_nothing_is_traced() -> None:
    async with pipeline(None).governed(a_call(traceparent=f"00-{TRACE}-{PARENT}-01")):
        assert tracing.current() is None
