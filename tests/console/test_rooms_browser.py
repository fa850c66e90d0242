"""The rooms of governance in a real browser: they can be read, and fit any screen."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from console_doubles import PASSWORD
from contrasts import CONTRASTS
from playwright.async_api import Browser, Page, expect
from room_answers import GATEWAY, MEMORY, ROOMS, answer_of_tool, fill_rooms
from served_console import ServedConsole

pytestmark = pytest.mark.slow


@pytest.fixture
async def page(browser: Browser, console: ServedConsole) -> AsyncIterator[Page]:
    context = await browser.new_context()
    context.set_default_timeout(60_000)
    page = await context.new_page()
    await sign_in(page, console)
    yield page
    await context.close()


async def sign_in(page: Page, console: ServedConsole) -> None:
    fill_rooms(console.platform)
    await page.goto(console.url + "/console/sign-in?next=/console/keys")
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Keys and people")


async def unfold(page: Page) -> None:
    """All that is folded away, as somebody would who opens it."""
    await page.evaluate(
        "() => document.querySelectorAll('main details').forEach(d => d.open = true)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_of_the_rooms_has_a_contrast_of_at_least_4_5(
    console: ServedConsole, page: Page, scheme: Any
) -> None:
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    for room in ROOMS:
        await page.goto(console.url + room)
        await unfold(page)
        found = await page.evaluate(CONTRASTS)
        assert len(found) > 20, room
        poor = [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5]
        assert poor == [], f"{room}, {scheme}"


@pytest.mark.parametrize("width", [320, 769])
async def test_no_room_is_wider_than_the_screen(
    console: ServedConsole, page: Page, width: int
) -> None:
    await page.set_viewport_size({"width": width, "height": 740})
    for room in ROOMS:
        await page.goto(console.url + room)
        await unfold(page)
        wide = await page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= width, f"{room} at {width} pixels"


async def test_rooms_have_one_heading_names_for_all_controls_and_nothing_to_complain_about(
    console: ServedConsole, page: Page
) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    for room in ROOMS:
        await page.goto(console.url + room)
        assert await page.get_by_role("heading", level=1).count() == 1, room
        nameless = await page.evaluate(
            "() => [...document.querySelectorAll("
            "'input:not([type=hidden]), select, textarea, button, a, summary')]"
            ".filter(e => !(e.labels && e.labels.length) && !e.textContent.trim())"
            ".map(e => e.outerHTML)"
        )
        assert nameless == [], room
        twice = await page.evaluate(
            "() => { const ids = [...document.querySelectorAll('[id]')].map(e => e.id);"
            " return ids.filter((id, i) => ids.indexOf(id) !== i); }"
        )
        assert twice == [], room
    assert complaints == [], "the browser finds nothing wrong, nor against the policy"


async def test_a_tool_is_tried_by_keyboard(console: ServedConsole, page: Page) -> None:
    console.platform.answers[f"POST /gateway/{GATEWAY}/mcp"] = answer_of_tool("refunded 20")
    await page.goto(f"{console.url}/console/gateways/{GATEWAY}/tools")
    await page.get_by_role("link", name="Try orders___refund").focus()
    await page.keyboard.press("Enter")
    await page.get_by_label("amount").focus()
    await page.keyboard.type("20")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("What it said").locator("code")).to_have_text("refunded 20")


async def test_what_cannot_be_undone_is_asked_once_more(console: ServedConsole, page: Page) -> None:
    await page.goto(f"{console.url}/console/memory/{MEMORY}/erasures")
    await page.get_by_label("Actor").fill("anna")
    await page.keyboard.press("Enter")
    really = page.get_by_role("button", name="Yes, erase all of it")
    await expect(really).to_be_hidden()
    await page.get_by_text("Erase anna", exact=True).focus()
    await page.keyboard.press("Enter")
    await really.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Nothing is left of them")).to_be_visible()


async def test_filters_stay_in_the_address(console: ServedConsole, page: Page) -> None:
    await page.goto(console.url + "/console/decisions")
    await page.get_by_label("Outcome").select_option("Denied")
    await page.get_by_role("button", name="Show").click()
    await page.wait_for_url("**/console/decisions?*outcome=denied*")
    await page.reload()
    await expect(page.get_by_label("Outcome")).to_have_value("denied")
    await page.get_by_role("link", name="Clear").click()
    await expect(page.get_by_label("Outcome")).to_have_value("")
