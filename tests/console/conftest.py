"""A console of its own for each test; one Chromium for all of them."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from playwright.async_api import Browser, Page, expect
from served_console import Client, ServedConsole, chromium

from running import RunningPlatform


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


@pytest.fixture
async def admin_page(browser: Browser, platform: RunningPlatform) -> AsyncIterator[Page]:
    """Of a real platform's local admin, signed in. The browser must find nothing wrong."""
    name, password = (platform.state / "admin-password").read_text().split()
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    made = await context.new_page()
    complaints: list[str] = []
    made.on("console", lambda message: complaints.append(message.text))
    made.on("pageerror", lambda error: complaints.append(str(error)))
    await made.goto(platform.endpoint + "/console/sign-in")
    await made.get_by_label("Name").fill(name)
    await made.get_by_label("Password").fill(password)
    await made.keyboard.press("Enter")
    await expect(made.get_by_role("heading", level=1)).to_have_text("Overview")
    yield made
    await context.close()
    assert complaints == []
