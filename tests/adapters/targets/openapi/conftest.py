from collections.abc import AsyncIterator

import pytest_asyncio
from openapi_ground import Api, api, checked_web

from freehold.adapters.web.client import CheckedWeb


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Api]:
    async with api() as found:
        yield found


@pytest_asyncio.fixture
async def outside() -> AsyncIterator[CheckedWeb]:
    async with checked_web() as found:
        yield found
