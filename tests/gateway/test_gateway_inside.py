"""A gateway from inside a session: by the doorway, without any secret."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

import agents
from gateway_ground import AUDIENCE, Gateway, MakeGateway, at_every_worker, jwt_rules
from gateway_upstreams import McpUpstream, Upstream
from oidc_ground import OidcProvider
from running import Agent, RunningPlatform

DOORWAY = "http://127.0.0.1:7400"
ECHO = "there___echo"


@pytest.fixture(scope="module")
def agent(platform: RunningPlatform) -> Iterator[Agent]:
    agent = platform.deploy(agents.plain())
    yield agent
    agent.delete()


def ask(
    agent: Agent, gateway: Gateway, method: str, params: Any = None, *, path: str = "/mcp",
    session: str | None = None, **headers: str,
) -> tuple[int, Any]:  # fmt: skip
    """What code in the agent's session is answered."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    url = f"{DOORWAY}/gateway/{gateway.id}{path}"
    given = {"content-type": "application/json", **headers}
    said = agent.invoke({"do": "post", "url": url, "headers": given, "body": body}, session)
    return said["status"], json.loads(said["body"])


def called(answer: tuple[int, Any]) -> Any:
    status, document = answer
    assert status == 200, document
    return document["result"]


CALL = {"name": ECHO, "arguments": {"a": 1}}


def test_an_agent_needs_no_secret(
    make_gateway: MakeGateway, mcp_upstream: McpUpstream, agent: Agent
) -> None:
    gateway = make_gateway(authorizerType="AWS_IAM")
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    [tool] = called(ask(agent, gateway, "tools/list"))["tools"]
    assert tool["name"] == ECHO
    before = mcp_upstream.count()
    result = called(ask(agent, gateway, "tools/call", CALL))
    assert result["content"][0]["text"] == '{"a": 1}'
    assert mcp_upstream.count() == before + 1


def test_what_a_session_says_of_itself_is_not_listened_to(
    make_gateway: MakeGateway, mcp_upstream: McpUpstream, agent: Agent
) -> None:
    gateway = make_gateway(authorizerType="AWS_IAM")
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    group = {"principals": [agent.arn], "tools": []}
    gateway.own("/action-groups/none", method="PUT", body=group)
    at_every_worker(
        lambda: (
            called(ask(agent, gateway, "tools/list", authorization="AWS4-HMAC-SHA256 x"))
            == {"tools": []}
        )
    )
    headers = {"x-amzn-bedrock-agentcore-runtime-user-id": "root"}
    assert called(ask(agent, gateway, "tools/call", CALL, **headers))["isError"]
    assert mcp_upstream.count("tools/call") == 0


def test_a_group_of_a_runtimes_arn_is_all_of_its_sessions(
    make_gateway: MakeGateway, mcp_upstream: McpUpstream, agent: Agent, platform: RunningPlatform
) -> None:
    gateway = make_gateway(authorizerType="AWS_IAM", tags={"freehold:tool-access": "deny"})
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    gateway.own(
        "/action-groups/agent", method="PUT", body={"principals": [agent.arn], "tools": [ECHO]}
    )
    at_every_worker(lambda: "isError" not in called(ask(agent, gateway, "tools/call", CALL)))
    assert gateway.call(ECHO, signed_by=platform).result["isError"]


async def test_a_gateway_that_wants_a_token_wants_it_of_agents_too(
    make_gateway: MakeGateway, mcp_upstream: McpUpstream, agent: Agent, oidc: OidcProvider
) -> None:
    gateway = make_gateway(authorizerType="CUSTOM_JWT", authorizerConfiguration=jwt_rules(oidc))
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    assert ask(agent, gateway, "tools/call", CALL)[0] == 401
    token = await oidc.machine_token(AUDIENCE)
    answer = ask(agent, gateway, "tools/call", CALL, authorization=f"Bearer {token}")
    assert called(answer)["content"]
    assert token not in json.dumps([seen.headers for seen in mcp_upstream.seen])


def test_another_accounts_gateway_is_not_there(
    platform: RunningPlatform, mcp_upstream: McpUpstream, agent: Agent
) -> None:
    theirs = Gateway(platform.as_tenant("999900009999"), authorizerType="AWS_IAM")
    theirs.add_mcp_server("there", mcp_upstream.endpoint)
    before = mcp_upstream.count()
    assert ask(agent, theirs, "tools/call", CALL)[0] == 404
    assert mcp_upstream.count() == before
    theirs.delete()


def test_http_targets_are_reached_too(
    make_gateway: MakeGateway, upstream: Upstream, agent: Agent
) -> None:
    gateway = make_gateway(authorizerType="AWS_IAM")
    through = {"endpoint": upstream.url, "protocolType": "CUSTOM"}
    gateway.add("through", {"http": {"passthrough": through}})
    assert ask(agent, gateway, "x", path="/through/some/where") == (200, {"ok": True})
    [seen] = upstream.seen
    assert (seen.path, seen.json["method"]) == ("/some/where", "x")
    assert "authorization" not in seen.headers
