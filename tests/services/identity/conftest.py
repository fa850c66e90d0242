"""Workers of identity, each with a database of its own unless told otherwise."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest
from identity_ground import Worker


class NewWorker(Protocol):
    async def __call__(self, dsn: str = "", **more: Any) -> Worker: ...


@pytest.fixture
async def new_worker(database_dsn: str) -> AsyncIterator[NewWorker]:
    async with AsyncExitStack() as stack:

        async def make(dsn: str = "", **more: Any) -> Worker:
            return await Worker(dsn or database_dsn, stack, **more).start()

        yield make


@pytest.fixture
async def worker(new_worker: NewWorker) -> Worker:
    return await new_worker()
