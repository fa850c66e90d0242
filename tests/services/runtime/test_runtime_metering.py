"""What a session uses: measured while it runs, kept when it ended, and summed into costs."""

import itertools
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import agents
from running import Agent, RunningPlatform, new_session, until

pytestmark = pytest.mark.timeout(300)

FLOOR_GB = 128 * 2**20 / 1e9


@pytest.fixture(scope="module")
def metered(platform: RunningPlatform) -> Iterator[Agent]:
    """An agent whose sessions nobody else starts."""
    agent = platform.deploy(agents.plain(), name="metered")
    yield agent
    agent.delete()


def measured(agent: Agent, session: str) -> dict[str, Any]:
    """What is written down of a session, once something is."""
    return dict(
        until(lambda: (r := agent.platform.session(session))["memoryGbSeconds"] and r)  # type: ignore[arg-type]
    )


def test_cpu_time_is_what_the_agent_itself_counts(metered: Agent) -> None:
    session = new_session()
    own = metered.invoke({"do": "burn", "seconds": 1.5}, session)["cpu_seconds"]
    # Written while it runs.
    running = until(lambda: (r := metered.platform.session(session))["cpuSeconds"] >= own and r)
    assert running["status"] == "READY"
    assert running["metering"] == "measured"
    metered.stop(session)
    total = metered.platform.session(session)["cpuSeconds"]
    # The rest is the sandbox's own start, and the interpreter's.
    assert own <= total < own + 1.0


def test_a_session_that_waits_uses_no_cpu_and_memory_by_the_second(metered: Agent) -> None:
    session = new_session()
    metered.invoke(session=session)
    first = measured(metered, session)

    def later() -> Any:
        seen = metered.platform.session(session)
        return seen["memoryGbSeconds"] >= first["memoryGbSeconds"] + 3 * FLOOR_GB and seen

    last = until(later)
    assert last["cpuSeconds"] - first["cpuSeconds"] < 0.05
    metered.stop(session)


def test_memory_is_at_least_the_floor_for_the_time_it_lived(metered: Agent) -> None:
    session = new_session()
    metered.invoke(session=session)
    measured(metered, session)
    metered.stop(session)
    record = metered.platform.session(session)
    lived = moment(record["endedAt"]) - moment(record["startedAt"])
    floor = lived.total_seconds() * FLOOR_GB
    assert 0.5 * floor < record["memoryGbSeconds"] < 1.5 * floor


def test_memory_above_the_floor_is_counted(metered: Agent) -> None:
    """A session that holds 300 MB is charged for them, second by second."""
    session = new_session()
    metered.invoke({"do": "hold", "megabytes": 300}, session)
    until(lambda: (metered.platform.session(session)["memoryGbSeconds"] or 0) > 0.6)
    metered.stop(session)
    record = metered.platform.session(session)
    lived = moment(record["endedAt"]) - moment(record["startedAt"])
    assert record["memoryGbSeconds"] / lived.total_seconds() > 1.5 * FLOOR_GB


def test_costs_are_by_agent_by_session_and_by_user(metered: Agent) -> None:
    platform = metered.platform
    user, calls = f"user-{uuid.uuid4()}", {}
    for count in (1, 2):
        session = new_session()
        for _ in range(count):
            metered.invoke(session=session, runtimeUserId=user)
        metered.stop(session)
        calls[platform.session(session)["sandboxId"]] = count

    by_user = rows(platform, "user")[user]
    assert (by_user["sessions"], by_user["invocations"]) == (2, 3)
    by_session = rows(platform, "session")
    assert {key: by_session[key]["invocations"] for key in calls} == calls
    assert by_user["cpuSeconds"] == pytest.approx(sum(by_session[k]["cpuSeconds"] for k in calls))
    by_agent = rows(platform, "agent")[metered.id]
    assert by_agent["name"] == "metered"
    assert by_agent["sessions"] >= 2
    assert by_agent["cost"] >= by_user["cost"] > 0


def test_costs_by_day_sum_up_to_what_the_sessions_used(metered: Agent) -> None:
    platform = metered.platform
    for _ in range(2):
        session = new_session()
        metered.invoke({"do": "burn", "seconds": 0.2}, session)
        metered.stop(session)
    days = rows(platform, "day")
    assert set(days) <= {(datetime.now(UTC) - timedelta(days=n)).date().isoformat() for n in (0, 1)}
    agents_ = rows(platform, "agent").values()
    assert sum(day["invocations"] for day in days.values()) == sum(
        row["invocations"] for row in agents_
    )
    assert sum(day["cpuSeconds"] for day in days.values()) == pytest.approx(
        sum(row["cpuSeconds"] or 0 for row in agents_), abs=0.5
    )


