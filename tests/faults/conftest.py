"""Platforms that tests of faults may kill. Builds are not what is tested: plain agents."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_ground import FaultyPlatform, MakePlatform

import agents
from running import Agent


@pytest.fixture(scope="module")
def make_platform(open_directory: Path) -> Iterator[MakePlatform]:
    """Started, with a state directory of its own; stopped at the end if it still runs."""
    made: list[FaultyPlatform] = []

    def make(*arguments: str, name: str = "faulty", **settings: object) -> FaultyPlatform:
        state = open_directory / f"{name}-{len(list(open_directory.iterdir()))}"
        platform = FaultyPlatform(state, *arguments, **{"metering_seconds": 0.5, **settings})
        made.append(platform)
        platform.start()
        return platform

    yield make
    for platform in made:
        if platform.process is not None and platform.process.poll() is None:
            platform.stop()
        assert platform.remains() == []


@pytest.fixture(scope="module")
def faulty(make_platform: MakePlatform) -> FaultyPlatform:
    return make_platform()


@pytest.fixture(scope="module")
def victim(faulty: FaultyPlatform) -> Agent:
    return faulty.deploy(agents.plain(), name="victim")
