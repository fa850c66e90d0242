"""A WebSocket reaches the agent's own /ws in its session, through the governed path."""

import asyncio
import json
import os
import signal

import pytest
from socket_clients import (
    CUSTOM,
    SESSION,
    opened,
    presigned,
    signed,
    talking_to,
    twice,
    url_of,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus

import agents
from running import Agent, RunningPlatform, new_session, until

pytestmark = pytest.mark.timeout(300)
SECONDS_MAX = 120


@pytest.fixture(scope="session")
def talking(platform: RunningPlatform) -> Agent:
    return platform.deploy(
        agents.talking(),
        name="talking",
        requestHeaderConfiguration={"requestHeaderAllowlist": ["X-Colour"]},
    )


async def test_messages_go_both_ways_and_the_session_is_the_invocations_one(
    talking: Agent,
) -> None:
    session = new_session()
    async with talking_to(talking, session) as socket:
        assert socket.response.headers[SESSION] == session
        await socket.send("good morning")
        assert await socket.recv() == "good morning"
        await socket.send(b"\0" * 300_000)
        assert await socket.recv() == b"\0" * 300_000
        rows = talking.platform.own("/sessions", sessionId=session)["sessions"]
    assert len(rows) == 1
    talking.invoke(session=session)
    assert len(talking.platform.own("/sessions", sessionId=session, status="all")["sessions"]) == 1


async def test_the_sdks_repeated_headers_are_taken_once(talking: Agent) -> None:
    url = url_of(talking)
    headers = twice(signed(talking.platform, url, **{SESSION: new_session()}), url)
    async with opened(url, additional_headers=headers) as socket:
        await socket.send("x")
        assert await socket.recv() == "x"


async def test_a_presigned_url_needs_no_header_and_carries_the_session(talking: Agent) -> None:
    session = new_session()
    url = presigned(talking.platform, url_of(talking, **{SESSION: session, "qualifier": "DEFAULT"}))
    async with opened(url) as socket:
        await socket.send("headers")
        seen = json.loads(await socket.recv())
    assert seen["session"] == session
    agents_own = "x-amz-bedrock-agentcore-identity-wat"
    assert [n for n in seen if n.startswith(("x-amz-", "authorization"))] == [agents_own]


async def test_headers_reach_the_agent_by_the_allow_list_of_invocations(talking: Agent) -> None:
    more = {f"{CUSTOM}Mood": "good", "X-Colour": "red", "X-Secret": "no", "Cookie": "a=b"}
    async with talking_to(
        talking, new_session(), query={f"{CUSTOM}Hat": "blue", "x-secret": "no"}, **more
    ) as socket:
        await socket.send("headers")
        seen = json.loads(await socket.recv())
    assert seen[f"{CUSTOM}Mood".lower()] == "good"
    assert seen[f"{CUSTOM}Hat".lower()] == "blue"
    assert seen["x-colour"] == "red"
    assert not seen.keys() & {"x-secret", "cookie", "authorization", "x-amz-date"}


async def test_the_agents_own_close_code_reaches_the_client(talking: Agent) -> None:
    async with talking_to(talking, new_session()) as socket:
        await socket.send("close 4321")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "as asked")


async def test_compression_is_between_client_and_agent(talking: Agent) -> None:
    url = url_of(talking)
    headers = signed(talking.platform, url, **{SESSION: new_session()})
    async with opened(url, additional_headers=headers, compression="deflate") as socket:
        assert "permessage-deflate" in socket.response.headers["Sec-WebSocket-Extensions"]
        await socket.send("x" * 100_000)
        assert await socket.recv() == "x" * 100_000


async def test_a_subprotocol_is_agreed_on_and_a_token_in_its_place_is_dropped(
    talking: Agent,
) -> None:
    url = url_of(talking)
    headers = signed(talking.platform, url, **{SESSION: new_session()})
    offered = ["base64UrlBearerAuthorization.c2VjcmV0", "chat"]
    async with opened(url, additional_headers=headers, subprotocols=offered) as socket:
        assert socket.subprotocol == "chat"
        await socket.send("headers")
        assert json.loads(await socket.recv())["sec-websocket-protocol"] == "chat"


