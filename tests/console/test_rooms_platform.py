"""The rooms of governance on a real platform: what a person does there is done."""

import copy
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from gateway_ground import Gateway
from gateway_upstreams import Loop, McpUpstream, Tool
from running import RunningPlatform, refusal, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REFUND = Tool(
    "refund",
    "Give money back.",
    {
        "type": "object",
        "properties": {"amount": {"type": "integer"}, "note": {"type": "string"}},
        "required": ["amount"],
    },
    lambda arguments, seen: f"refunded {arguments['amount']}",
)
LARGE = """@reason("Refunds over 100 need a person.")
forbid (principal, action == AgentCore::Action::"orders___refund", resource == {gateway})
when {{ context.input.amount > 100 }};"""
SMALL = 'permit (principal, action == AgentCore::Action::"orders___refund", resource == {gateway});'


@pytest.fixture(scope="module")
def upstream() -> Iterator[McpUpstream]:
    with Loop() as loop, McpUpstream(loop, copy.deepcopy(REFUND)) as served:
        yield served


@pytest.fixture
def gateway(platform: RunningPlatform, upstream: McpUpstream) -> Iterator[Gateway]:
    made = Gateway(platform, authorizerType="AWS_IAM")
    made.add_mcp_server("orders", upstream.endpoint)
    yield made
    made.delete()


@pytest.fixture
async def page(browser: Browser, platform: RunningPlatform) -> AsyncIterator[Page]:
    context = await browser.new_context(base_url=platform.endpoint)
    context.set_default_timeout(60_000)
    page = await context.new_page()
    name, password = (platform.state / "admin-password").read_text().split()
    await sign_in(page, name, password)
    yield page
    await context.close()


async def sign_in(page: Page, name: str, password: str) -> None:
    await page.goto("/console/sign-in?next=/console/gateways")
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Gateways")


def engine_of(gateway: Gateway) -> str:
    """The id of a policy engine with the two rules, which the gateway asks."""
    control = gateway.control
    made = control.create_policy_engine(name=f"e{secrets.token_hex(4)}")
    id = made["policyEngineId"]
    until(lambda: control.get_policy_engine(policyEngineId=id)["status"] == "ACTIVE")
    resource = f'AgentCore::Gateway::"{gateway.arn}"'
    for name, text in (("small", SMALL), ("large", LARGE)):
        control.create_policy(
            policyEngineId=id, name=name, validationMode="IGNORE_ALL_FINDINGS",
            definition={"cedar": {"statement": text.format(gateway=resource)}},
        )  # fmt: skip
    until(lambda: active(gateway, id) == 2)
    seen = control.get_gateway(gatewayIdentifier=gateway.id)
    kept = {name: seen[name] for name in ("name", "roleArn", "authorizerType", "protocolType")}
    control.update_gateway(
        gatewayIdentifier=gateway.id, **kept,
        policyEngineConfiguration={"arn": made["policyEngineArn"], "mode": "ENFORCE"},
    )  # fmt: skip
    return str(id)


def active(gateway: Gateway, engine: str) -> int:
    found = gateway.control.list_policies(policyEngineId=engine)["policies"]
    return sum(1 for each in found if each["status"] == "ACTIVE")


def answered(gateway: Gateway, amount: int) -> str:
    """By a program's call."""
    done = gateway.call("orders___refund", {"amount": amount}, signed_by=gateway.platform)
    return done.text


async def call(page: Page, gateway: Gateway, amount: int) -> None:
    await page.goto(f"/console/gateways/{gateway.id}/try?tool=orders___refund")
    await page.get_by_label("amount").fill(str(amount))
    await page.get_by_role("button", name="Call it").click()


async def test_a_tool_is_tried_and_a_refusal_leads_to_the_policy_that_refused(
    gateway: Gateway, page: Page
) -> None:
    engine = engine_of(gateway)
    until(lambda: "Refused by policy" in answered(gateway, 500))
    await call(page, gateway, 20)
    await expect(page.get_by_label("What it said").locator("code")).to_have_text("refunded 20")
    await expect(page.get_by_role("link", name="Its trace")).to_be_visible()
    await call(page, gateway, 500)
    await expect(page.get_by_role("alert")).to_contain_text("Refunds over 100 need a person.")
    await page.get_by_role("link", name="The decisions on this tool").click()
    await page.get_by_role("link", name="Why orders___refund was denied").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("orders___refund")
    await expect(page.locator(".k-effect").first).to_have_text("forbid")
    await page.goto(f"/console/policies/{engine}?check=1")
    await expect(page.get_by_text("What a proof finds")).to_be_visible()


