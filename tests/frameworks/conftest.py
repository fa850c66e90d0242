"""A platform for the examples, with every wire of models, and layers that outlive the run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from framework_ground import SCRIPT, model_environment
from memory_framework_ground import MEMORY_RULES, MemoryAgents

from freehold.testing.scripted_model import Script
from running import RunningPlatform, layer_cache
from served_model import ServedModel


@pytest.fixture(scope="session")
def dice_model() -> Iterator[ServedModel]:
    with ServedModel(Script(rules=(*SCRIPT.rules, *MEMORY_RULES))) as served:
        yield served


@pytest.fixture(scope="session")
def frameworks(open_directory: Path, dice_model: ServedModel) -> Iterator[RunningPlatform]:
    state = open_directory / "frameworks"
    state.mkdir()
    (state / "builds").symlink_to(layer_cache())
    running = RunningPlatform(
        state, environment=model_environment(dice_model.model), allow_process_tier="true"
    )
    with running:
        yield running


@pytest.fixture(scope="session")
def memory_agents(frameworks: RunningPlatform) -> MemoryAgents:
    return MemoryAgents(frameworks)
