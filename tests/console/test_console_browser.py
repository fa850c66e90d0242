"""The console in a real browser: it works, looks right, can be read, and cannot be misused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from console_answers import AGENT, SESSION, TRACE, fill, span_id
from console_doubles import PASSWORD
from console_fork_answers import FORK, FORKING, INNER, MODEL_STEP, fill_forks
from contrasts import CONTRASTS
from playwright.async_api import Browser, BrowserContext, Page, expect
from served_console import ServedConsole

CONSENT = "/console/consent/c-0123456789abcdef"
PAGES = {
    "sign-in": "/console/sign-in",
    "home": "/console/home",
    "device": "/console/device",
    "device-confirm": "/console/device",  # and the code typed
    "consent": CONSENT,
    "missing": "/console/nothing",
}
ROOMS = {
    "overview": "/console",
    "agents": "/console/agents",
    "agent": f"/console/agents/{AGENT}",
    "agent-sessions": f"/console/agents/{AGENT}?tab=sessions",
    "agent-versions": f"/console/agents/{AGENT}?tab=versions",
    "agent-logs": f"/console/agents/{AGENT}?tab=logs",
    "agent-try": f"/console/agents/{AGENT}?tab=try",
    "traces": "/console/traces?status=error",
    "trace": f"/console/traces/{TRACE}?span={span_id(5)}",
    "why": f"/console/traces/{TRACE}/spans/{span_id(6)}/why",
    "sessions": "/console/sessions",
    "session": f"/console/sessions/{SESSION}?trace={TRACE}&step={span_id(6)}",
    "forks": "/console/forks",
    "fork": f"/console/forks/{FORK}",
    "forking": FORKING,
    "no-forking": FORKING.replace(MODEL_STEP, INNER),
}


ALL = pytest.mark.parametrize(
    "pages",
    [pytest.param(PAGES, id="entrance"), pytest.param(ROOMS, id="rooms", marks=pytest.mark.slow)],
)


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    made = await browser.new_context()
    made.set_default_timeout(60_000)
    yield made
    await made.close()


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    return await context.new_page()


async def sign_in(page: Page, console: ServedConsole, name: str = "ada") -> None:
    await page.goto(console.url + "/console/sign-in")
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/console")


async def open_page(page: Page, console: ServedConsole, name: str) -> None:
    await page.goto(console.url + {**PAGES, **ROOMS}[name])
    if name == "device-confirm":
        await page.get_by_label("Code").fill("bcdf-ghjk")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Approve").wait_for()


@contextlib.asynccontextmanager
async def somebody_else(answer: Callable[[str], tuple[str, str]]) -> AsyncIterator[str]:
    """Another web server: for a path, its header lines and its page."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).decode().split()[1]
        headers, body = answer(path)
        status = "303 See Other" if "Location" in headers else "200 OK"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nConnection: close\r\n{headers}"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        # Another name of this machine: another site for the browser.
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}"


# -- it works


async def test_sign_in_by_keyboard_and_out_by_the_menu(console: ServedConsole, page: Page) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(console.url + "/")
    await expect(page.locator(":focus")).to_have_attribute("name", "name")
    await page.keyboard.type("ada")
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    await page.get_by_text("ada", exact=True).first.click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("status")).to_have_text("You are signed out.")
    assert complaints == [], "the browser finds nothing wrong, nor against the policy"


async def test_a_wrong_password_is_said_where_the_cursor_is(
    console: ServedConsole, page: Page
) -> None:
    await page.goto(console.url + "/console/sign-in")
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("That name or password is not right.")
    await expect(page.get_by_label("Password")).to_be_focused()
    await expect(page.get_by_label("Name")).to_have_value("ada")


