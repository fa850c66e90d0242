"""One platform that learns, for all tests here: starting one takes seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from learning_ground import learning_platform
from learning_model import LearningModel

from fault_ground import FaultyPlatform


@pytest.fixture(scope="session")
def learning_model() -> Iterator[LearningModel]:
    with LearningModel() as model:
        yield model


@pytest.fixture(scope="session")
def learning(open_directory: Path, learning_model: LearningModel) -> Iterator[FaultyPlatform]:
    """Two workers, and a model that tests write. Who kills it leaves it running again."""
    running = learning_platform(open_directory / "learning", learning_model)
    with running:
        yield running
