"""Models that a doorway may lead to."""

from collections.abc import AsyncIterator

import pytest

from freehold.testing.scripted_model import ScriptedModel


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model
