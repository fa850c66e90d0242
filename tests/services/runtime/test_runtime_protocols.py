"""Agents that serve MCP, A2A and AG-UI, talked to by the clients of these protocols, unmodified."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client import Client as A2aClient
from a2a.helpers import get_message_text, new_text_message
from a2a.types import Role, SendMessageRequest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from protocol_clients import SESSION_HEADER, httpx2_client, httpx_client, url_of

import agents
from running import Agent, RunningPlatform, events_of, new_session, refusal

pytestmark = pytest.mark.timeout(300)

Serving = Callable[..., Agent]
ERAS = ["legacy", "auto", "2026-07-28"]
MODERN = "2026-07-28"


@pytest.fixture(scope="module")
def serving(platform: RunningPlatform) -> Iterator[Serving]:
    """The agent that serves so, deployed once."""
    deployed: dict[str, Agent] = {}

    def agent(serve: str, *, moved: dict[str, Any] | None = None) -> Agent:
        moved = moved or {}
        key = f"{serve} {moved}"
        if key not in deployed:
            variables = {"SERVE": serve}
            if moved:
                variables |= {"PORT": str(moved["port"]), "SERVED_PATH": unquote(moved["path"])}
            deployed[key] = platform.deploy(
                agents.spoken(),
                environmentVariables=variables,
                protocolConfiguration={"serverProtocol": serve.partition("-")[0].upper(), **moved},
            )
        return deployed[key]

    yield agent
    for each in deployed.values():
        each.delete()


# -- MCP


@contextlib.asynccontextmanager
async def mcp_client(
    agent: Agent, session: str | None = None, mode: Any = "legacy", **more: Any
) -> AsyncIterator[Client]:
    async with (
        httpx2_client(agent, session) as http,
        Client(
            streamable_http_client(url_of(agent), http_client=http), mode=mode, **more
        ) as client,
    ):
        yield client


async def count(client: Client, by: int) -> int:
    result = await client.call_tool("count", {"by": by})
    assert not result.is_error
    assert result.structured_content is not None
    return int(result.structured_content["result"])


@pytest.mark.parametrize("mode", ERAS)
async def test_the_mcp_client_of_each_era_lists_and_calls_tools(
    serving: Serving, mode: str
) -> None:
    async with mcp_client(serving("mcp"), new_session(), mode) as client:
        tools = await client.list_tools()
        assert {tool.name for tool in tools.tools} == {"count", "headers", "steps"}
        assert (await count(client, 2), await count(client, 3)) == (2, 5)


@pytest.mark.parametrize("serve", ["mcp", "mcp-stateful"])
async def test_an_mcp_client_that_knows_nothing_of_us_stays_in_its_session(
    serving: Serving, serve: str
) -> None:
    """The Mcp-Session-Id of `initialize` is all that it sends with its calls."""
    agent = serving(serve)
    async with mcp_client(agent) as one, mcp_client(agent) as other:
        assert (await count(one, 1), await count(other, 10)) == (1, 10)
        assert (await count(one, 1), await count(other, 10)) == (2, 20)


async def test_a_stateful_mcp_server_tells_of_its_progress(serving: Serving) -> None:
    told: list[float] = []

    async def progress(now: float, total: float | None, message: str | None) -> None:
        told.append(now)

    async with mcp_client(serving("mcp-stateful")) as client:
        await client.call_tool("steps", {}, progress_callback=progress)
    assert told == [1, 2]


async def test_an_mcp_server_gets_the_protocols_headers_and_no_signature(serving: Serving) -> None:
    session = new_session()
    async with mcp_client(serving("mcp"), session, MODERN) as client:
        result = await client.call_tool("headers", {})
    assert result.structured_content is not None
    seen = result.structured_content.get("result", result.structured_content)
    assert seen["mcp-protocol-version"] == MODERN
    assert (seen["mcp-method"], seen["mcp-name"]) == ("tools/call", "headers")
    assert seen[SESSION_HEADER.lower()] == session
    assert "authorization" not in seen


async def test_an_error_of_the_mcp_server_reaches_the_client_as_it_is(serving: Serving) -> None:
    async with mcp_client(serving("mcp"), new_session(), MODERN) as client:
        with pytest.raises(MCPError) as refused:
            await client.read_resource("nothing://here")
    assert refused.value.error.code in (-32602, -32002)


def rpc(method: str, params: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}


async def test_http_errors_of_an_mcp_server_pass_with_their_body(serving: Serving) -> None:
    """Here: a session that the server does not know, which a client takes as "begin again"."""
    headers = {"Mcp-Session-Id": new_session(), "Accept": "application/json, text/event-stream"}
    async with httpx_client(serving("mcp-stateful")) as http:
        answer = await http.post(
            url_of(serving("mcp-stateful")), json=rpc("tools/list"), headers=headers
        )
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] < 0


async def test_an_mcp_session_of_our_own_making_is_the_sandboxs(serving: Serving) -> None:
    agent, session = serving("mcp"), new_session()
    async with httpx_client(agent) as http:
        answer = await http.post(
            url_of(agent),
            json=rpc("tools/list"),
            headers={
                "Mcp-Session-Id": session,
                "Accept": "application/json, text/event-stream",
                "Mcp-Protocol-Version": "2025-11-25",
            },
        )
    assert answer.status_code == 200, answer.text
    assert answer.headers["mcp-session-id"] == answer.headers[SESSION_HEADER] == session
    assert agent.platform.session(session)["status"] != "ENDED"


def test_boto3_stays_in_a_servers_mcp_session_by_its_id_alone(serving: Serving) -> None:
    """It makes up a new runtime session for each call that names none."""
    agent = serving("mcp-stateful")

    def ask(method: str, params: Any, **more: Any) -> Any:
        return agent.data.invoke_agent_runtime(
            agentRuntimeArn=agent.arn,
            payload=json.dumps(rpc(method, params)).encode(),
            contentType="application/json",
            accept="application/json, text/event-stream",
            mcpProtocolVersion="2025-11-25",
            **more,
        )

    client = {"name": "boto3", "version": "1"}
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    begun = ask("initialize", hello)
    begun["response"].read()
    for turn in (1, 2):
        calling = {"name": "count", "arguments": {"by": 1}}
        answer = ask("tools/call", calling, mcpSessionId=begun["mcpSessionId"])
        assert answer["runtimeSessionId"] == begun["runtimeSessionId"]
        assert answer["mcpSessionId"] == begun["mcpSessionId"]
        lines = answer["response"].read().splitlines()
        (event,) = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
        assert event["result"]["structuredContent"] == {"result": turn}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_listening_and_ending_by_mcp_are_not_to_be_had(serving: Serving, method: str) -> None:
    async with httpx_client(serving("mcp")) as http:
        answer = await http.request(method, url_of(serving("mcp")))
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# -- A2A


@pytest.fixture
async def a2a_http(serving: Serving) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx_client(serving("a2a"), new_session()) as http:
        yield http


async def said(client: A2aClient, text: str) -> list[str]:
    message = new_text_message(text, role=Role.ROLE_USER)
    events = client.send_message(SendMessageRequest(message=message))
    return [get_message_text(event.message) async for event in events]


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_a2a_client_finds_the_agent_by_its_card_and_talks_to_it(
    serving: Serving, a2a_http: httpx.AsyncClient, streaming: bool
) -> None:
    factory = ClientFactory(ClientConfig(streaming=streaming, httpx_client=a2a_http))
    client = await factory.create_from_url(url_of(serving("a2a")))
    assert await said(client, "good morning") == ["1: good morning"]
    assert await said(client, "and now?") == ["2: and now?"]


async def test_the_a2a_client_talks_version_0_3_as_well(
    serving: Serving, a2a_http: httpx.AsyncClient
) -> None:
    card = await A2ACardResolver(a2a_http, url_of(serving("a2a"))).get_agent_card()
    old = [i for i in card.supported_interfaces if i.protocol_version == "0.3"]
    del card.supported_interfaces[:]
    card.supported_interfaces.extend(old)
    client = ClientFactory(ClientConfig(streaming=False, httpx_client=a2a_http)).create(card)
    assert await said(client, "hello") == ["1: hello"]


async def test_a2a_sessions_are_apart(serving: Serving) -> None:
    agent = serving("a2a")
    for _ in range(2):
        async with httpx_client(agent, new_session()) as http:
            factory = ClientFactory(ClientConfig(streaming=False, httpx_client=http))
            client = await factory.create_from_url(url_of(agent))
            assert await said(client, "first") == ["1: first"]


def test_the_agent_card_names_the_platform_and_what_it_carries(serving: Serving) -> None:
    agent, session = serving("a2a"), new_session()
    got = agent.data.get_agent_card(agentRuntimeArn=agent.arn, runtimeSessionId=session)
    assert (got["runtimeSessionId"], got["statusCode"]) == (session, 200)
    card, url = got["agentCard"], url_of(agent) + "/"
    assert (card["name"], card["url"], card["preferredTransport"]) == ("echo", url, "JSONRPC")
    interfaces = card["supportedInterfaces"]
    assert [i["url"] for i in interfaces] == [url, url]
    assert {(i["protocolBinding"], i["protocolVersion"]) for i in interfaces} == {
        ("JSONRPC", "1.0"),
        ("JSONRPC", "0.3"),
    }


async def test_a_card_asked_of_an_endpoint_leads_to_that_endpoint(
    serving: Serving, a2a_http: httpx.AsyncClient
) -> None:
    agent = serving("a2a")
    got = agent.data.get_agent_card(agentRuntimeArn=agent.arn, qualifier="DEFAULT")
    url = got["agentCard"]["url"]
    assert url == url_of(agent) + "/?qualifier=DEFAULT"
    answer = await a2a_http.post(url, json=rpc("nothing"))
    assert answer.json()["error"]["code"] == -32601


def test_only_agents_of_a2a_have_a_card(serving: Serving) -> None:
    agent = serving("agui")
    refused = refusal(lambda: agent.data.get_agent_card(agentRuntimeArn=agent.arn))
    assert refused.kind == "ValidationException"
    assert "AGUI" in refused.message


# -- AG-UI, and agents elsewhere than by default

ASKED = {"threadId": "t", "runId": "r", "messages": ["hi"]}
RUN = ["RUN_STARTED", "TEXT_MESSAGE_CONTENT", "RUN_FINISHED"]


def test_the_events_of_an_agui_agent_arrive(serving: Serving) -> None:
    answer = serving("agui").begin(ASKED, accept="text/event-stream")
    assert answer["contentType"].startswith("text/event-stream")
    assert [event["type"] for event in events_of(answer)] == RUN


def test_an_agent_may_serve_on_another_port_and_path(serving: Serving) -> None:
    agent = serving("agui", moved={"port": 8123, "path": "/agent/run%20it"})
    configured = agent.control.get_agent_runtime(agentRuntimeId=agent.id)["protocolConfiguration"]
    assert (configured["port"], configured["path"]) == (8123, "/agent/run%20it")
    assert [event["type"] for event in agent.events(ASKED)] == RUN


def test_an_agent_that_listens_elsewhere_than_its_protocol_says(hasty: RunningPlatform) -> None:
    agent = hasty.deploy(agents.plain(), protocolConfiguration={"serverProtocol": "MCP"})
    refused = agent.refusal(json.dumps(rpc("tools/list")).encode())
    assert (refused.status, refused.kind) == (424, "RuntimeClientError")
    assert "port 8000" in refused.message
    assert "serverProtocol is MCP" in refused.message
    agent.delete()
