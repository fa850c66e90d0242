"""`--database-url`: somebody's Postgres in the place of the embedded one, there and away."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import agents
from fault_ground import FaultyPlatform, up
from freehold.adapters.postgres.embedded import EmbeddedPostgres
from running import Agent, new_session, refusal, until

pytestmark = pytest.mark.timeout(180)

SERVER_USER = "nobody" if os.geteuid() == 0 else None
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
QUICK_SECONDS = 8


class Foreign:
    """A server that belongs to the test, and a platform on it."""

    def __init__(self, server: EmbeddedPostgres, platform: FaultyPlatform) -> None:
        self.server, self.platform = server, platform


@pytest.fixture(scope="module")
async def foreign(open_directory: Path) -> AsyncIterator[Foreign]:
    server = EmbeddedPostgres(
        open_directory / "somebodys", user=SERVER_USER, durable=False,
        binaries_directory=DEBIAN_15 if DEBIAN_15.is_dir() else None,
    )  # fmt: skip
    url = await server.start()
    platform = FaultyPlatform(
        open_directory / "on-somebodys", "--database-url", url, metering_seconds=0.5
    )
    await asyncio.to_thread(platform.start)
    yield Foreign(server, platform)
    assert await asyncio.to_thread(platform.stop) == 0
    assert platform.remains() == []
    assert server.running, "it is not ours to stop"
    await server.stop()


@pytest.fixture(scope="module")
async def guest(foreign: Foreign) -> Agent:
    return await asyncio.to_thread(foreign.platform.deploy, agents.plain())


def test_the_embedded_server_is_not_started(foreign: Foreign) -> None:
    assert not (foreign.platform.state / "postgres").exists()


async def test_agents_run_on_it(foreign: Foreign, guest: Agent) -> None:
    session = new_session()
    await asyncio.to_thread(guest.invoke, {"do": "tell", "text": "one"}, session)
    rows = await asyncio.to_thread(foreign.platform.sessions, sessionId=session)
    assert len(rows) == 1


@pytest.mark.slow
async def test_while_it_is_away_calls_are_refused_and_sessions_live_on(
    foreign: Foreign, guest: Agent
) -> None:
    """No call is done that the audit could not show."""
    warm = new_session()
    await asyncio.to_thread(guest.invoke, {"do": "tell", "text": "before"}, warm)
    await foreign.server.stop()
    try:
        during = {"do": "tell", "text": "during"}
        await asyncio.to_thread(_is_refused, lambda: guest.invoke(during, warm))
        await asyncio.to_thread(_is_refused, guest.control.list_agent_runtimes)
        await asyncio.to_thread(_is_refused, lambda: guest.invoke(session=new_session()))
    finally:
        await foreign.server.start()
    tell = {"do": "tell", "text": "after"}
    told = await asyncio.to_thread(_once_it_answers, lambda: guest.invoke(tell, warm))
    assert told["told"] == ["before", "after"]
    listed = await asyncio.to_thread(_once_it_answers, guest.control.list_agent_runtimes)
    assert [runtime["agentRuntimeId"] for runtime in listed["agentRuntimes"]] == [guest.id]
    session = foreign.platform.session
    await asyncio.to_thread(until, lambda: session(warm)["invocations"] == 2)


def _is_refused(call: Callable[[], Any]) -> None:
    began = time.monotonic()
    refused = refusal(call)
    assert refused.status in (500, 503), refused
    assert _says_why(refused.message)
    assert time.monotonic() - began < QUICK_SECONDS


def _says_why(message: str) -> bool:
    return "database" in message or "the audit cannot be written" in message


def _once_it_answers(call: Callable[[], Any]) -> Any:
    found = []

    def answers() -> bool:
        try:
            found.append(call())
        except Exception as error:  # noqa: BLE001 - any kind of not yet
            assert _says_why(str(error))
        return bool(found)

    until(answers, seconds_max=10)
    return found[0]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://user:hidden@127.0.0.1:1/freehold", "database does not answer"),
        ("mysql://user:hidden@127.0.0.1/freehold", "cannot be read"),
        pytest.param(
            "postgresql://user:hidden@[::1/freehold", "cannot be read", marks=pytest.mark.slow
        ),
        pytest.param(
            "postgresql://user:hidden@no-such-host.invalid/freehold",
            "database does not answer",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_database_that_cannot_be_is_said_in_one_line(
    open_directory: Path, url: str, said: str
) -> None:
    ended = up(open_directory / "no-database", "--database-url", url, seconds_max=30)
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert said in line
    assert "hidden" not in line


async def test_a_database_that_is_not_there_is_named(
    open_directory: Path, postgres_dsn: str
) -> None:
    missing = postgres_dsn.replace("/freehold?", "/nowhere?")
    assert missing != postgres_dsn
    ended = await asyncio.to_thread(up, open_directory / "no-database", "--database-url", missing)
    assert ended.returncode == 1
    assert 'database "nowhere" does not exist' in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.slow
async def test_two_platforms_share_a_database_and_leave_each_others_sessions_alone(
    open_directory: Path, empty_dsn: Callable[[], Awaitable[str]]
) -> None:
    """Each is a node of its own, though both are on one host."""
    url = await empty_dsn()
    one, other = (
        FaultyPlatform(open_directory / f"sharing-{n}", "--database-url", url) for n in (1, 2)
    )
    await asyncio.to_thread(one.start)
    try:
        agent = await asyncio.to_thread(one.deploy, agents.plain())
        session = new_session()
        await asyncio.to_thread(agent.invoke, {"do": "tell", "text": "before"}, session)
        await asyncio.to_thread(other.start)
        await asyncio.to_thread(other.stop)
        told = await asyncio.to_thread(agent.invoke, {"do": "tell", "text": "after"}, session)
        assert told["told"] == ["before", "after"]
        rows = await asyncio.to_thread(one.sessions, sessionId=session)
        assert [row["endedAt"] for row in rows] == [None]
    finally:
        await asyncio.to_thread(one.stop)
