"""A node that is killed leaves nothing of what it kept warm, and its successor keeps it again."""

import time
from collections.abc import Iterator

import pytest

import agents
from fault_ground import FaultyPlatform, MakePlatform
from running import Agent, events_of, new_session, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SOON = 60


@pytest.fixture(scope="module")
def cosy(make_platform: MakePlatform) -> Iterator[Agent]:
    """One version with a template, and two sandboxes that wait for sessions of an endpoint."""
    platform = make_platform("cosy", freeze_idle_seconds=0.5)
    agent = platform.deploy(agents.plain())
    agent.control.create_agent_runtime_endpoint(
        agentRuntimeId=agent.id, name="prompt", tags={"freehold:warm": "2"}
    )
    yield agent


def waiting(agent: Agent) -> set[str]:
    platform = agent.platform
    assert isinstance(platform, FaultyPlatform)
    live = {row["sandboxId"] for row in platform.sessions(status="live", limit=100)}
    return set(platform.session_directories()) - live


def a_forked_session(agent: Agent) -> str:
    def tried() -> str | None:
        session = new_session()
        agent.invoke({"do": "tell", "text": "kept"}, session)
        until(lambda: agent.platform.session(session)["status"] != "STARTING")
        return session if agent.platform.session(session)["start"] == "forked" else None

    return str(until(tried, seconds_max=SOON, every=0.3))


def templates(agent: Agent) -> set[str]:
    return {path.name for path in (agent.platform.state / "templates").iterdir()}


def test_sessions_outlive_the_template_that_goes_with_the_node(cosy: Agent) -> None:
    platform = cosy.platform
    assert isinstance(platform, FaultyPlatform)
    session = a_forked_session(cosy)
    until(lambda: platform.session(session)["status"] == "FROZEN", seconds_max=SOON)
    until(lambda: len(waiting(cosy)) == 2, seconds_max=SOON)
    waited, (template,) = waiting(cosy), templates(cosy)
    (node,) = platform.pids("node")
    platform.kill("node")
    platform.replaced("node", node)
    assert cosy.invoke({"do": "tell", "text": "since"}, session) == {"told": ["kept", "since"]}
    until(lambda: len(waiting(cosy)) == 2, seconds_max=SOON)
    assert not waiting(cosy) & waited, "those that nobody owned were ended"
    assert platform.session(session)["start"] == "forked", "as it was written down"
    again = a_forked_session(cosy)
    assert template not in templates(cosy)
    for each in (session, again):
        cosy.stop(each)


def test_what_streams_while_the_node_is_away_is_not_frozen_by_the_next(cosy: Agent) -> None:
    """The node hears late of who uses the sessions that it adopted."""
    platform = cosy.platform
    assert isinstance(platform, FaultyPlatform)
    patient = Agent(platform, cosy.id, cosy.arn)
    patient.data = platform.client("bedrock-agentcore", config={"read_timeout": 20})
    session = new_session()
    events = events_of(patient.begin({"do": "stream_for_ever"}, session))
    next(events)
    (node,) = platform.pids("node")
    platform.kill("node")
    platform.replaced("node", node)
    back = time.time()
    until(lambda: next(events)["at"] > back + 3, every=0)
    cosy.stop(session)


def test_a_platform_that_was_killed_as_a_whole_begins_again(cosy: Agent) -> None:
    platform = cosy.platform
    assert isinstance(platform, FaultyPlatform)
    a_forked_session(cosy)
    until(lambda: len(waiting(cosy)) == 2, seconds_max=SOON)
    platform.kill("up", "node", "api")
    platform.restart()
    revived = Agent(platform, cosy.id, cosy.arn)
    a_forked_session(revived)
    until(lambda: len(waiting(revived)) == 2, seconds_max=SOON)