def rows(platform: RunningPlatform, by: str) -> dict[str, Any]:
    report = platform.own("/costs", by=by, since="1h")
    assert report["by"] == by
    assert report["currency"] == "USD"
    prices = report["prices"]
    counted = [row for row in report["rows"] if row["sessions"] > row["unmeasured"]]
    for row in counted:
        assert row["cost"] == pytest.approx(
            row["cpuSeconds"] / 3600 * prices["vcpuHour"]
            + row["memoryGbSeconds"] / 3600 * prices["gbHour"],
            abs=1e-8,
        )
    assert report["total"] == pytest.approx(sum(row["cost"] for row in counted), abs=1e-6)
    assert report["unmeasured"] == sum(row["unmeasured"] for row in report["rows"])
    return {row["key"]: row for row in report["rows"]}


def test_what_cannot_be_measured_says_so_and_is_never_zero(
    platform: RunningPlatform, hosted: Any
) -> None:
    """The process tier has no cgroup of its own."""
    agent = platform.deploy(
        agents.hosted(), tags={"freehold:tier": "process"}, environmentVariables={"KIND": "sync"}
    )
    weak, strong = new_session(), new_session()
    agent.invoke({}, weak)
    agent.stop(weak)
    record = platform.session(weak)
    if record["metering"] == "measured":
        pytest.skip("here it has one")
    assert record["cpuSeconds"] is record["memoryGbSeconds"] is record["cost"] is None
    row = rows(platform, "agent")[agent.id]
    assert (row["sessions"], row["unmeasured"], row["cost"]) == (1, 1, None)
    agent.control.untag_resource(resourceArn=agent.arn, tagKeys=["freehold:tier"])
    agent.invoke({}, strong)
    agent.stop(strong)
    row = rows(platform, "agent")[agent.id]
    assert (row["sessions"], row["unmeasured"]) == (2, 1)
    assert row["cost"] > 0
    agent.delete()


def test_costs_are_of_what_was_used_since(metered: Agent) -> None:
    session = new_session()
    metered.invoke(session=session)
    metered.stop(session)
    platform, key = metered.platform, metered.platform.session(session)["sandboxId"]
    used = moment(platform.session(session)["lastUsedAt"])
    for since, there in (
        ((used - timedelta(seconds=1)).isoformat(), True),
        ((used + timedelta(seconds=1)).isoformat(), False),
        ("90m", True),
        ("7d", True),
    ):
        found = [r["key"] for r in platform.own("/costs", by="session", since=since)["rows"]]
        assert (key in found) is there, since


def test_sessions_are_listed_newest_first_in_pages(metered: Agent) -> None:
    platform = metered.platform
    sessions = [new_session() for _ in range(5)]
    for session in sessions:
        metered.invoke(session=session)
    metered.stop(sessions[0])

    def listed(**query: Any) -> list[str]:
        found: list[str] = []
        for number in itertools.count():
            page = platform.own("/sessions", runtimeId=metered.id, limit=2, **query)
            found += [record["sessionId"] for record in page["sessions"]]
            assert len(page["sessions"]) <= 2
            if page["nextToken"] is None:
                assert number >= 1
                return found
            query["nextToken"] = page["nextToken"]
        raise AssertionError

    assert listed() == listed(status="live") == sessions[:0:-1]
    assert listed(status="all")[:5] == sessions[::-1]
    assert listed(status="ended")[0] == sessions[0]
    one = platform.own("/sessions", sessionId=sessions[1])["sessions"]
    assert [record["sessionId"] for record in one] == [sessions[1]]
    for session in sessions[1:]:
        metered.stop(session)


def test_a_session_tells_all_that_is_known_of_it(metered: Agent) -> None:
    session = new_session()
    metered.invoke(session=session, runtimeUserId="ada")
    metered.invoke(session=session)
    platform = metered.platform
    record = until(lambda: (r := platform.session(session))["invocations"] == 2 and r)
    assert record["runtimeId"] == metered.id
    assert (record["runtimeName"], record["endpoint"], record["version"]) == (
        "metered", "DEFAULT", 1,
    )  # fmt: skip
    assert (record["user"], record["tier"], record["status"]) == (
        "ada", platform.facts["tier"], "READY",
    )  # fmt: skip
    assert moment(record["startedAt"]) <= moment(record["lastUsedAt"]) <= datetime.now(UTC)
    assert record["endedAt"] is record["endReason"] is None
    metered.stop(session)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