async def test_an_approved_device_gets_its_answer_on_this_machine(
    console: ServedConsole, page: Page
) -> None:
    async with somebody_else(lambda path: ("", "the command line has its answer")) as elsewhere:
        console.devices.redirect = f"{elsewhere}/?code=abc&state=def"
        await sign_in(page, console)
        await page.goto(console.url + "/console/device")
        await page.get_by_label("Code").fill("bcdf-ghjk")
        await page.get_by_role("button", name="Continue").click()
        await page.get_by_role("button", name="Approve").click()
        await page.wait_for_url(f"{elsewhere}/?code=abc&state=def")


async def test_an_allowed_agent_leads_through_as_many_hosts_as_the_provider_likes(
    console: ServedConsole, page: Page
) -> None:
    """`form-action` would stop a redirect at the first host that it does not name."""
    console.consents.change(agent="<i>travel</i>")
    async with (
        somebody_else(lambda path: ("", "<h1>The provider asks you</h1>")) as second,
        somebody_else(lambda path: (f"Location: {second}/login\r\n", "")) as first,
    ):
        console.consents.onward = f"{first}/authorize?state=1"
        await page.goto(console.url + CONSENT)
        await page.get_by_label("Name").fill("ada")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "<i>travel</i> asks for access to your account at Google"
        )
        await page.get_by_role("button", name="Allow").click()
        await page.wait_for_url(f"{second}/login")
    assert console.consents.answers == [("allow", "ada")]
    console.consents.change(status="GRANTED")
    await page.goto(console.url + CONSENT)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Access given")


async def test_the_wrong_person_changes_over_and_comes_back(
    console: ServedConsole, page: Page
) -> None:
    await sign_in(page, console, "bob")
    await page.goto(console.url + CONSENT)
    await expect(page.get_by_role("heading", level=1)).to_have_text(
        "This request is for somebody else"
    )
    await page.get_by_role("button", name="Switch person").click()
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Deny").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Access denied")
    assert console.consents.answers == [("deny", "ada")]


# -- it cannot be misused


async def test_a_page_of_another_site_can_neither_send_a_form_nor_frame_one(
    console: ServedConsole, page: Page
) -> None:
    await sign_in(page, console)
    attack = (
        f'<form method="post" action="{console.url}{CONSENT}" target="inside">'
        '<input name="answer" value="allow"><button>Win</button></form>'
        f'<iframe name="inside" src="{console.url}{CONSENT}"></iframe>'
    )
    async with somebody_else(lambda path: ("", attack)) as elsewhere:
        await page.goto(elsewhere)
        framed = await (await page.locator("iframe").element_handle()).content_frame()
        assert framed is not None
        assert "travel_planner" not in await framed.content()
        async with page.expect_response(lambda r: r.request.method == "POST") as sent:
            await page.get_by_role("button", name="Win").click()
        assert (await sent.value).status == 403
    assert console.consents.answers == []


async def test_a_hostile_name_does_not_run(console: ServedConsole, page: Page) -> None:
    ran: list[str] = []
    page.on("dialog", lambda dialog: ran.append(dialog.message))
    hostile = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
    console.consents.change(agent=hostile, provider=hostile, account_host=hostile, vendor=hostile)
    await sign_in(page, console)
    await page.goto(console.url + CONSENT)
    await expect(page.get_by_role("heading", level=1)).to_contain_text("<script>alert(2)")
    assert await page.locator("main img, main script").count() == 0
    assert ran == []


async def test_even_a_script_in_the_page_would_not_run(console: ServedConsole, page: Page) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(console.url + "/console/sign-in")
    await page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.body.append(s); }"
    )
    assert await page.evaluate("() => window.ran === undefined")
    assert any("Content Security Policy" in text for text in complaints)


# -- it can be read


