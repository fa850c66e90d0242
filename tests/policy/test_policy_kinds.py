"""Policies on callers and targets of other kinds: agents as themselves, HTTP targets, searches."""

import json
from collections.abc import Iterator

import pytest

import agents
from gateway_ground import Gateway, at_every_worker
from gateway_upstreams import Json, Loop, McpUpstream, Upstream
from policy_bank import Engine, engine_of
from running import Agent, RunningPlatform

DOORWAY = "http://127.0.0.1:7400"


@pytest.fixture
def engine(platform: RunningPlatform) -> Iterator[Engine]:
    engine = engine_of(platform)
    yield engine
    engine.delete()


@pytest.fixture
def guarded(platform: RunningPlatform, engine: Engine) -> Iterator[Gateway]:
    """A gateway for signed callers whose engine has no policy yet."""
    gateway = Gateway(
        platform,
        authorizerType="AWS_IAM",
        protocolConfiguration={"mcp": {"searchType": "SEMANTIC"}},
        policyEngineConfiguration={"arn": engine.arn, "mode": "ENFORCE"},
    )
    yield gateway
    shown = gateway.control.get_gateway(gatewayIdentifier=gateway.id)
    kept = {name: shown[name] for name in ("name", "roleArn", "authorizerType", "protocolType")}
    gateway.control.update_gateway(gatewayIdentifier=gateway.id, **kept)
    gateway.delete()


@pytest.fixture
def agent(platform: RunningPlatform) -> Iterator[Agent]:
    agent = platform.deploy(agents.plain())
    yield agent
    agent.delete()


def asked_by(agent: Agent, gateway: Gateway, tool: str, session: str | None = None) -> Json:
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": tool, "arguments": {"account": "mine"}},
    }  # fmt: skip
    url = f"{DOORWAY}/gateway/{gateway.id}/mcp"
    headers = {"content-type": "application/json"}
    said = agent.invoke({"do": "post", "url": url, "headers": headers, "body": body}, session)
    found: Json = json.loads(said["body"])["result"]
    return found


def test_an_agent_is_a_principal_of_its_own(
    guarded: Gateway, engine: Engine, agent: Agent, vault: McpUpstream
) -> None:
    guarded.add_mcp_server("bank", vault.endpoint)
    assert asked_by(agent, guarded, "bank___balance")["isError"]
    engine.add(
        f"""permit (
            principal is AgentCore::IamEntity,
            action == AgentCore::Action::"bank___balance",
            resource == AgentCore::Gateway::"{guarded.arn}"
        ) when {{
            context has session && context.session has agent &&
            context.session.agent == "{agent.arn}"
        }};"""
    )
    at_every_worker(lambda: not asked_by(agent, guarded, "bank___balance").get("isError"))
    assert asked_by(agent, guarded, "bank___transfer")["isError"]
    platform = guarded.platform
    assert guarded.call("bank___balance", signed_by=platform).result["isError"], "not the agent"
    [newest, *_] = platform.own("/policy-decisions", gatewayId=guarded.id)["decisions"]
    assert newest["principalType"] == "AgentCore::IamEntity"
    assert platform.access_key_id in newest["principal"]


def test_http_targets_are_decided_too(guarded: Gateway, engine: Engine, served: Loop) -> None:
    platform = guarded.platform
    with Upstream(served) as upstream:
        through = {"passthrough": {"endpoint": upstream.url, "protocolType": "CUSTOM"}}
        guarded.add("notes", {"http": through})
        url = f"{guarded.base}/notes/today"
        refused = guarded.post(b"{}", url=url, signed_by=platform)
        assert (refused.status, upstream.seen) == (403, [])
        assert b"permit" in refused.body
        engine.add(
            f"""permit (
                principal is AgentCore::IamEntity,
                action == AgentCore::Action::"notes:invoke",
                resource == AgentCore::Gateway::"{guarded.arn}"
            ) when {{
                context.input.method == "POST" && context.input.path like "/notes/*"
            }};"""
        )
        at_every_worker(lambda: guarded.post(b"{}", url=url, signed_by=platform).status == 200)


def test_what_may_not_be_called_is_not_found_either(
    guarded: Gateway, engine: Engine, vault: McpUpstream
) -> None:
    guarded.add_mcp_server("bank", vault.endpoint)
    engine.add(
        f"""permit (
            principal is AgentCore::IamEntity,
            action == AgentCore::Action::"bank___balance",
            resource == AgentCore::Gateway::"{guarded.arn}"
        ) when {{ principal.id like "*{guarded.platform.access_key_id}" }};"""
    )
    platform = guarded.platform

    def listed() -> list[str]:
        return [name for name in guarded.tools(signed_by=platform) if "___" in name]

    at_every_worker(lambda: listed() == ["bank___balance"])
    found = guarded.call(
        "x_amz_bedrock_agentcore_search", {"query": "move money"}, signed_by=platform
    ).result["structuredContent"]["tools"]
    assert [tool["name"] for tool in found] == ["bank___balance"]


def test_a_policy_that_allows_everything_does_not_come_into_force_unless_one_insists(
    guarded: Gateway, engine: Engine, vault: McpUpstream
) -> None:
    everything = "permit (principal, action, resource is AgentCore::Gateway);"
    early = engine.add(everything.replace(");", ') when { principal.id like "*:key/A*" };'))
    engine.remove(early)
    guarded.add_mcp_server("bank", vault.endpoint)
    shown = engine.settled(engine.begin(everything))
    assert shown["status"] == "CREATE_FAILED"
    assert any("ALLOW_ALL" in reason for reason in shown["statusReasons"])
    engine.add(everything, validationMode="IGNORE_ALL_FINDINGS")
