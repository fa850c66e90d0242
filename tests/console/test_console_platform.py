"""The console on a real platform: the local admin signs in, and a command line after them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from running import RunningPlatform

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    made = await browser.new_context()
    made.set_default_timeout(60_000)
    yield made
    await made.close()


@pytest.fixture
async def page(context: BrowserContext, platform: RunningPlatform) -> Page:
    """Of the local admin, signed in."""
    name, password = (platform.state / "admin-password").read_text().split()
    page = await context.new_page()
    await page.goto(platform.endpoint + "/")
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    return page


async def login(
    platform: RunningPlatform, home: Path, *arguments: str, **environment: str
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "freehold.cli", "login", "--endpoint", platform.endpoint, "--json",
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environment},
    )  # fmt: skip


async def said(process: asyncio.subprocess.Process, start: str) -> str:
    """The rest of the first line of its errors that begins so."""
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while line := (await process.stderr.readline()).decode():
            if line.startswith(start):
                return line.removeprefix(start).strip()
    raise AssertionError(f"it never said {start!r}")


async def test_the_local_admin_is_who_the_page_says(platform: RunningPlatform, page: Page) -> None:
    answer = await page.request.get(platform.endpoint + "/console/home.json")
    you = (await answer.json())["page"]["you"]
    assert you["tenant"] == platform.account
    assert you["roles"] == ["admin"]


async def test_a_command_line_without_a_browser_is_signed_in_by_its_code(
    platform: RunningPlatform, page: Page, tmp_path: Path
) -> None:
    process = await login(platform, tmp_path, "--no-browser")
    try:
        assert await said(process, "Open") == platform.endpoint + "/console/device"
        code = await said(process, "and type")
        await page.goto(platform.endpoint + "/console/device")
        await page.get_by_label("Code").fill(code.lower())
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_text("Only go on if you started")).to_be_visible()
        await page.get_by_role("button", name="Approve").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Signed in")
        out, errors = await asyncio.wait_for(process.communicate(), 40)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    assert json.loads(out)["account"] == platform.account


async def test_a_command_line_with_a_browser_here_gets_its_answer_by_itself(
    platform: RunningPlatform, page: Page, tmp_path: Path
) -> None:
    process = await login(platform, tmp_path, BROWSER="true")
    try:
        url = await said(process, "Opening")
        await page.goto(url)
        await expect(page.get_by_text("the address of this browser")).to_be_visible()
        await page.get_by_role("button", name="Approve").click()
        await page.wait_for_url("http://127.0.0.1:*/signed-in?*")
        out, errors = await asyncio.wait_for(process.communicate(), 40)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    assert json.loads(out)["endpoint"] == platform.endpoint


@pytest.mark.slow
async def test_a_denied_command_line_gets_nothing(
    platform: RunningPlatform, page: Page, tmp_path: Path
) -> None:
    process = await login(platform, tmp_path, "--no-browser")
    try:
        code = await said(process, "and type")
        await page.goto(f"{platform.endpoint}/console/device")
        await page.get_by_label("Code").fill(code)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Deny").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Denied")
        out, errors = await asyncio.wait_for(process.communicate(), 40)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode != 0
    assert "refused" in (out + errors).decode()


async def test_what_the_page_did_stands_in_the_audit(platform: RunningPlatform, page: Page) -> None:
    await page.goto(platform.endpoint + "/console/device?code=BBBB-CCCC")
    await expect(page.get_by_role("alert")).to_be_visible()
    lines = platform.own("/audit", user="admin")["lines"]
    newest = next(line for line in lines if line["operation"] == "console:GetDeviceRequest")
    assert newest["status"] == 404
    assert newest["user"] == "admin"