async def test_a_changed_tool_is_called_again_once_somebody_approved_it(
    gateway: Gateway, page: Page, upstream: McpUpstream
) -> None:
    tool = upstream.tools["refund"]
    tool.description = f"Give money back. {secrets.token_hex(4)}"
    (target,) = gateway.control.list_gateway_targets(gatewayIdentifier=gateway.id)["items"]
    gateway.synchronize(target["targetId"])
    await call(page, gateway, 20)
    await expect(page.get_by_role("alert")).to_contain_text("quarantine")
    await page.goto(f"/console/gateways/{gateway.id}/changes")
    await expect(page.get_by_text(tool.description).first).to_be_visible()
    await page.get_by_text("Approve", exact=True).click()
    await page.get_by_role("button", name="Yes, put it in force").click()
    await expect(page.get_by_text("Nothing waits for you")).to_be_visible()
    until(lambda: answered(gateway, 3) == "refunded 3")


async def test_a_person_is_erased_and_the_proof_says_so(
    platform: RunningPlatform, page: Page
) -> None:
    control, data = (
        platform.client("bedrock-agentcore-control"),
        platform.client("bedrock-agentcore"),
    )
    memory = control.create_memory(name=f"m{secrets.token_hex(5)}", eventExpiryDuration=30)
    id = memory["memory"]["id"]
    until(lambda: control.get_memory(memoryId=id)["memory"]["status"] == "ACTIVE")
    said = {"conversational": {"role": "USER", "content": {"text": "My lake is deep"}}}
    data.create_event(
        memoryId=id, actorId="org/anna", sessionId="s1", eventTimestamp=time.time(), payload=[said]
    )
    await page.goto(f"/console/memory/{id}/said")
    await page.get_by_role("link", name="org/anna").click()
    await page.get_by_role("link", name="s1", exact=True).click()
    await expect(page.get_by_text("My lake is deep")).to_be_visible()
    await page.get_by_role("link", name="Erasures").click()
    await page.get_by_label("Actor").fill("org/anna")
    await page.get_by_role("button", name="Count what there is").click()
    await page.get_by_text("Erase org/anna", exact=True).click()
    await page.get_by_role("button", name="Yes, erase all of it").click()
    await page.wait_for_url("**/erasures/erasure-*")
    for _ in range(100):
        if not await page.get_by_text("It is under way").count():
            break
        await page.get_by_role("link", name="Look again").click()
    await expect(page.get_by_text("Nothing is left of them")).to_be_visible()
    assert data.list_actors(memoryId=id)["actorSummaries"] == []
    control.delete_memory(memoryId=id)


async def test_a_key_made_here_opens_until_it_is_disabled_here(
    platform: RunningPlatform, page: Page
) -> None:
    await page.goto("/console/keys")
    await page.get_by_label("What it is for").fill("a test of the console")
    await page.get_by_label("auditor").check()
    await page.get_by_role("button", name="Make it").click()
    shown = await page.get_by_label("The key, for a shell").inner_text()
    other = copy.copy(platform)
    other.access_key_id, other.secret_access_key = (
        line.partition("=")[2] for line in shown.strip().splitlines()
    )
    assert other.own("/whoami")["roles"] == ["auditor"]
    await page.get_by_role("link", name="I have copied it").click()
    row = page.get_by_role("row", name=other.access_key_id)
    await row.get_by_text("Disable", exact=True).click()
    await row.get_by_role("button", name="Yes, disable it").click()
    await expect(row.get_by_text("disabled")).to_be_visible()
    control = other.client("bedrock-agentcore-control")
    until(lambda: _refused(control))


def _refused(control: Any) -> bool:
    try:
        return refusal(control.list_gateways).status == 403
    except AssertionError:
        return False


async def test_an_auditor_sees_all_rooms_and_changes_nothing(
    platform: RunningPlatform, browser: Browser
) -> None:
    name = f"auditor-{secrets.token_hex(3)}"
    body = {"name": name, "roles": ["auditor"]}
    password = platform.own("/people", method="POST", body=body)["password"]
    context = await browser.new_context(base_url=platform.endpoint)
    context.set_default_timeout(60_000)
    page = await context.new_page()
    await sign_in(page, name, password)
    for room in ("gateways", "policies", "decisions", "memory", "identities", "identities/vault",
                 "audit", "audit/chain", "costs", "keys", "keys/people"):  # fmt: skip
        answer = await page.goto(f"/console/{room}")
        assert answer is not None and answer.status == 200, room
    await page.goto("/console/keys")
    await page.get_by_label("What it is for").fill("mine")
    await page.get_by_label("admin").check()
    await page.get_by_role("button", name="Make it").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("You may not do this")
    lines = platform.own("/audit", user=name, operation="console:CreateAccessKey")["lines"]
    assert [line["outcome"] for line in lines] == ["denied"]
    await context.close()
