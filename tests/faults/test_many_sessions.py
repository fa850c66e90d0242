"""Many sessions asked for at once: all are answered, none mixed up, and nothing of them stays."""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

import agents
from fault_ground import FaultyPlatform, MakePlatform
from running import Agent, new_session, refusal

T = TypeVar("T")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def all_at_once(calls: list[Callable[[], T]]) -> list[T]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(300) for future in [pool.submit(call) for call in calls]]


def asked_and_answered(agent: Agent, count: int) -> list[str]:
    """Each session is told a secret of its own, at once; what it then knows is that alone."""
    secret_of = {new_session(): secrets.token_hex(8) for _ in range(count)}
    began = time.monotonic()

    def tell(session: str, secret: str) -> Any:
        return agent.invoke({"do": "tell", "text": secret}, session)

    answers = all_at_once([lambda s=s, x=x: tell(s, x) for s, x in secret_of.items()])
    print(f"{count} sessions in {time.monotonic() - began:.1f} s")
    assert [answer["told"] for answer in answers] == [[x] for x in secret_of.values()]
    seen = all_at_once([lambda s=s: agent.invoke(session=s) for s in secret_of])
    assert len({answer["boot"] for answer in seen}) == count
    for answer, (session, secret) in zip(seen, secret_of.items(), strict=True):
        assert secret in answer["home"]
        assert len([name for name in answer["home"] if len(name) == 16]) == 1
        assert answer["headers"]["X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"] == session
    return list(secret_of)


def stopped(platform: FaultyPlatform, agent: Agent, sessions: list[str]) -> None:
    all_at_once([lambda s=s: agent.stop(s) for s in sessions])
    assert platform.session_directories() == []
    assert platform.sessions(status="live") == []


def test_forty_sessions_at_once(quiet: FaultyPlatform, victim: Agent) -> None:
    sessions = asked_and_answered(victim, 40)
    stopped(quiet, victim, sessions)


def test_two_hundred_sessions_at_once(quiet: FaultyPlatform, victim: Agent) -> None:
    sessions = asked_and_answered(victim, 200)
    stopped(quiet, victim, sessions)


def test_two_hundred_sessions_of_the_sdk_at_once(quiet: FaultyPlatform) -> None:
    """Whose time goes into the import of bedrock_agentcore, two hundred times."""
    agent = quiet.deploy(agents.hosted(), environmentVariables={"KIND": "sync"})
    sessions = [new_session() for _ in range(200)]
    began = time.monotonic()
    answers = all_at_once([lambda s=s: agent.invoke({"n": s}, s) for s in sessions])
    print(f"200 sessions of the SDK in {time.monotonic() - began:.1f} s")
    assert [answer["session"] for answer in answers] == sessions
    assert {answer["turn"] for answer in answers} == {1}
    stopped(quiet, agent, sessions)


@pytest.fixture(scope="module")
def tight(make_platform: MakePlatform) -> Agent:
    """One starts, two wait; eight live."""
    settings = {"starts_at_once_max": 1, "starts_queued_max": 2, "sessions_max": 8}
    return make_platform("tight", **settings).deploy(agents.plain())


def live(agent: Agent) -> list[str]:
    return [row["sessionId"] for row in agent.platform.own("/sessions", status="live")["sessions"]]


def test_more_starts_than_may_wait_are_refused_at_once(tight: Agent) -> None:
    agent = tight

    def ask() -> str:
        began = time.monotonic()
        try:
            agent.invoke()
        except agent.data.exceptions.ThrottlingException as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 429
            assert time.monotonic() - began < 10  # who waits does so for a minute
            return "refused"
        return "answered"

    outcomes = all_at_once([ask] * 20)
    assert outcomes.count("answered") >= 3, "one starts, two wait"
    assert outcomes.count("refused") >= 10
    assert agent.invoke()["boot"], "the queue is free again"
    assert len(live(agent)) == outcomes.count("answered") + 1


def test_the_machine_holds_no_more_sessions_than_it_is_said_to(tight: Agent) -> None:
    while len(live(tight)) < 8:
        tight.invoke()
    refused = refusal(tight.invoke)
    assert (refused.status, refused.code) == (402, "ServiceQuotaExceededException")
    first, second, *_ = live(tight)
    assert tight.invoke(session=first)["boot"], "those that live go on"
    tight.stop(second)
    assert tight.invoke()["boot"], "and there is a place again"


def test_two_workers_agree_on_one_sandbox_for_a_session(make_platform: MakePlatform) -> None:
    pair = make_platform("pair", "--workers", "2")
    agent = pair.deploy(agents.plain())
    assert len(pair.pids("api")) == 2
    before = {pid: _requests(pid) for pid in pair.pids("api")}
    for _ in range(5):
        session = new_session()
        # No more than what the agent's own backlog holds.
        answers = all_at_once([lambda s=session: agent.invoke(session=s) for _ in range(6)])
        assert len({answer["boot"] for answer in answers}) == 1
        assert len(pair.sessions(sessionId=session)) == 1
        agent.stop(session)
    used = {pid: _requests(pid) - before[pid] for pid in pair.pids("api")}
    assert all(used.values()), f"one of the workers did nothing: {used}"


def _requests(pid: int) -> int:
    """What a process has read so far: a worker that serves nobody reads nothing."""
    counters = Path(f"/proc/{pid}/io").read_text()
    return int(counters.split("rchar: ")[1].split()[0])
