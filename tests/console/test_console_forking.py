"""A recorded session of a real agent is forked in the console, as a person does it."""

import json
import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

import agents
import asking_agent
from gateway_ground import Gateway
from gateway_upstreams import Loop, McpUpstream, Tool
from running import Agent, RunningPlatform, new_session, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FORK = re.compile(r"/console/forks/fork-[0-9a-f]{32}$")


@pytest.fixture(scope="module")
def agent(platform: RunningPlatform) -> Iterator[Agent]:
    agent = asking_agent.deploy(platform, "forked_in_console")
    yield agent
    agent.delete()


async def test_a_step_is_forked_with_another_prompt_and_seen_beside_the_record(
    platform: RunningPlatform, agent: Agent, admin_page: Page
) -> None:
    page = admin_page
    trace, (_, second) = asking_agent.recorded(platform, agent, "count the euros")
    await page.goto(f"{platform.endpoint}/console/traces/{trace}?span={second['spanId']}")
    await page.get_by_role("link", name="Fork from here").click()
    await expect(page.get_by_text("1 call answered from the record")).to_be_visible()
    prompt = page.get_by_label("Prompt")
    await expect(prompt).to_have_value(re.compile("^and then: .*count the euros"))
    await expect(page.get_by_label("Instructions")).to_have_value("Be exact.")
    await prompt.fill("count the dollars")
    await page.get_by_role("button", name="Run the fork").click()
    await page.wait_for_url(FORK)
    # A page of one under way loads itself anew.
    await expect(page.get_by_role("heading", level=1)).to_have_text(
        re.compile(r"Fork\s+completed"), timeout=180_000
    )
    answer = page.get_by_role("region", name="Answer, recorded and in the fork")
    await expect(answer.get_by_role("deletion").filter(has_text="euros")).to_be_visible()
    await expect(answer.get_by_role("insertion").filter(has_text="dollars")).to_be_visible()
    steps = page.locator(".fork-rows > li")
    await expect(steps).to_have_count(2)
    await expect(steps.nth(0)).to_contain_text(re.compile(r"recorded\s+same"))
    await expect(steps.nth(1)).to_contain_text(re.compile(r"changed\s+live\s+differs"))
    await expect(steps.nth(1).get_by_role("region")).not_to_have_count(0)
    await page.get_by_role("link", name="Recorded step").click()
    await expect(page.get_by_role("heading", level=2)).to_contain_text("chat")
    await page.go_back()
    await page.get_by_role("link", name=re.compile("^The fork.s session$")).click()
    await page.get_by_role("link", name="The fork", exact=True).click()
    await page.get_by_text("Delete", exact=True).click()
    await page.get_by_role("button", name="Yes, do it").click()
    await expect(page.get_by_text("The fork is deleted")).to_be_visible()


async def test_without_captured_content_the_form_says_which_tag_to_set(
    platform: RunningPlatform, admin_page: Page
) -> None:
    agent = asking_agent.deploy(platform, "not_captured_in_console", captured=False)
    try:
        trace, (_, second) = asking_agent.recorded(platform, agent, "count the euros")
        at = f"{platform.endpoint}/console/traces/{trace}/spans/{second['spanId']}/fork"
        await admin_page.goto(at)
        await expect(admin_page.get_by_text("freehold:content-capture")).to_be_visible()
        await expect(admin_page.get_by_role("button", name="Run the fork")).to_have_count(0)
    finally:
        agent.delete()


@pytest.fixture(scope="module")
def upstream() -> Iterator[McpUpstream]:
    till = Tool("balance", act=lambda arguments, seen: "nine euros")
    with Loop() as loop, McpUpstream(loop, till) as served:
        yield served


async def test_a_tool_is_given_another_answer_and_not_called(
    platform: RunningPlatform, upstream: McpUpstream, admin_page: Page
) -> None:
    page = admin_page
    gateway = Gateway(platform, authorizerType="AWS_IAM")
    gateway.add_mcp_server("till", upstream.endpoint)
    agent = platform.deploy(agents.plain(), tags={"freehold:content-capture": "on"})
    try:
        session = new_session()
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": {"name": "till___balance", "arguments": {}}}  # fmt: skip
        url = f"http://127.0.0.1:7400/gateway/{gateway.id}/mcp"
        headers = {"content-type": "application/json"}
        asked = {"do": "post", "url": url, "headers": headers, "body": body}
        assert "nine euros" in json.dumps(agent.invoke(asked, session))
        find = {"sessionId": session, "operation": "execute_tool"}
        [call] = until(lambda: platform.own("/spans", **find)["spans"], seconds_max=120)
        called = upstream.count("tools/call")
        at = f"{platform.endpoint}/console/traces/{call['traceId']}/spans/{call['spanId']}/fork"
        await page.goto(at)
        answer = page.get_by_label("Answer of the tool")
        await expect(answer).to_have_value("nine euros")
        await answer.fill("two euros")
        await page.get_by_role("button", name="Run the fork").click()
        await page.wait_for_url(FORK)
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            re.compile(r"Fork\s+completed"), timeout=180_000
        )
        step = page.locator(".fork-rows > li").filter(has_text="till___balance")
        await expect(step).to_contain_text(re.compile(r"changed\s+given\s+differs"))
        said = step.get_by_role("region", name="Answered, recorded and in the fork")
        await expect(said.get_by_role("deletion")).to_have_text("nine")
        await expect(said.get_by_role("insertion")).to_have_text("two")
        assert upstream.count("tools/call") == called, "nothing went out"
    finally:
        agent.delete()
        gateway.delete()
