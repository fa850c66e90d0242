"""An agent of a real platform, tried and watched in the console, as a person does it."""

import asyncio
import json
import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect
from playwright.async_api import TimeoutError as BrowserTimeout

from freehold.testing.scripted_model import MODEL_NAME
from running import Agent, RunningPlatform, new_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ASKED = "what is in the account?"
AGENT = """
import json, os, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"status": "Healthy"})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        print("asked for", asked["prompt"], flush=True)
        chat = {"model": os.environ["MODEL"], "messages": [
            {"role": "user", "content": asked["prompt"]}]}
        request = urllib.request.Request(
            os.environ["OPENAI_BASE_URL"] + "/chat/completions", json.dumps(chat).encode(),
            {"content-type": "application/json"})
        said = json.load(urllib.request.urlopen(request))
        self.answer({"said": said["choices"][0]["message"]["content"]})

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
"""


@pytest.fixture(scope="module")
def agent(platform: RunningPlatform) -> Iterator[Agent]:
    agent = platform.deploy(
        {"main.py": AGENT},
        name="watched",
        tags={"freehold:content-capture": "on"},
        environmentVariables={"MODEL": MODEL_NAME},
    )
    yield agent
    agent.delete()


@pytest.fixture
def page(admin_page: Page) -> Page:
    return admin_page


async def test_an_agent_is_tried_and_its_trace_says_what_it_did(
    platform: RunningPlatform, agent: Agent, page: Page
) -> None:
    await page.get_by_role("link", name="Agents", exact=True).first.click()
    await page.get_by_role("link", name="watched", exact=True).click()
    await page.get_by_role("link", name="Try it").first.click()
    await page.get_by_label("Payload, JSON").fill(json.dumps({"prompt": ASKED}))
    await page.get_by_role("button", name="Call the agent").click()
    await expect(page.locator("#answer pre")).to_contain_text('"said"', timeout=60_000)
    await page.get_by_role("link", name="Its trace").click()
    chat = page.get_by_role("treeitem", name=re.compile("^chat"))
    async with asyncio.timeout(120):
        # Until its spans are there. A page that says "a moment" goes on to the next by itself.
        await expect(page.get_by_role("heading", level=1)).not_to_have_text("A moment")
        while not await chat.count():
            await page.reload()
    await chat.click()
    await expect(page.locator("#span h2")).to_contain_text("chat")
    await expect(page.locator("#span")).to_contain_text(ASKED)
    await page.get_by_role("link", name="Replay the session").click()
    await expect(page.get_by_text("Turn 1")).to_be_visible()
    await expect(page.get_by_text(re.compile(r"Step 1 of \d"))).to_be_visible()
    await page.goto(f"{platform.endpoint}/console/agents/{agent.id}?tab=logs")
    await expect(page.get_by_label("Log", exact=True)).to_contain_text(f"asked for {ASKED}")
    await page.goto(f"{platform.endpoint}/console?since=1h")
    busiest = page.get_by_role("region", name="Busiest agents")
    await expect(busiest.first.locator("tbody tr").first).to_be_visible()  # of others perhaps


async def test_a_call_is_seen_in_the_live_tail_without_a_click(
    platform: RunningPlatform, agent: Agent, page: Page
) -> None:
    await page.goto(f"{platform.endpoint}/console/traces?agentId={agent.id}")
    async with page.expect_request("**/console/traces/live*"):
        await page.get_by_role("button", name="Live").click()
    session = new_session()
    # Until it is seen: news that come before the tail has begun to listen are not told.
    row = page.locator("#traces tr.new")
    for _ in range(20):
        agent.invoke({"prompt": ASKED}, session)
        try:
            await row.first.wait_for(timeout=3_000)
            break
        except BrowserTimeout:
            continue
    await expect(row.first.get_by_role("link").first).to_be_visible()


async def test_what_a_page_asks_is_asked_by_the_person(
    platform: RunningPlatform, page: Page
) -> None:
    """The pages ask as the person: the audit has each question with the name."""
    await page.goto(platform.endpoint + "/console/traces")
    lines = platform.own("/audit", user="admin", operation="freehold:ListTraces")["lines"]
    assert lines, "the inner request is governed like any other"
    assert lines[0]["detail"]["edge"] == "native"
    address = f"{platform.endpoint}/console/traces/{'0' * 32}.json"
    answer = await page.request.get(address)
    assert answer.status == 404
