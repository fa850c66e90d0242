"""How long a session lives: while it is used or busy, and no longer than its lifetime.

Each scene takes seconds and is nearly all waiting, so that they are played at the same time.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

import agents
from running import Agent, RunningPlatform, events_of, new_session, until

pytestmark = pytest.mark.timeout(300)

IDLE = "idle for 1 s"
SCENE_SECONDS_MAX = 120

Scene = Callable[[RunningPlatform, Agent], None]


def an_idle_session_is_stopped_and_its_id_begins_afresh(_: RunningPlatform, agent: Agent) -> None:
    session = new_session()
    first = agent.invoke(session=session)
    assert agent.platform.ended(session) == IDLE
    assert agent.invoke(session=session)["boot"] != first["boot"]


def it_is_not_idle_while_an_answer_streams(_: RunningPlatform, agent: Agent) -> None:
    """Held by nothing but the stream, until its client has left."""
    session = new_session()
    answer = agent.begin({"do": "stream_for_ever"}, session)
    events = events_of(answer)
    began = next(events)["at"]
    # By the agent's clock far beyond the idle time, and the time for which a lease is kept.
    assert any(event["at"] > began + 8 for event in events)
    assert agent.platform.session(session)["status"] == "READY"
    answer["response"].close()
    assert agent.platform.ended(session) == IDLE


def a_busy_agent_is_kept_until_it_rests(_: RunningPlatform, agent: Agent) -> None:
    session = new_session()
    agent.invoke({"do": "busy", "busy": True}, session)
    until(lambda: agent.platform.session(session)["status"] == "BUSY")
    agent.invoke({"do": "busy", "busy": False}, session)
    assert agent.platform.ended(session) == IDLE


def an_async_task_of_the_sdks_app_keeps_its_session(hasty: RunningPlatform, _: Agent) -> None:
    agent = hasty.deploy(
        agents.hosted(),
        environmentVariables={"KIND": "task"},
        lifecycleConfiguration={"maxLifetime": 3600},
    )
    session = new_session()
    assert agent.invoke({"start": True}, session) == {"ping": "HealthyBusy"}
    until(lambda: hasty.session(session)["status"] == "BUSY", seconds_max=60)
    agent.invoke({}, session)
    assert hasty.ended(session) == IDLE


def it_ends_at_its_longest_lifetime_though_in_use(hasty: RunningPlatform, _: Agent) -> None:
    agent = hasty.deploy(agents.plain(), name="mortal")
    session = new_session()
    *events, last = events_of(agent.begin({"do": "stream_for_ever"}, session))
    assert len(events) > 10
    assert last["error_type"] == "RuntimeClientError"
    assert "longest lifetime" in last["error"]
    assert hasty.ended(session) == "it reached its longest lifetime"


def a_runtime_says_for_itself_how_long(hasty: RunningPlatform, agent: Agent) -> None:
    lasting = hasty.deploy(
        agents.plain(),
        lifecycleConfiguration={"idleRuntimeSessionTimeout": 3600, "maxLifetime": 3600},
    )
    session, later = new_session(), new_session()
    lasting.invoke(session=session)
    agent.invoke(session=later)
    assert hasty.ended(later) == IDLE
    assert hasty.session(session)["status"] in ("READY", "FROZEN")
    lasting.stop(session)


SCENES: tuple[Scene, ...] = (
    an_idle_session_is_stopped_and_its_id_begins_afresh,
    it_is_not_idle_while_an_answer_streams,
    a_busy_agent_is_kept_until_it_rests,
    an_async_task_of_the_sdks_app_keeps_its_session,
    it_ends_at_its_longest_lifetime_though_in_use,
    a_runtime_says_for_itself_how_long,
)


@pytest.fixture(scope="module")
def under_way(hasty: RunningPlatform) -> Iterator[dict[Scene, "Future[None]"]]:
    patient = hasty.deploy(
        agents.plain(), name="patient", lifecycleConfiguration={"maxLifetime": 3600}
    )
    with ThreadPoolExecutor(len(SCENES)) as pool:
        yield {scene: pool.submit(scene, hasty, patient) for scene in SCENES}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_a_session_lives_as_long_as_it_should(
    scene: Scene, under_way: dict[Scene, "Future[None]"]
) -> None:
    under_way[scene].result(SCENE_SECONDS_MAX)