@ALL
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_has_a_contrast_of_at_least_4_5(
    console: ServedConsole, browser: Browser, scheme: Any, pages: dict[str, str]
) -> None:
    fill(console.platform)
    fill_forks(console.platform)
    context = await browser.new_context(color_scheme=scheme)
    page = await context.new_page()
    seen = 0
    if "sign-in" not in pages:
        await sign_in(page, console)
    for name in pages:
        await open_page(page, console, name)
        found = await page.evaluate(CONTRASTS)
        seen += len(found)
        poor = [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5]
        assert poor == [], f"{name}, {scheme}"
        if name == "sign-in":
            await page.get_by_label("Name").fill("ada")
            await page.get_by_label("Password").fill("wrong")
            await page.keyboard.press("Enter")
            await page.get_by_role("alert").wait_for()
            assert all(ratio >= 4.5 for ratio, _ in await page.evaluate(CONTRASTS))
            await sign_in(page, console)
    assert seen > 100
    await context.close()


@ALL
@pytest.mark.parametrize("width", [320, 769])  # the narrowest without and with a menu beside it
async def test_no_page_is_wider_than_the_screen(
    console: ServedConsole, browser: Browser, width: int, pages: dict[str, str]
) -> None:
    fill(console.platform)
    fill_forks(console.platform)
    context = await browser.new_context(viewport={"width": width, "height": 740})
    page = await context.new_page()
    console.consents.change(agent="a" * 48, provider="p" * 128, account_host="h" * 60 + ".example")
    await sign_in(page, console)
    for name in pages:
        await open_page(page, console, name)
        wide = await page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= width, f"{name} at {width} pixels"
        small = await page.evaluate(
            "() => [...document.querySelectorAll('button, input:not([type=hidden]), summary')]"
            ".filter(e => e.getClientRects().length && e.getBoundingClientRect().height < 24)"
            ".map(e => e.outerHTML)"
        )
        assert small == [], f"{name}: large enough for a finger"
    await context.close()


@ALL
async def test_pages_have_landmarks_one_heading_and_names_for_all_controls(
    console: ServedConsole, page: Page, pages: dict[str, str]
) -> None:
    fill(console.platform)
    fill_forks(console.platform)
    await sign_in(page, console)
    for name in pages:
        await open_page(page, console, name)
        assert await page.get_by_role("main").count() == 1, name
        assert await page.get_by_role("banner").count() == 1, name
        assert await page.get_by_role("heading", level=1).count() == 1, name
        assert await page.locator("html[lang=en]").count() == 1, name
        nameless = await page.evaluate(
            "() => [...document.querySelectorAll("
            "'input:not([type=hidden]), select, textarea, button, a')]"
            ".filter(e => !(e.labels && e.labels.length) && !e.textContent.trim())"
            ".map(e => e.outerHTML)"
        )
        assert nameless == [], name
    await page.goto(console.url + "/console/home")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()


async def test_what_has_the_focus_is_seen_to_have_it(console: ServedConsole, page: Page) -> None:
    await sign_in(page, console)
    await page.goto(console.url + CONSENT)
    order = []
    for _ in range(30):
        await page.keyboard.press("Tab")
        said, outline = await page.evaluate(
            "() => { const e = document.activeElement;"
            " return [e.textContent.trim().split('\\n')[0], getComputedStyle(e).outlineStyle]; }"
        )
        order.append(said)
        assert outline == "solid", said
        if said == "Allow and go on":
            break
    assert order[-2:] == ["Deny", "Allow and go on"], "the one that gives nothing comes first"


async def test_the_switch_overrides_what_the_machine_prefers(
    console: ServedConsole, browser: Browser
) -> None:
    context = await browser.new_context(color_scheme="dark")
    page = await context.new_page()
    await page.goto(console.url + "/console/sign-in")
    colour = "() => getComputedStyle(document.body).backgroundColor"
    dark = await page.evaluate(colour)
    await page.get_by_role("button", name="Light").click()
    await expect(page.locator("html[data-theme=light]")).to_be_visible()
    light = await page.evaluate(colour)
    assert light != dark
    await page.emulate_media(color_scheme="light")
    await page.get_by_role("button", name="Auto").click()
    await expect(page.locator("html[data-theme=auto]")).to_be_visible()
    assert await page.evaluate(colour) == light
    await context.close()
