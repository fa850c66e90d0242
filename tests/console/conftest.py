"""A console of its own for each test; one Chromium for all of them."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from playwright.async_api import Browser
from served_console import Client, ServedConsole, chromium


@pytest.fixture
async def console() -> AsyncIterator[ServedConsole]:
    async with ServedConsole() as served:
        yield served


@pytest.fixture
async def client(console: ServedConsole) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Client(console, http)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started
