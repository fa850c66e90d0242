"""The governed path's lines in the audit: which, when, and what stands in them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from freehold.edges.auditing import is_read, note_created
from freehold.edges.aws import model
from freehold.edges.pipeline import Call, Pipeline
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import (
    AccessDenied,
    FreeholdError,
    NotFound,
    Unauthorized,
    Unavailable,
)
from freehold.ports.audit import PLATFORM_TENANT, AuditEvent

TENANT = "123456789012"
INVOKE = "bedrock-agentcore:InvokeAgentRuntime"
LIST = "bedrock-agentcore-control:ListAgentRuntimes"
CANARY = "canary-7f3a9c"


class Written:
    """An audit in memory, which may be away."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.away = False

    async def write(self, event: AuditEvent) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("the audit cannot be written")
        self.events.append(event)

    def note(self, event: AuditEvent) -> None:
        self.events.append(event)

    @property
    def lines(self) -> list[tuple[str, str, int]]:
        return [(e.phase, e.outcome, e.status) for e in self.events]


class Path:
    """A pipeline whose steps do as they are told."""

    def __init__(self, written: Written, **raising: FreeholdError) -> None:
        self._raising = raising
        self.pipeline = Pipeline(authorizer=self, calls_in_flight_max=1, audit=written)

    def _may(self, step: str) -> None:
        if step in self._raising:
            raise self._raising[step]

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        self._may("authorize")
        return caller.tenant

    async def _authenticate(self, call: Call) -> Caller:
        self._may("authenticate")
        return Caller(
            tenant=TENANT, principal="arn:p", kind=CallerKind.ACCESS_KEY, access_key_id="FHIAKEY",
            user="ada", claims={"token": CANARY},
        )  # fmt: skip

    async def _prepare(self, call: Call) -> None:
        self._may("prepare")
        call.resource_arn = "arn:the-resource"

    def call(self, operation: str) -> Call:
        scope = {
            "raw_path": b"/runtimes/x",
            "query_string": f"X-Amz-Signature={CANARY}".encode(),
            "headers": [(b"authorization", f"Bearer {CANARY}".encode())],
            "client": ("192.0.2.7", 4711),
        }
        return Call(
            edge="aws", operation=operation, scope=scope, receive=_nothing,
            authenticator=self._authenticate, prepare=self._prepare,
        )  # fmt: skip

    @asynccontextmanager
    async def governed(self, operation: str) -> AsyncIterator[Call]:
        call = self.call(operation)
        async with self.pipeline.governed(call):
            yield call


async def _nothing() -> Any:
    raise AssertionError("no body is read here")


async def test_an_act_has_a_line_before_it_and_one_before_the_caller_is_told() -> None:
    written = Written()
    async with Path(written).governed(INVOKE) as call:
        assert written.lines == [("intent", "", 0)]
        await call.acknowledge(200)
        assert written.lines == [("intent", "", 0), ("outcome", "allowed", 200)]
    assert len(written.lines) == 2
    intent, outcome = written.events
    assert intent.call_id == outcome.call_id == call.request_id
    assert (outcome.tenant, outcome.principal, outcome.user) == (TENANT, "arn:p", "ada")
    assert (outcome.resource, outcome.source) == ("arn:the-resource", "192.0.2.7")
    assert outcome.detail == {"edge": "aws", "access_key_id": "FHIAKEY"}


async def test_what_was_made_is_named_where_the_answer_holds_it_in_one_member() -> None:
    arn = "arn:aws:bedrock-agentcore:us-east-1:123456789012:memory/talks-0123456789"
    for operation, answer, made in (
        ("bedrock-agentcore-control:CreateMemory", {"memory": {"arn": arn, "id": "x"}}, arn),
        ("bedrock-agentcore:CreateEvent", {"event": {"memoryId": "m", "eventId": "1#a"}}, "1#a"),
        ("bedrock-agentcore-control:CreateGateway", {"gatewayArn": arn, "name": "x"}, arn),
    ):
        written = Written()
        async with Path(written).governed(operation) as call:
            note_created(call, answer)
            await call.acknowledge(202)
        assert written.events[-1].detail["created"] == made


async def test_a_read_has_one_line() -> None:
    written = Written()
    async with Path(written).governed(LIST) as call:
        assert written.lines == []
        await call.acknowledge(200)
    assert written.lines == [("outcome", "allowed", 200)]


async def test_an_edge_that_says_nothing_is_settled_at_the_end() -> None:
    written = Written()
    async with Path(written).governed(INVOKE) as call:
        call.status = 204
    assert written.lines[-1] == ("outcome", "allowed", 204)


