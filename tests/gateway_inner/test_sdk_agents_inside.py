"""Agents by their protocols' own SDKs behind a gateway, and the SDKs' clients in front of it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from a2a.client import Client as A2aClient
from a2a.client import ClientConfig, ClientFactory
from a2a.helpers import get_message_text, new_text_message
from a2a.types import Role, SendMessageRequest
from gateway_inner_ground import CALLERS, ROLE, url_of

import agents
from gateway_ground import Gateway, MakeGateway, client_of
from running import Agent, RunningPlatform, new_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"


def serving(platform: RunningPlatform, serve: str) -> Agent:
    return platform.deploy(
        agents.spoken(),
        environmentVariables={"SERVE": serve},
        protocolConfiguration={"serverProtocol": serve.partition("-")[0].upper()},
    )


@pytest.mark.parametrize("serve", ["mcp", "mcp-stateful"])
async def test_every_era_stays_in_the_callers_one_sandbox(
    make_gateway: MakeGateway, platform: RunningPlatform, serve: str
) -> None:
    """The newest era has no session that could say which."""
    agent, gateway = serving(platform, serve), make_gateway()
    gateway.add_mcp_server("agent", url_of(agent), ROLE)
    total = 0
    for mode in ("auto", "legacy"):
        async with client_of(gateway, mode=mode) as client:
            for _ in range(2):
                result = await client.call_tool("agent___count", {"by": 1})
                total += 1
                assert result.structured_content == {"result": total}
    agent.delete()


def test_two_callers_count_apart(make_gateway: MakeGateway, platform: RunningPlatform) -> None:
    agent, gateway = serving(platform, "mcp"), make_gateway(authorizerType="AWS_IAM")
    ann, bob = platform.as_tenant(platform.account), platform.as_tenant(platform.account)
    for name, credential in (("role", ROLE), ("callers", CALLERS)):
        gateway.add_mcp_server(name, url_of(agent), credential)
        counted = [_count(gateway, f"{name}___count", who) for who in (ann, bob, ann, bob)]
        assert counted == [1, 1, 2, 2]
    agent.delete()


def _count(gateway: Gateway, tool: str, who: RunningPlatform) -> int:
    answer = gateway.call(tool, {"by": 1}, signed_by=who)
    return int(answer.result["structuredContent"]["result"])


async def test_the_a2a_client_finds_its_way_by_the_card(
    make_gateway: MakeGateway, platform: RunningPlatform
) -> None:
    agent, gateway = serving(platform, "a2a"), make_gateway()
    gateway.add("agent", {"http": {"agentcoreRuntime": {"arn": agent.arn}}}, ROLE)
    for streaming in (False, True):
        headers = {SESSION: new_session()}
        async with httpx.AsyncClient(headers=headers, timeout=60) as http:
            factory = ClientFactory(ClientConfig(streaming=streaming, httpx_client=http))
            client = await factory.create_from_url(f"{gateway.base}/agent")
            assert [text async for text in _said(client, "good morning")] == ["1: good morning"]
            assert [text async for text in _said(client, "and now?")] == ["2: and now?"]
    agent.delete()


async def _said(client: A2aClient, text: str) -> AsyncIterator[str]:
    message = new_text_message(text, role=Role.ROLE_USER)
    async for answer in client.send_message(SendMessageRequest(message=message)):
        yield get_message_text(answer.message)
