"""Sessions that end for idleness just as the next request comes: the client never hears of it."""

import random
import time
from typing import Any

import pytest
from test_many_sessions import all_at_once

import agents
from fault_ground import MakePlatform
from running import Agent, new_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

IDLE_SECONDS = 1
CLIENTS = 8
ROUNDS = 8


def rows_of(agent: Agent, session: str, status: str = "all") -> list[dict[str, Any]]:
    found = agent.platform.own("/sessions", sessionId=session, status=status)
    return list(found["sessions"])


def test_a_request_at_the_moment_of_the_idle_stop_is_answered(drowsy: Agent) -> None:
    random.seed(1)

    def hammer(session: str) -> set[str]:
        boots = set()
        for _ in range(ROUNDS):
            boots.add(drowsy.invoke(session=session)["boot"])
            # Around the moment at which the node looks whether it is idle.
            time.sleep(IDLE_SECONDS + random.uniform(-0.02, 0.06))
        return boots

    sessions = [new_session() for _ in range(CLIENTS)]
    seen = all_at_once([lambda s=s: hammer(s) for s in sessions])
    assert sum(len(boots) for boots in seen) > CLIENTS, "none was ever stopped for idleness"
    rows = [row for session in sessions for row in rows_of(drowsy, session)]
    assert len(rows) == sum(len(boots) for boots in seen), "each sandbox answered somebody"
    reasons = {row["endReason"] for row in rows if row["endedAt"]}
    assert reasons == {f"idle for {IDLE_SECONDS} s"}


def test_a_request_at_the_moment_of_the_lifetimes_end_is_answered(
    make_platform: MakePlatform,
) -> None:
    mortal = make_platform(name="mortal", session_idle_seconds=2, session_lifetime_seconds=2)
    agent = mortal.deploy(agents.plain())

    def hammer(session: str) -> int:
        boots: set[str] = set()
        deadline = time.monotonic() + 90
        while len(boots) < 3 and time.monotonic() < deadline:
            boots.add(agent.invoke(session=session)["boot"])
        return len(boots)

    sessions = [new_session() for _ in range(4)]
    lives = all_at_once([lambda s=s: hammer(s) for s in sessions])
    assert min(lives) >= 3
    for row in rows_of(agent, sessions[0]):
        assert row["endReason"] in (None, "it reached its longest lifetime")


def test_a_stop_and_a_request_at_once_leave_one_session_or_none(drowsy: Agent) -> None:
    for _ in range(10):
        session = new_session()
        drowsy.invoke(session=session)
        all_at_once(
            [lambda s=session: _stopped(drowsy, s), lambda s=session: _asked(drowsy, s)] * 3
        )
        assert len(rows_of(drowsy, session, status="live")) <= 1
        assert drowsy.invoke(session=session)["boot"]


def _stopped(agent: Agent, session: str) -> bool:
    try:
        agent.stop(session)
    except agent.data.exceptions.ResourceNotFoundException:
        return False
    return True


def _asked(agent: Agent, session: str) -> bool:
    """A call that is under way when somebody stops the session fails with it, and says so."""
    try:
        agent.invoke(session=session)
    except agent.data.exceptions.RuntimeClientError as error:
        assert "StopRuntimeSession was called" in str(error)
        return False
    return True
