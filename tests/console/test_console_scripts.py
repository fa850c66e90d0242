"""What the console's own script does, in a real browser: live tails, long traces, trying, keys."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from console_answers import AGENT, SPANS, TRACE, fill, long_trace, raw, span_id, trace_line
from console_doubles import PASSWORD
from playwright.async_api import Browser, Page, expect
from served_console import ServedConsole

pytestmark = pytest.mark.slow
ONE = f"/console/traces/{TRACE}"


@pytest.fixture
async def page(browser: Browser, console: ServedConsole) -> AsyncIterator[Page]:
    """Of a person who is signed in. The browser must find nothing wrong."""
    fill(console.platform)
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    made = await context.new_page()
    complaints: list[str] = []
    made.on("console", lambda message: complaints.append(message.text))
    made.on("pageerror", lambda error: complaints.append(str(error)))
    await made.goto(console.url + "/console/sign-in")
    await made.get_by_label("Name").fill("ada")
    await made.get_by_label("Password").fill(PASSWORD)
    await made.keyboard.press("Enter")
    await expect(made.get_by_role("heading", level=1)).to_have_text("Overview")
    yield made
    await context.close()
    # What is refused is told there, too: that is not the script's doing.
    assert [said for said in complaints if "Failed to load resource" not in said] == []


# -- live


class News:
    """Lines that go on until the browser leaves."""

    def __init__(self) -> None:
        self.coming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.left = asyncio.Event()

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        try:
            while True:
                yield await self.coming.get()
        finally:
            self.left.set()


async def test_new_traces_come_on_top_while_somebody_looks(
    console: ServedConsole, page: Page
) -> None:
    news = News()
    console.platform.answers["GET /freehold/v1/traces/live"] = lambda *_: news.lines()
    await page.goto(console.url + "/console/traces")
    rows = page.locator("#traces tbody tr")
    before = await rows.count()
    await page.get_by_role("button", name="Live").click()
    await page.wait_for_url("**/console/traces?live=1")
    news.coming.put_nowait(
        {"trace": trace_line(77, name="invoke_agent <b>new</b>", complete=False)}
    )
    await expect(rows).to_have_count(before + 1)
    await expect(rows.first).to_contain_text("invoke_agent <b>new</b>")
    await expect(rows.first).to_contain_text("under way")
    news.coming.put_nowait({"trace": trace_line(77, name="done")})
    await expect(rows.first.get_by_role("rowheader")).to_have_text("done")
    await expect(rows).to_have_count(before + 1)
    await page.get_by_role("button", name="Live").click()
    news.coming.put_nowait({})
    async with asyncio.timeout(20):
        await news.left.wait()


async def test_a_live_list_that_is_refused_says_why(console: ServedConsole, page: Page) -> None:
    console.authorizer.denied.add("console:FollowTraces")
    fetched = page.expect_response("**/console/traces/live*")
    async with fetched as answer:
        await page.goto(console.url + "/console/traces?live=1")
    assert (await answer.value).status == 403
    await expect(page.locator(".live-switch")).to_have_attribute("aria-pressed", "false")
    await expect(page.locator(".live-switch")).to_have_text("Your roles do not allow this.")


# -- a trace


async def test_a_click_on_a_span_shows_it_and_the_address_says_which(
    console: ServedConsole, page: Page
) -> None:
    await page.goto(console.url + ONE)
    await page.get_by_role("treeitem", name="policy decision").click()
    await expect(page.locator("#span h2")).to_contain_text("policy decision")
    await expect(page.locator("#span")).to_contain_text("fares_below_200")
    await page.wait_for_url(f"**{ONE}?span={span_id(8)}")
    await page.reload()
    await expect(page.locator("#span h2")).to_contain_text("policy decision")


async def test_a_tree_is_walked_and_folded_by_keys(console: ServedConsole, page: Page) -> None:
    await page.goto(console.url + ONE)
    tree = page.get_by_role("tree")
    await expect(tree.get_by_role("treeitem")).to_have_count(len(SPANS))
    await tree.focus()
    for _ in range(5):
        await page.keyboard.press("ArrowDown")
    await expect(page.locator("#span h2")).to_contain_text("execute_tool fares___search")
    await page.keyboard.press("ArrowLeft")
    await expect(tree.get_by_role("treeitem")).to_have_count(len(SPANS) - 4)
    await page.keyboard.press("j")
    await expect(page.locator("#span h2")).to_contain_text("chat claude-sonnet-4-5")
    await page.keyboard.press("k")
    await page.keyboard.press("ArrowRight")
    await expect(tree.get_by_role("treeitem")).to_have_count(len(SPANS))
    await page.keyboard.press("End")
    await expect(page.locator("#span h2")).to_contain_text("book_room")


async def test_a_trace_of_five_thousand_spans_stays_small_and_is_whole(
    console: ServedConsole, page: Page
) -> None:
    spans = long_trace(5000)
    fill(console.platform, spans)
    console.platform.answers[f"GET /freehold/v1/traces/{TRACE}/spans/{span_id(5000)}"] = raw(
        spans[-1]
    )
    await page.goto(console.url + ONE)
    tree = page.get_by_role("tree")
    await expect(page.locator("[data-tree-pages]")).to_have_count(0)
    height = await tree.evaluate("tree => tree.scrollHeight")
    assert height == 5000 * 30
    await tree.focus()
    await page.keyboard.press("End")
    await expect(page.get_by_role("treeitem", name="step 5000")).to_be_visible()
    await expect(page.locator("#span h2")).to_contain_text("step 5000")
    assert await page.get_by_role("treeitem").count() < 200, "what is not in sight is not there"
    longest = await tree.evaluate(
        """async tree => {
          let longest = 0, before = performance.now();
          for (let i = 0; i < 60; i += 1) {
            tree.scrollTop = i * 2300;
            await new Promise(requestAnimationFrame);
            const now = performance.now();
            longest = Math.max(longest, now - before);
            before = now;
            const box = tree.getBoundingClientRect();
            const at = document.elementFromPoint(box.left + 60, box.top + box.height / 2);
            if (!at.closest(".span-row") && i > 0) throw new Error(`nothing is drawn at ${i}`);
          }
          return longest;
        }"""
    )
    assert longest < 2000, "a frame; generous: other tests run beside it"
    await page.keyboard.press("Home")
    await page.locator("[data-depth='0'] .twist").click()
    await expect(page.get_by_role("treeitem")).to_have_count(1)


# -- trying an agent


async def test_an_agent_s_answer_is_shown_as_it_comes(console: ServedConsole, page: Page) -> None:
    arn = console.platform.answers[f"GET /runtimes/{AGENT}/"]["agentRuntimeArn"]
    path = f"/runtimes/{arn.replace(':', '%3A').replace('/', '%2F')}/invocations"
    console.platform.answers[f"POST {path}"] = [b"Hello ", b"<b>ada</b>"]
    await page.goto(f"{console.url}/console/agents/{AGENT}?tab=try")
    await page.get_by_label("Payload, JSON").fill('{"prompt": "hi"}')
    await page.get_by_role("button", name="Call the agent").click()
    await expect(page.locator("#answer pre")).to_have_text("Hello <b>ada</b>")
    await page.get_by_label("Payload, JSON").fill("{no json")
    await page.get_by_role("button", name="Call the agent").click()
    await expect(page.locator("#answer [role=alert]")).to_contain_text("The payload is no JSON")


# -- keys and copying


async def test_lists_are_walked_by_keys_and_the_slash_leads_to_the_filters(
    console: ServedConsole, page: Page
) -> None:
    await page.goto(console.url + "/console/traces")
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    focused = page.locator("#traces tbody tr").nth(1).get_by_role("link").first
    await expect(focused).to_be_focused()
    await page.keyboard.press("k")
    await page.keyboard.press("/")
    await expect(page.get_by_label("Text")).to_be_focused()
    await page.keyboard.type("fares j")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**text=fares+j*")
    await expect(page.get_by_label("Text")).to_have_value("fares j")


async def test_a_replay_goes_on_by_the_arrow_keys(console: ServedConsole, page: Page) -> None:
    await page.goto(f"{console.url}/console/sessions/trip-to-lisbon-000000000000000000001")
    await expect(page.get_by_text("Step 1 of 10")).to_be_visible()
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_text("Step 2 of 10")).to_be_visible()
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("heading", name="search_memory trips")).to_be_visible()
    await page.keyboard.press("ArrowLeft")
    await expect(page.get_by_text("Step 2 of 10")).to_be_visible()


async def test_without_scripts_all_but_the_live_tail_is_there(
    console: ServedConsole, browser: Browser
) -> None:
    fill(console.platform, long_trace(450))
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(console.url + "/console/sign-in")
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console")
    await page.goto(console.url + ONE)
    await page.get_by_role("link", name="Later spans").click()
    await expect(page.get_by_text("201 to 400 of 450")).to_be_visible()
    await page.get_by_role("treeitem", name="step 303").click()
    await expect(page.locator("#span h2")).to_contain_text("step 303")
    await page.goto(console.url + "/console/traces")
    await expect(page.get_by_role("button", name="Live")).to_have_count(0)
    await context.close()
