"""What is changed on a gateway or a target counts at every worker within moments."""

import json

import pytest
from botocore.exceptions import ClientError

from gateway_ground import Gateway, api_key, api_key_provider, at_every_worker, openapi
from gateway_upstreams import Loop, McpUpstream, Tool, Upstream
from running import RunningPlatform, refusal, until

ECHO = "there___echo"


def changed(gateway: Gateway, **params: object) -> None:
    seen = gateway.control.get_gateway(gatewayIdentifier=gateway.id)
    kept = ("name", "roleArn", "authorizerType", "protocolType")
    gateway.control.update_gateway(
        gatewayIdentifier=gateway.id, **{name: seen[name] for name in kept} | params
    )


def test_a_door_that_is_closed_is_closed(
    gateway: Gateway, mcp_upstream: McpUpstream, platform: RunningPlatform
) -> None:
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    at_every_worker(lambda: gateway.call(ECHO).status == 200)
    changed(gateway, authorizerType="AWS_IAM")
    at_every_worker(lambda: gateway.call(ECHO).status in (401, 403))
    before = mcp_upstream.count()
    assert gateway.call(ECHO).status in (401, 403)
    assert mcp_upstream.count() == before
    assert gateway.call(ECHO, signed_by=platform).status == 200


def test_a_target_that_is_moved_is_asked_at_its_new_place(gateway: Gateway, served: Loop) -> None:
    with McpUpstream(served, Tool("echo")) as old, McpUpstream(served, Tool("shout")) as new:
        target = gateway.add_mcp_server("there", old.endpoint)
        gateway.control.update_gateway_target(
            gatewayIdentifier=gateway.id, targetId=target.id, name="there",
            targetConfiguration={"mcp": {"mcpServer": {"endpoint": new.endpoint}}},
        )  # fmt: skip
        until(lambda: target.get()["status"] == "READY")
        at_every_worker(lambda: gateway.tools() == ["there___shout"])
        before = old.count()
        assert "isError" not in gateway.call("there___shout").result
        assert gateway.call(ECHO).error["code"] == -32602
        assert old.count() == before


def test_a_target_that_is_renamed(gateway: Gateway, mcp_upstream: McpUpstream) -> None:
    target = gateway.add_mcp_server("there", mcp_upstream.endpoint)
    gateway.control.update_gateway_target(
        gatewayIdentifier=gateway.id, targetId=target.id, name="elsewhere",
        targetConfiguration={"mcp": {"mcpServer": {"endpoint": mcp_upstream.endpoint}}},
    )  # fmt: skip
    until(lambda: target.get()["status"] == "READY")
    at_every_worker(lambda: gateway.tools() == ["elsewhere___echo"])
    assert gateway.call(ECHO).error["code"] == -32602


def test_a_credential_that_is_taken_away_is_not_sent(
    gateway: Gateway, upstream: Upstream, platform: RunningPlatform
) -> None:
    hello = {"/hello": {"get": {"operationId": "hello", "responses": {}}}}
    arn = api_key_provider(platform, "canary-key")
    configuration = openapi(upstream.url, hello)
    target = gateway.add("api", configuration, api_key(arn))
    gateway.control.update_gateway_target(
        gatewayIdentifier=gateway.id, targetId=target.id, name="api",
        targetConfiguration=configuration,
    )  # fmt: skip
    until(lambda: target.get()["status"] == "READY")

    def open() -> bool:
        gateway.call("api___hello")
        return "canary-key" not in json.dumps(upstream.seen[-1].headers)

    at_every_worker(open)


def test_a_gateway_with_targets_is_not_deleted(gateway: Gateway, mcp_upstream: McpUpstream) -> None:
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    refused = refusal(lambda: gateway.control.delete_gateway(gatewayIdentifier=gateway.id))
    assert refused.status in (400, 409)
    assert "target" in refused.message
    assert gateway.tools() == [ECHO]


def test_the_same_request_twice_makes_one_target(
    gateway: Gateway, mcp_upstream: McpUpstream
) -> None:
    server = {"mcp": {"mcpServer": {"endpoint": mcp_upstream.endpoint}}}
    params = {"clientToken": "a-token-of-33-characters-or-more-1", "name": "there"}
    made = {
        gateway.control.create_gateway_target(
            gatewayIdentifier=gateway.id, targetConfiguration=server, **params
        )["targetId"]
        for _ in range(2)
    }
    assert len(made) == 1
    with pytest.raises(ClientError):
        gateway.begin_target("there", server)
    until(lambda: gateway.tools() == [ECHO])


@pytest.mark.slow
def test_what_a_server_says_changed_is_looked_at_soon(
    gateway: Gateway, mcp_upstream: McpUpstream
) -> None:
    """A server that tells of a change during a call need not wait for its schedule; it is asked
    each ten seconds at most."""
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    at_every_worker(lambda: gateway.tools() == [ECHO])
    mcp_upstream.tools["new"] = Tool("new")
    mcp_upstream.tells = ["notifications/tools/list_changed"]
    gateway.call(ECHO)
    until(lambda: gateway.tools() == [ECHO, "there___new"], seconds_max=30, every=0.2)
