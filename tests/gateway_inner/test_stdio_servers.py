"""MCP servers over standard input and output that the operator configured, in sandboxes."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from gateway_inner_ground import ROLE
from mcp import types

from gateway_ground import Answered, Gateway, MakeGateway, client_of
from running import RunningPlatform

NOTES = {"mcp": {"mcpServer": {"endpoint": "stdio:notes"}}}


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    gateway = make_gateway()
    gateway.add("notes", NOTES)
    return gateway


def said(answer: Answered) -> Any:
    assert not answer.result.get("isError"), answer.text
    return json.loads(answer.text.splitlines()[-1])


def test_it_runs_as_the_operator_said(gateway: Gateway) -> None:
    assert {"notes___where", "notes___ask"} <= set(gateway.tools())
    found = said(gateway.call("notes___where"))
    assert found["arguments"] == ["--verbose"]
    assert found["setting"] == "of the operator"
    assert "stdio_server.py" in found["files"]


def test_it_is_a_runtime_of_the_tenant(gateway: Gateway, platform: RunningPlatform) -> None:
    control = platform.client("bedrock-agentcore-control")
    runtimes = control.list_agent_runtimes(maxResults=100)["agentRuntimes"]
    (mine,) = [each for each in runtimes if each["agentRuntimeName"] == "stdio_notes"]
    said(gateway.call("notes___where"))
    sessions = platform.own("/sessions", runtimeId=mine["agentRuntimeId"], status="all")["sessions"]
    assert sessions


def test_two_callers_have_two_sandboxes(
    make_gateway: MakeGateway, platform: RunningPlatform
) -> None:
    gateway = make_gateway(authorizerType="AWS_IAM")
    gateway.add("notes", NOTES)
    ann, bob = platform.as_tenant(platform.account), platform.as_tenant(platform.account)
    said(gateway.call("notes___remember", signed_by=ann))
    assert "remembered" in said(gateway.call("notes___where", signed_by=ann))["home"]
    assert "remembered" not in said(gateway.call("notes___where", signed_by=bob))["home"]


@pytest.mark.slow  # a layer is built
def test_a_server_of_the_sdk_with_what_it_requires(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    target = gateway.begin_target("sdk", {"mcp": {"mcpServer": {"endpoint": "stdio:sdk"}}})
    assert target.settle(seconds_max=90)["status"] == "READY"
    assert gateway.call("sdk___add", {"a": 1, "b": 2}).result["structuredContent"] == {"result": 3}


async def test_progress_and_questions_come_through(gateway: Gateway) -> None:
    progressed: list[float] = []

    async def answers(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"name": "Ada"})

    async def progress(done: float, total: float | None, message: str | None) -> None:
        progressed.append(done)

    async with client_of(gateway, mode="legacy", elicitation_callback=answers) as client:
        counted = await client.call_tool("notes___count", {}, progress_callback=progress)
        asked = await client.call_tool("notes___ask", {})
    assert progressed == [1, 2]
    assert not counted.is_error
    answered = json.loads(asked.content[-1].text)["answered"]  # type: ignore[union-attr]
    assert answered == {"action": "accept", "content": {"name": "Ada"}}


def test_a_server_that_dies_is_told_of_and_begins_anew(gateway: Gateway) -> None:
    died = gateway.call("notes___die")
    failed = died.document.get("error") or died.result
    assert "ended" in json.dumps(failed)
    assert said(gateway.call("notes___where"))["process"]


@pytest.mark.parametrize("endpoint", ["stdio:closed", "stdio:nothing"])
def test_only_those_that_the_operator_gave_this_account(
    make_gateway: MakeGateway, endpoint: str
) -> None:
    with pytest.raises(ClientError, match=f"there is no {endpoint} for this account"):
        make_gateway().begin_target("x", {"mcp": {"mcpServer": {"endpoint": endpoint}}})


def test_it_takes_no_credential(make_gateway: MakeGateway) -> None:
    with pytest.raises(ClientError, match="a stdio server takes none"):
        make_gateway().begin_target("x", NOTES, ROLE)


@pytest.mark.parametrize("endpoint", ["stdio:../etc", "stdio:", "STDIO:notes", "file:///bin/sh"])
def test_nobody_writes_a_command_there(make_gateway: MakeGateway, endpoint: str) -> None:
    with pytest.raises(ClientError, match="regular expression pattern"):
        make_gateway().begin_target("x", {"mcp": {"mcpServer": {"endpoint": endpoint}}})
