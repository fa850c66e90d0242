"""Agents of this platform behind its gateways, as MCP servers and as HTTP targets."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from gateway_inner_ground import CALLERS, OTHER, ROLE, deployed, policy, url_of

from gateway_ground import Answered, Gateway, MakeGateway, client_of
from running import Agent, RunningPlatform, new_session, until

SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"


def where(gateway: Gateway, **more: Any) -> dict[str, Any]:
    answer = gateway.call("agent___where", **more)
    assert not answer.result.get("isError"), answer.text
    found: dict[str, Any] = json.loads(answer.text.splitlines()[-1])
    return found


async def test_an_mcp_runtime_is_a_target_by_its_url(
    make_gateway: MakeGateway, mcp_agent: Agent
) -> None:
    gateway = make_gateway()
    gateway.add_mcp_server("agent", url_of(mcp_agent), ROLE)
    async with client_of(gateway) as client, client_of(gateway, mode="legacy") as old:
        listed = await client.list_tools()
        first = await client.call_tool("agent___where", {})
        second = await old.call_tool("agent___where", {})
    assert {tool.name for tool in listed.tools} == {"agent___where", "agent___post"}
    boots = {json.loads(each.content[-1].text)["boot"] for each in (first, second)}  # type: ignore[union-attr]
    assert len(boots) == 1, "one caller, one sandbox"


def test_a_server_without_sessions_stays_in_one_sandbox_too(
    make_gateway: MakeGateway, platform: RunningPlatform
) -> None:
    agent = deployed(platform, STATELESS="1")
    gateway = make_gateway()
    gateway.add_mcp_server("agent", url_of(agent), ROLE)
    assert where(gateway)["boot"] == where(gateway)["boot"]
    agent.delete()


def test_two_callers_never_share_a_sandbox(
    make_gateway: MakeGateway, platform: RunningPlatform, mcp_agent: Agent
) -> None:
    gateway = make_gateway(authorizerType="AWS_IAM")
    gateway.add_mcp_server("agent", url_of(mcp_agent), ROLE)
    ann, bob = platform.as_tenant(platform.account), platform.as_tenant(platform.account)
    seen = [where(gateway, signed_by=who) for who in (ann, bob, ann)]
    assert seen[0]["boot"] == seen[2]["boot"] != seen[1]["boot"]
    assert seen[0]["seen"]["Authorization"] is None


def test_a_sandbox_that_ended_gives_way_to_another(
    make_gateway: MakeGateway, mcp_agent: Agent
) -> None:
    gateway = make_gateway()
    gateway.add_mcp_server("agent", url_of(mcp_agent), ROLE)
    before = where(gateway)
    mcp_agent.stop(before["session"])
    after = where(gateway)
    assert (after["session"], after["boot"] != before["boot"]) == (before["session"], True)


def test_a_gateway_calls_as_itself_and_the_audit_says_so(
    make_gateway: MakeGateway, platform: RunningPlatform, mcp_agent: Agent
) -> None:
    gateway = make_gateway()
    gateway.add_mcp_server("agent", url_of(mcp_agent), ROLE)
    where(gateway)

    asked = {"principal": gateway.arn, "operation": "InvokeAgentRuntime"}
    lines = until(lambda: platform.own("/audit", **asked)["lines"])
    assert {line["resource"] for line in lines} == {mcp_agent.arn}


def test_callers_own_credentials_are_the_callers(
    make_gateway: MakeGateway, platform: RunningPlatform, mcp_agent: Agent
) -> None:
    gateway = make_gateway(authorizerType="AWS_IAM")
    gateway.add_mcp_server("agent", url_of(mcp_agent), CALLERS)
    ann = platform.as_tenant(platform.account)
    assert where(gateway, signed_by=ann)["boot"]
    her_arn = f"arn:aws:iam::{ann.account}:access-key/{ann.access_key_id}"
    deny = policy(mcp_agent.arn, "Deny", her_arn)
    mcp_agent.control.put_resource_policy(resourceArn=mcp_agent.arn, policy=deny)
    try:
        refused = until(lambda: _refused(gateway.call("agent___where", signed_by=ann)))
        assert "forbids InvokeAgentRuntime" in refused or "403" in refused
        assert where(gateway, signed_by=platform)["boot"]
    finally:
        mcp_agent.control.delete_resource_policy(resourceArn=mcp_agent.arn)


def test_another_tenants_agent_is_there_only_for_a_gateway_that_its_policy_lets_in(
    make_gateway: MakeGateway, platform: RunningPlatform, mcp_agent: Agent
) -> None:
    gateway = make_gateway(platform.as_tenant(OTHER))
    closed = gateway.begin_target(
        "agent", {"mcp": {"mcpServer": {"endpoint": url_of(mcp_agent)}}}, ROLE
    ).settle()
    assert closed["status"] == "FAILED"
    assert "404" in str(closed["statusReasons"])
    allow = policy(mcp_agent.arn, "Allow", gateway.arn)
    mcp_agent.control.put_resource_policy(resourceArn=mcp_agent.arn, policy=allow)
    try:
        gateway.add_mcp_server("let-in", url_of(mcp_agent), ROLE)
        stranger = make_gateway(platform.as_tenant(OTHER))
        still = stranger.begin_target(
            "agent", {"mcp": {"mcpServer": {"endpoint": url_of(mcp_agent)}}}, ROLE
        ).settle()
        assert still["status"] == "FAILED"
    finally:
        mcp_agent.control.delete_resource_policy(resourceArn=mcp_agent.arn)


@pytest.mark.parametrize(
    "path", ["/freehold/v1/health", "/_s3/bucket", "/runtimes", "/runtimes/x/commands", "/"]
)
def test_nothing_else_of_the_platform_is_a_target(
    make_gateway: MakeGateway, platform: RunningPlatform, path: str
) -> None:
    gateway = make_gateway()
    endpoint = platform.endpoint + path
    with pytest.raises(ClientError, match="only an agent runtime's URL"):
        gateway.begin_target("own", {"mcp": {"mcpServer": {"endpoint": endpoint}}})


def _refused(answer: Answered) -> str:
    return answer.text if answer.result.get("isError") else ""


class TestHttpTargets:
    def test_an_a2a_agent_and_its_card(
        self, make_gateway: MakeGateway, platform: RunningPlatform
    ) -> None:
        agent = deployed(platform, "A2A")
        gateway = make_gateway()
        gateway.add("agent", {"http": {"agentcoreRuntime": {"arn": agent.arn}}}, ROLE)
        card = gateway.pool.request(
            "GET", f"{gateway.base}/agent/.well-known/agent-card.json"
        ).json()
        assert card["url"] == f"{gateway.base}/agent/"
        assert card["supportedInterfaces"][0]["url"] == card["url"]
        body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {}}
        answer = gateway.post(body, {"A2A-Extensions": "https://x.example/e"}, url=card["url"])
        assert answer.result["extensions"] == "https://x.example/e"
        agent.delete()

    def test_an_ag_ui_agent_streams_its_events(
        self, make_gateway: MakeGateway, platform: RunningPlatform
    ) -> None:
        agent = deployed(platform, "AGUI")
        gateway = make_gateway()
        gateway.add("agent", {"http": {"agentcoreRuntime": {"arn": agent.arn}}}, ROLE)
        answer = gateway.post(b"{}", url=f"{gateway.base}/agent/invocations")
        assert answer.headers["content-type"] == "text/event-stream"
        assert [json.loads(line[6:])["type"] for line in answer.body.splitlines() if line] == [
            "RUN_STARTED", "RUN_FINISHED",
        ]  # fmt: skip
        agent.delete()

    def test_a_session_id_opens_no_other_callers_session(
        self, make_gateway: MakeGateway, platform: RunningPlatform, mcp_agent: Agent
    ) -> None:
        gateway = make_gateway(authorizerType="AWS_IAM")
        gateway.add("agent", {"http": {"agentcoreRuntime": {"arn": mcp_agent.arn}}}, ROLE)
        ann, bob = platform.as_tenant(platform.account), platform.as_tenant(platform.account)
        url, session = f"{gateway.base}/agent/invocations", new_session()

        def rpc(method: str, who: RunningPlatform, params: Any = None, **headers: str) -> Answered:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            return gateway.post(body, sent, url=url, signed_by=who)

        begun = rpc("initialize", ann, **{SESSION: session})
        mcp_session = begun.headers["mcp-session-id"]
        assert begun.headers[SESSION] == session
        assert mcp_session.startswith(f"{session}~")
        call = {"name": "where", "arguments": {}}
        hers = rpc("tools/call", ann, call, mcp_session_id=mcp_session)
        assert hers.status == 200, hers.body
        his = rpc("tools/call", bob, call, mcp_session_id=mcp_session)
        assert his.status == 404
