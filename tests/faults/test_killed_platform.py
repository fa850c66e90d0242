"""kill -9 of the supervisor, and of everything at once: the next `up` takes up what is left."""

import os
import signal
import time
from pathlib import Path

import pytest

import agents
from fault_ground import FaultyPlatform, MakePlatform
from running import Agent, new_session, together, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LOST = "lost: the platform was stopped without warning"
EVERYTHING = ("up", "node", "api", "postgres")


@pytest.fixture(scope="module")
def platform(make_platform: MakePlatform) -> FaultyPlatform:
    return make_platform("killed")


def test_when_the_supervisor_is_killed_its_processes_end_and_the_next_one_begins_clean(
    platform: FaultyPlatform,
) -> None:
    agent = platform.deploy(agents.plain())
    session = new_session()
    agent.invoke({"do": "tell", "text": "before"}, session)
    key = platform.access_key_id
    platform.kill("up")
    platform.restart()  # at once: it waits for the node and the workers of the one before
    assert platform.access_key_id == key
    again = Agent(platform, agent.id, agent.arn)
    assert again.settle()[0] == "READY"
    assert again.invoke({"do": "tell", "text": "after"}, session)["told"] == ["after"]
    rows = platform.sessions(sessionId=session)
    assert [row["endedAt"] is None for row in rows] == [True, False]
    assert rows[1]["endReason"] in ("the platform was stopped", LOST)
    assert platform.session_directories() == [rows[0]["sandboxId"]]


def test_after_the_death_of_everything_sessions_are_found_and_go_on(
    platform: FaultyPlatform,
) -> None:
    agent = platform.deploy(agents.plain(), tags={"kept": "yes"})
    sessions = [new_session() for _ in range(4)]
    together(
        *[lambda s=s: agent.invoke({"do": "burn", "seconds": 0.2}, s) for s in sessions],
        *[lambda s=s: agent.invoke({"do": "tell", "text": s}, s) for s in sessions],
    )
    until(lambda: all(platform.session(s)["invocations"] == 2 for s in sessions))
    until(lambda: all((platform.session(s)["cpuSeconds"] or 0) > 0.2 for s in sessions))
    before = {s: platform.session(s) for s in sessions}
    platform.kill(*EVERYTHING)
    _end_sandbox_of(platform, before[sessions[0]]["sandboxId"])
    began = time.monotonic()
    platform.restart()
    assert time.monotonic() - began < 90
    again = Agent(platform, agent.id, agent.arn)
    tags = again.control.list_tags_for_resource(resourceArn=agent.arn)["tags"]
    assert tags == {"kept": "yes"}
    lost, *kept = sessions
    for session in kept:
        told = again.invoke({"do": "tell", "text": "after"}, session)["told"]
        assert told == [session, "after"], "the session is another one"
    for session in kept:
        until(lambda s=session: platform.session(s)["invocations"] == 3)
        _never_less(before[session], platform.session(session))
    row = platform.session(lost)
    assert row["sandboxId"] == before[lost]["sandboxId"]
    assert row["endReason"] == LOST
    _never_less(before[lost], row)
    assert again.invoke({"do": "tell", "text": "new"}, lost)["told"] == ["new"]
    live = platform.sessions(status="live")
    assert sorted(r["sandboxId"] for r in live) == platform.session_directories()
    assert platform.stop() == 0
    assert platform.remains() == []


def _never_less(before: dict[str, object], after: dict[str, object]) -> None:
    for total in ("invocations", "cpuSeconds", "memoryGbSeconds"):
        assert after[total] >= before[total], total  # type: ignore[operator]


def _end_sandbox_of(platform: FaultyPlatform, sandbox_id: str) -> None:
    """As if the machine had killed it while nobody looked."""
    record = platform.state / "sandboxes" / "container" / "records" / f"{sandbox_id}.json"
    text = record.read_text()
    pid = int(text.split('"init":{"pid":')[1].split(",")[0])
    os.kill(pid, signal.SIGKILL)


def test_a_build_that_was_cut_off_is_finished_by_the_next_node(
    faulty: FaultyPlatform,
) -> None:
    many = {f"package/module_{n}.py": "def f(a, b):\n    return a + b\n" * 40 for n in range(2500)}
    agent = faulty.create({**agents.plain(), **many})  # whose compilation takes seconds
    records = faulty.state / "sandboxes" / "container" / "records"
    until(lambda: list(records.glob("*.json")), every=0.01)
    (node,) = faulty.pids("node")
    faulty.kill("node")
    assert agent.control.get_agent_runtime(agentRuntimeId=agent.id)["status"] == "CREATING"
    faulty.replaced("node", node)
    assert agent.settle() == ("READY", "")
    assert agent.invoke()["boot"]


def test_a_start_that_was_killed_is_no_obstacle_for_the_next(open_directory: Path) -> None:
    """Wherever it was: the first ones are killed while they make the database."""
    platform = FaultyPlatform(open_directory / "fault-cut-off")
    for moment in (0.3, 0.6, 0.9, 1.2, 1.5, 1.8):
        platform.launch()
        time.sleep(moment)  # the moment of the blow is what varies here
        platform.kill("up")
    platform.restart()
    assert platform.own("/health")["status"] == "ok"
    assert platform.stop() == 0
    assert platform.remains() == []
