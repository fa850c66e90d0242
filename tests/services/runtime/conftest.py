"""Agents on real platforms, deployed once for all that talk to them."""

from collections.abc import Callable

import pytest

import agents
from running import Agent, RunningPlatform

Hosted = Callable[[str], Agent]


@pytest.fixture(scope="session")
def plain(platform: RunningPlatform) -> Agent:
    if platform.facts["tier"] != "container":
        pytest.skip("an agent that is no ASGI application needs the container tier")
    return platform.deploy(agents.plain(), name="plain")


@pytest.fixture(scope="session")
def hosted(platform: RunningPlatform) -> Hosted:
    """The BedrockAgentCoreApp with this entry point."""
    deployed: dict[str, Agent] = {}

    def agent(kind: str) -> Agent:
        if kind not in deployed:
            deployed[kind] = platform.deploy(
                agents.hosted(), name=f"hosted_{kind}", environmentVariables={"KIND": kind}
            )
        return deployed[kind]

    return agent


@pytest.fixture(scope="session")
def second_tenant(platform: RunningPlatform) -> RunningPlatform:
    return platform.as_tenant("200000000002")
