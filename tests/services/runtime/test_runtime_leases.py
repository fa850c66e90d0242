"""Each lease of a session is given back once, however the call that took it ends."""

import asyncio
from typing import Any, cast

import pytest
from lease_ground import DEPLOYMENT, Agents, Reply, Sessions, call, service

from freehold.kernel.errors import RuntimeClientFailed, Unavailable
from freehold.ports.agents import AgentBroke


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


async def test_a_whole_answer_gives_it_back(sessions: Sessions) -> None:
    answered = await service(sessions, Agents(Reply(b"{}", content_length="2"))).invoke(call())
    assert answered.body == b"{}"
    assert sessions.held == []


async def test_a_stream_gives_it_back_at_its_end(sessions: Sessions) -> None:
    reply = Reply(b"a", b"b")
    answered = await service(sessions, Agents(reply)).invoke(call())
    assert not isinstance(answered.body, bytes)
    assert sessions.held == ["s-1"]
    assert [chunk async for chunk in answered.body] == [b"a", b"b"]
    assert (sessions.held, reply.closed) == ([], 1)


async def test_a_stream_that_is_left_gives_it_back(sessions: Sessions) -> None:
    reply = Reply(b"a", b"b")
    answered = await service(sessions, Agents(reply)).invoke(call())
    body = cast(Any, answered.body)
    assert await anext(body) == b"a"
    await body.aclose()
    await body.aclose()
    assert (sessions.held, reply.closed) == ([], 1)


async def test_a_stream_that_nobody_began_to_read_gives_it_back(sessions: Sessions) -> None:
    """The client left in the moment that its answer began."""
    reply = Reply(b"a")
    answered = await service(sessions, Agents(reply)).invoke(call())
    await cast(Any, answered.body).aclose()
    assert (sessions.held, reply.closed) == ([], 1)


async def test_a_broken_stream_gives_it_back(sessions: Sessions) -> None:
    reply = Reply(b"a", AgentBroke("it broke"), content_type="text/plain")
    answered = await service(sessions, Agents(reply)).invoke(call())
    with pytest.raises(RuntimeClientFailed, match="it broke"):
        [chunk async for chunk in cast(Any, answered.body)]
    assert sessions.held == []


@pytest.mark.parametrize(
    "failure", [AgentBroke("it broke"), asyncio.CancelledError(), Unavailable("no node")]
)
async def test_a_call_without_an_answer_gives_it_back(
    sessions: Sessions, failure: BaseException
) -> None:
    with pytest.raises((RuntimeClientFailed, asyncio.CancelledError, Unavailable)):
        await service(sessions, Agents(failure)).invoke(call())
    assert sessions.held == []


async def test_it_is_given_back_while_the_node_is_away(sessions: Sessions) -> None:
    sessions.node_is_away = True
    with pytest.raises(Unavailable):
        await service(sessions, Agents(AgentBroke("it broke"))).invoke(call())
    assert sessions.held == []


async def test_a_session_that_was_over_before_it_was_reached_gives_way_to_a_new_one(
    sessions: Sessions,
) -> None:
    sessions.over.add("s-1")
    agents = Agents(AgentBroke("nobody", unreached=True), Reply(b"{}", content_length="2"))
    answered = await service(sessions, agents).invoke(call())
    assert answered.body == b"{}"
    assert agents.bodies == [b"asked", b"asked"]
    assert (sessions.held, sessions.acquired) == ([], 2)


async def test_but_only_once_and_never_what_an_agent_may_have_seen(sessions: Sessions) -> None:
    sessions.over |= {"s-1", "s-2", "s-3"}
    unreached = AgentBroke("nobody", unreached=True)
    with pytest.raises(RuntimeClientFailed, match="it was its time"):
        await service(sessions, Agents(unreached, unreached)).invoke(call())
    assert sessions.acquired == 2
    with pytest.raises(RuntimeClientFailed, match="it was its time"):
        await service(sessions, Agents(AgentBroke("it broke"))).invoke(call())
    assert sessions.acquired == 3
    assert sessions.held == []


CARD = b'{"name": "x"}'


async def test_a_card_gives_it_back(sessions: Sessions) -> None:
    reply = Reply(CARD)
    arn, session = DEPLOYMENT.runtime_id, "s" * 33
    got = await service(sessions, Agents(reply)).card("100000000001", arn, None, session, "r")
    assert got == (session, {"name": "x"})
    assert (sessions.held, reply.closed) == ([], 1)


def not_found() -> Reply:
    reply = Reply(b"Not Found")
    reply.status = 404
    return reply


@pytest.mark.parametrize(
    "answer",
    [not_found(), Reply(b"[]"), Reply(CARD[:5], AgentBroke("it broke")), AgentBroke("it broke")],
    ids=["none", "no object", "broken off", "no answer"],
)
async def test_a_card_that_cannot_be_had_gives_it_back(
    sessions: Sessions, answer: Reply | AgentBroke
) -> None:
    with pytest.raises(RuntimeClientFailed):
        await service(sessions, Agents(answer)).card("1", DEPLOYMENT.runtime_id, None, None, "r")
    assert sessions.held == []