@pytest.mark.parametrize(
    ("step", "error", "outcome"),
    [
        ("authorize", AccessDenied("no"), "denied"),
        ("authorize", NotFound("another tenant's"), "denied"),
        ("authorize", Unavailable("the policies cannot be had"), "failed"),
        ("prepare", NotFound("no such thing"), "failed"),
    ],
)
async def test_what_was_refused_has_one_line_in_the_callers_tenant(
    step: str, error: FreeholdError, outcome: str
) -> None:
    written = Written()
    with pytest.raises(type(error)):
        async with Path(written, **{step: error}).governed(INVOKE):
            raise AssertionError("it was let in")
    assert written.lines == [("outcome", outcome, error.status)]
    assert written.events[0].tenant == TENANT
    assert written.events[0].detail["error"] == error.code


async def test_who_could_not_be_authenticated_stands_in_the_platforms_own_chain() -> None:
    written = Written()
    with pytest.raises(Unauthorized):
        async with Path(written, authenticate=Unauthorized(CANARY)).governed(INVOKE):
            raise AssertionError("it was let in")
    assert written.lines == [("outcome", "denied", 401)]
    assert written.events[0].tenant == PLATFORM_TENANT
    assert written.events[0].principal == "unauthenticated"


async def test_more_calls_than_may_be_at_once_are_written_too() -> None:
    written = Written()
    path = Path(written)
    async with path.governed(LIST):
        with pytest.raises(FreeholdError):
            async with path.governed(LIST):
                raise AssertionError("it was let in")
    assert written.lines == [("outcome", "denied", 429), ("outcome", "failed", 0)]


async def test_an_act_whose_intent_cannot_be_written_does_not_begin() -> None:
    written = Written()
    written.away = True
    with pytest.raises(Unavailable):
        async with Path(written).governed(INVOKE):
            raise AssertionError("it acted")


async def test_a_caller_is_told_nothing_that_the_audit_does_not_hold() -> None:
    written = Written()
    with pytest.raises(Unavailable):
        async with Path(written).governed(INVOKE) as call:
            written.away = True
            await call.acknowledge(200)
            raise AssertionError("it was told")
    with pytest.raises(Unavailable):
        async with Path(written).governed(LIST) as call:
            await call.acknowledge(200)


async def test_an_answer_that_breaks_off_has_failed() -> None:
    written = Written()
    with pytest.raises(ConnectionError):
        async with Path(written).governed(INVOKE) as call:
            call.status = 200  # begun well
            raise ConnectionError("the agent went away")
    assert written.lines[-1] == ("outcome", "failed", 500)


async def test_a_cancelled_call_is_written_and_waits_for_nothing() -> None:
    written = Written()
    entered = asyncio.Event()

    async def long() -> None:
        async with Path(written).governed(INVOKE):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(long())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert written.lines[-1] == ("outcome", "failed", 499)


async def test_telemetry_is_data_and_its_refusal_a_decision() -> None:
    written = Written()
    async with Path(written).governed("doorway:ExportTelemetry") as call:
        call.status = 200
    assert written.lines == []
    written.away = True
    async with Path(written).governed("doorway:ExportTelemetry") as call:
        call.status = 200
    written.away = False
    with pytest.raises(AccessDenied):
        async with Path(written, authorize=AccessDenied("no")).governed("doorway:ExportTelemetry"):
            raise AssertionError("it was let in")
    assert written.lines == [("outcome", "denied", 403)]


async def test_a_model_call_is_an_act() -> None:
    written = Written()
    async with Path(written).governed("models:ChatCompletions") as call:
        call.status = 200
    assert [phase for phase, *_ in written.lines] == ["intent", "outcome"]


async def test_no_line_holds_a_token_a_signature_or_an_errors_words() -> None:
    """The bar: secrets in logs, errors, traces - none."""
    written = Written()
    async with Path(written).governed(INVOKE) as call:
        await call.acknowledge(200)
    for step in ("authenticate", "prepare", "authorize"):
        with pytest.raises(FreeholdError):
            async with Path(written, **{step: AccessDenied(f"bad: {CANARY}")}).governed(INVOKE):
                pass
    assert len(written.events) == 5
    assert CANARY not in repr(written.events)


READS_THAT_GIVE_OUT = {
    "GetWorkloadAccessToken",
    "GetWorkloadAccessTokenForJWT",
    "GetWorkloadAccessTokenForUserId",
    "GetResourceApiKey",
    "GetResourceOauth2Token",
    "GetResourcePaymentToken",
    "GetAgentCard",
}


def test_every_operation_of_aws_is_a_read_or_an_act_by_its_name() -> None:
    operations = model.operations()
    named_so = {o for o in operations if o.rpartition(":")[2].startswith(("Get", "List"))}
    acts = {o.rpartition(":")[2] for o in named_so if not is_read(o)}
    known = {o.rpartition(":")[2] for o in operations}
    assert acts == READS_THAT_GIVE_OUT & known
    assert {"GetWorkloadAccessToken", "GetResourceApiKey", "GetAgentCard"} <= acts
    for name in ("Create", "Update", "Delete", "Invoke", "Start", "Stop", "Put", "Complete"):
        assert not any(is_read(o) for o in operations if o.rpartition(":")[2].startswith(name))
    assert not is_read("freehold:WhoKnows")
