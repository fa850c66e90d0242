"""A fork of a recorded session at a real gateway: nothing goes out anew before the step."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import agents
from gateway_ground import Gateway, MakeGateway
from gateway_upstreams import McpUpstream
from running import Agent, RunningPlatform, new_session, until
from served_model import ServedModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DOORWAY = "http://127.0.0.1:7400"
ENDED = ("COMPLETED", "FAILED", "DIVERGED", "INTERRUPTED")
CHAT = "/inference/v1/chat/completions"


@pytest.fixture(scope="module")
def agent(platform: RunningPlatform) -> Iterator[Agent]:
    agent = platform.deploy(agents.plain(), tags={"freehold:content-capture": "on"})
    yield agent
    agent.delete()


def posting(gateway: Gateway, path: str, body: Any) -> dict[str, Any]:
    """What has the agent post that."""
    url = f"{DOORWAY}/gateway/{gateway.id}{path}"
    return {"do": "post", "url": url, "headers": {"content-type": "application/json"}, "body": body}


def calling(gateway: Gateway, **arguments: Any) -> dict[str, Any]:
    params = {"name": "there___echo", "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return posting(gateway, "/mcp", body)


def chatting(gateway: Gateway, text: str) -> dict[str, Any]:
    body = {"model": "gpt", "messages": [{"role": "user", "content": text}]}
    return posting(gateway, CHAT, body)


def recorded(agent: Agent, operation: str, *payloads: Any) -> list[dict[str, Any]]:
    """A session of these turns: the spans of the calls that they made, oldest first, once all of it
    can be read."""
    session, found = new_session(), list[dict[str, Any]]()
    for payload in payloads:
        assert agent.invoke(payload, session)["status"] == 200

    def kept() -> bool:
        def spans(kind: str) -> Any:
            asked = {"sessionId": session, "operation": kind}
            return agent.platform.own("/spans", **asked)["spans"]

        found[:] = reversed(spans(operation))
        return len(found) == len(spans("invoke_agent")) == len(payloads)

    until(kept, seconds_max=120)
    return found


def forked(platform: RunningPlatform, span: dict[str, Any], **change: Any) -> dict[str, Any]:
    """A fork at that span, once it has ended."""
    body = {"traceId": span["traceId"], "spanId": span["spanId"], "change": change}
    fork = platform.own("/forks", method="POST", body=body)

    def ended() -> bool:
        nonlocal fork
        fork = platform.own(f"/forks/{fork['forkId']}")
        return fork["status"] in ENDED

    until(ended, seconds_max=120)
    return dict(fork)


def last_answer(platform: RunningPlatform, fork: dict[str, Any]) -> str:
    """What the fork's agent was told last, as it says it."""
    turns = platform.own(f"/forks/{fork['forkId']}/comparison")["turns"]
    return json.dumps(turns[-1]["answer"]["fork"])


@pytest.fixture
def stood(make_gateway: MakeGateway, mcp_upstream: McpUpstream) -> Gateway:
    gateway = make_gateway(authorizerType="AWS_IAM")
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    return gateway


def test_what_was_called_before_the_step_is_not_called_again(
    stood: Gateway, mcp_upstream: McpUpstream, agent: Agent, platform: RunningPlatform
) -> None:
    first, second = recorded(
        agent, "execute_tool", calling(stood, turn="one"), calling(stood, turn="two")
    )
    before = mcp_upstream.count("tools/call")
    fork = forked(platform, second)
    assert (fork["status"], fork["reason"]) == ("COMPLETED", "")
    assert (fork["calls"]["recorded"], fork["calls"]["live"]) == (1, 1)
    [*_, seen] = mcp_upstream.seen
    assert mcp_upstream.count("tools/call") == before + 1
    assert seen.json["params"]["arguments"] == {"turn": "two"}
    given = forked(platform, second, toolAnswer="an answer of mine")
    assert (given["status"], given["calls"]["given"]) == ("COMPLETED", 1)
    assert "an answer of mine" in last_answer(platform, given)
    assert mcp_upstream.count("tools/call") == before + 1
    assert first["spanId"] != second["spanId"]


def test_a_forks_engine_decides_from_the_step_on(
    stood: Gateway, mcp_upstream: McpUpstream, agent: Agent, platform: RunningPlatform
) -> None:
    control = platform.client("bedrock-agentcore-control")
    engine = control.create_policy_engine(name=f"engine_{uuid.uuid4().hex[:8]}")["policyEngineId"]
    until(
        lambda: control.get_policy_engine(policyEngineId=engine)["status"] == "ACTIVE",
        seconds_max=60,
    )
    _, second = recorded(
        agent, "execute_tool", calling(stood, turn="one"), calling(stood, turn="two")
    )
    before = mcp_upstream.count("tools/call")
    fork = forked(platform, second, policyEngineId=engine)
    assert fork["status"] == "COMPLETED"
    assert "no policy permits this call" in last_answer(platform, fork)
    assert mcp_upstream.count("tools/call") == before
    [line] = platform.own("/policy-decisions", engineId=engine)["decisions"]
    assert (line["allowed"], line["gatewayId"], line["mode"]) == (False, stood.id, "ENFORCE")
    tag = f"freehold.decision.id={line['id']}"
    [trace] = platform.own("/traces", tag=tag)["traces"]
    assert trace["sessionId"] == fork["forkId"]


def test_models_behind_a_gateway_are_answered_from_the_record_too(
    make_gateway: MakeGateway, scripted_model: ServedModel, agent: Agent, platform: RunningPlatform
) -> None:
    gateway = make_gateway(authorizerType="AWS_IAM")
    endpoint = scripted_model.model.base_url.removesuffix("/v1")
    gateway.add("own", {"inference": {"provider": {"endpoint": endpoint}}})
    mark = uuid.uuid4().hex
    _, second = recorded(
        agent, "chat", chatting(gateway, f"one {mark}"), chatting(gateway, f"two {mark}")
    )
    fork = forked(platform, second, prompt=f"three {mark}")
    assert (fork["status"], fork["calls"]["recorded"], fork["calls"]["live"]) == ("COMPLETED", 1, 1)
    asked = [json.dumps(each.document) for each in scripted_model.model.requests]
    counts = [sum(f"{word} {mark}" in each for each in asked) for word in ("one", "two", "three")]
    assert counts == [1, 1, 1]
    assert f"three {mark}" in last_answer(platform, fork)
