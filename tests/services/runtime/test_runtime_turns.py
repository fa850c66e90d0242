"""What an invocation asked and was answered is in its span, where its runtime captures it."""

from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest
from lease_ground import DEPLOYMENT, Agents, Reply, Sessions, call, service

from freehold.kernel import tracing
from freehold.kernel.body import Body, BytesBody
from freehold.kernel.errors import RuntimeClientFailed
from freehold.kernel.tracing import Kind, Span, Trail
from freehold.ports.agents import AgentBroke, AgentReply, AgentRequest
from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.ports.exchanges import recorded_bytes
from freehold.ports.replay import FORK_ID
from freehold.services.runtime.invocations import Invocation
from kept_spans import KeptSpans

CAPTURED = msgspec.structs.replace(DEPLOYMENT, captures_content=True)
SSE = "text/event-stream; charset=utf-8"


def operation(name: str = "invoke_agent") -> Span:
    attributes: dict[str, Any] = {"freehold.operation": "bedrock-agentcore:InvokeAgentRuntime"}
    return Span(Trail(KeptSpans()), name, kind=Kind.SERVER, parent=None, attributes=attributes)


async def turn(
    agents: Agents,
    invocation: Invocation,
    *,
    captured: bool = True,
    name: str = "invoke_agent",
) -> tuple[bytes, dict[str, Any]]:
    """What the client got, and what the span says of the exchange."""
    with tracing.within(operation(name)) as span:
        deployment = CAPTURED if captured else DEPLOYMENT
        answered = await service(Sessions(), agents, deployment).invoke(invocation)
        body = answered.body
        if not isinstance(body, bytes):
            body = b"".join([chunk async for chunk in body])
    return body, exchanged(span)


def exchanged(span: Span) -> dict[str, Any]:
    told, start = span.attributes, "freehold.exchange."
    return {name.removeprefix(start): told[name] for name in told if name.startswith(start)}


def whole(body: bytes, content_type: str = "application/json") -> Reply:
    return Reply(body, content_length=str(len(body)), content_type=content_type)


async def test_a_whole_answer_is_kept_with_what_was_asked() -> None:
    got, told = await turn(Agents(whole(b'{"sum": 3}')), call(BytesBody(b'{"add": [1, 2]}')))
    assert got == b'{"sum": 3}'
    assert told == {
        "request": '{"add": [1, 2]}',
        "response": '{"sum": 3}',
        "content_type": "application/json",
    }


async def test_a_stream_is_kept_as_its_pieces_together() -> None:
    pieces = [b"data: one\n\n", b"data: two\n\n"]
    got, told = await turn(Agents(Reply(*pieces, content_type=SSE)), call())
    assert got == b"".join(pieces)
    assert (told["response"], told["content_type"]) == (got.decode(), SSE)
    assert "truncated" not in told


async def test_each_piece_goes_out_before_the_next_one_has_come() -> None:
    came: list[int] = []

    class Slow(Reply):
        async def chunks(self) -> AsyncIterator[bytes]:
            for number in range(3):
                came.append(number)
                yield b"%d" % number

    with tracing.within(operation()) as span:
        answered = await service(Sessions(), Agents(Slow()), CAPTURED).invoke(call())
        stream = cast(Any, answered.body)
        assert came == []
        for number in range(3):
            assert await anext(stream) == b"%d" % number
            assert came == list(range(number + 1))
        await stream.aclose()
    assert exchanged(span)["response"] == "012"


async def test_of_a_long_exchange_the_beginnings_are_kept() -> None:
    long = b"x" * (CONTENT_BYTES_MAX + 1)
    got, told = await turn(Agents(Reply(long, b"more")), call(BytesBody(long)))
    assert got == long + b"more"
    assert told["request"] == told["response"] == "x" * CONTENT_BYTES_MAX
    assert told["truncated"] is True


class Streaming:
    """A body that declares no length."""

    size_bytes = None

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in (b'{"large": ', b"1}"):
            yield chunk

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])


class ByPieces(Agents):
    async def send(self, request: AgentRequest) -> AgentReply:
        self.bodies.append(b"".join([chunk async for chunk in request.body.chunks()]))
        return whole(b"{}")


@pytest.mark.parametrize("agents", [Agents(whole(b"{}")), ByPieces()], ids=["at once", "by pieces"])
async def test_a_payload_that_streams_is_kept_on_its_way(agents: Agents) -> None:
    _, told = await turn(agents, call(cast(Body, Streaming())))
    assert agents.bodies == [b'{"large": 1}']
    assert told["request"] == '{"large": 1}'


async def test_what_is_no_text_comes_back_from_its_record_as_it_was() -> None:
    asked, answer = b"\x89PNG\r\n\x00\xff", b"\x00\x01\xfe"
    agents = Agents(whole(answer, "application/octet-stream"))
    _, told = await turn(agents, call(BytesBody(asked), "image/png"))
    assert told["request"].startswith("data:image/png;base64,")
    assert recorded_bytes(told["request"]) == asked
    assert recorded_bytes(told["response"]) == answer
    assert told["request_content_type"] == "image/png"


async def test_without_capture_nothing_is_kept_and_nothing_is_put_in_the_way() -> None:
    seen: list[Body] = []

    class Looking(Agents):
        async def send(self, request: AgentRequest) -> AgentReply:
            seen.append(request.body)
            return await super().send(request)

    body = cast(Body, Streaming())
    _, told = await turn(Looking(whole(b"{}")), call(body), captured=False)
    assert told == {}
    assert seen == [body]


async def test_a_call_that_is_a_step_of_something_else_keeps_nothing() -> None:
    """A function's sessions are runtimes as well; its span is not the agent's."""
    _, told = await turn(Agents(whole(b"{}")), call(), name="function")
    assert told == {}


@pytest.mark.parametrize("after", [0, 1])
async def test_a_turn_that_failed_has_what_was_asked_and_what_came(after: int) -> None:
    broke = AgentBroke("it broke")
    agents = Agents(Reply(b"some", broke, content_type="text/plain")) if after else Agents(broke)
    span = operation()
    with pytest.raises(RuntimeClientFailed), tracing.within(span):
        answered = await service(Sessions(), agents, CAPTURED).invoke(call())
        [chunk async for chunk in cast(Any, answered.body)]
    told = exchanged(span)
    assert told["request"] == "asked"
    assert told.get("response") == ("some" if after else None)


@pytest.mark.parametrize(
    ("session_id", "fork"),
    [("fork-" + "0f" * 16, "fork-" + "0f" * 16), ("fork-of-another-kind-altogether-0001", None)],
)
async def test_an_invocation_of_a_fork_says_so(session_id: str, fork: str | None) -> None:
    with tracing.within(operation()) as span:
        await service(Sessions(), Agents(whole(b"{}"))).invoke(call(session_id=session_id))
    assert span.attributes.get(FORK_ID) == fork