async def test_a_session_that_ends_closes_its_sockets(talking: Agent) -> None:
    """Its server is asked to stop first, and has its own word for it (uvicorn's is 1012)."""
    session = new_session()
    async with talking_to(talking, session) as socket:
        await socket.send("x")
        await socket.recv()
        await asyncio.to_thread(talking.stop, session)
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code in (1001, 1012)


async def test_an_agent_that_dies_closes_with_an_error(talking: Agent) -> None:
    async with talking_to(talking, new_session()) as socket:
        await socket.send("die")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code in (1001, 1011)


@pytest.mark.slow
async def test_an_open_socket_keeps_its_session_and_a_closed_one_does_not(
    hasty: RunningPlatform,
) -> None:
    short = await asyncio.to_thread(lambda: hasty.deploy(agents.talking()))
    session = new_session()
    async with talking_to(short, session) as socket:
        for _ in range(5):
            await socket.send("x")
            await asyncio.wait_for(socket.recv(), SECONDS_MAX)
            await asyncio.sleep(0.5)  # longer, together, than a session may idle
        assert short.platform.session(session)["endedAt"] is None
    reason = await asyncio.to_thread(short.platform.ended, session)
    assert "idle" in reason


@pytest.mark.slow
async def test_a_silent_socket_is_closed_when_a_session_may_idle_no_longer(
    hasty: RunningPlatform,
) -> None:
    agent = await asyncio.to_thread(lambda: hasty.deploy(agents.talking()))
    async with talking_to(agent, new_session()) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), SECONDS_MAX)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


async def test_a_client_that_does_not_read_slows_the_agent_and_loses_nothing(
    talking: Agent,
) -> None:
    async with talking_to(talking, new_session()) as socket:
        await socket.send("flood 400")
        await asyncio.sleep(0.3)
        got = 0
        for _ in range(400):
            got += len(await asyncio.wait_for(socket.recv(), SECONDS_MAX))
    assert got == 400 * 65536


async def refused(url: str, **more: object) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as refusal:
        async with opened(url, **more):
            pass
    return refusal.value


async def test_what_is_not_signed_or_not_theirs_is_refused_in_awss_words(
    talking: Agent, second_tenant: RunningPlatform
) -> None:
    unsigned = await refused(url_of(talking))
    assert unsigned.response.status_code == 403
    assert unsigned.response.headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"
    url = url_of(talking)
    forged = signed(talking.platform, url)
    forged["Authorization"] = forged["Authorization"][:-4] + "0000"
    assert (await refused(url, additional_headers=forged)).response.status_code == 403
    foreign = await refused(url, additional_headers=signed(second_tenant, url))
    assert foreign.response.status_code == 404


async def test_a_presigned_url_that_was_changed_is_refused(talking: Agent) -> None:
    url = presigned(talking.platform, url_of(talking, **{SESSION: new_session()}))
    changed = url.replace(SESSION + "=session-", SESSION + "=sessiom-")
    assert changed != url
    assert (await refused(changed)).response.status_code == 403


async def test_an_agent_that_refuses_is_an_error_of_its_own(talking: Agent) -> None:
    url = url_of(talking)
    headers = signed(talking.platform, url, **{SESSION: new_session(), f"{CUSTOM}Door": "closed"})
    refusal = await refused(url, additional_headers=headers)
    assert refusal.response.status_code == 424
    assert b"HTTP 403" in (refusal.response.body or b"")


async def test_a_worker_that_stops_tells_its_sockets_to_come_again(
    platform: RunningPlatform, talking: Agent
) -> None:
    """Its replacement serves the next one; the session has gone on."""
    session = new_session()
    (worker,) = platform.pids("api")
    async with talking_to(talking, session) as socket:
        await socket.send("x")
        await socket.recv()
        boot = platform.session(session)["startedAt"]
        os.kill(worker, signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), SECONDS_MAX)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    await asyncio.to_thread(until, lambda: platform.pids("api") not in ([], [worker]))
    async with talking_to(talking, session) as socket:
        await socket.send("x")
        assert await asyncio.wait_for(socket.recv(), SECONDS_MAX) == "x"
    assert platform.session(session)["startedAt"] == boot
