"""Platforms that tests of faults may kill. Builds are not what is tested: plain agents."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import agents
from fault_ground import FaultyPlatform, MakePlatform
from running import Agent


@pytest.fixture(scope="session")
def make_platform(open_directory: Path) -> Iterator[MakePlatform]:
    """Started, with a state directory of its own; stopped at the end if it still runs."""
    made: list[FaultyPlatform] = []

    def make(name: str, *arguments: str, **settings: object) -> FaultyPlatform:
        platform = FaultyPlatform(
            open_directory / f"fault-{name}", *arguments, **{"metering_seconds": 0.5, **settings}
        )
        made.append(platform)
        platform.start()
        return platform

    yield make
    for platform in made:
        if platform.process is not None and platform.process.poll() is None:
            assert platform.stop() == 0
        assert platform.remains() == []


@pytest.fixture(scope="session")
def faulty(make_platform: MakePlatform) -> FaultyPlatform:
    """Tests leave it as they found it, in all that matters."""
    return make_platform("any")


@pytest.fixture(scope="session")
def victim(faulty: FaultyPlatform) -> Agent:
    return faulty.deploy(agents.plain(), name="victim")


@pytest.fixture
def quiet(faulty: FaultyPlatform, victim: Agent) -> FaultyPlatform:
    """`faulty` without the sessions of earlier tests."""
    for row in faulty.sessions(status="live", limit=100):
        Agent(faulty, row["runtimeId"], row["runtimeId"]).stop(row["sessionId"])
    assert faulty.session_directories() == []
    return faulty


@pytest.fixture(scope="session")
def drowsy(make_platform: MakePlatform) -> Agent:
    """Of a platform whose sessions are idle after a second."""
    return make_platform("drowsy", session_idle_seconds=1).deploy(agents.plain())
