"""Gateways of this platform behind one another, and called from inside sessions."""

import json
from typing import Any

from gateway_inner_ground import OTHER, ROLE, url_of

from gateway_ground import Gateway, MakeGateway
from gateway_upstreams import MODERN
from running import Agent, RunningPlatform


def test_a_gateway_is_another_gateways_target(make_gateway: MakeGateway, mcp_agent: Agent) -> None:
    inner = make_gateway(authorizerType="AWS_IAM")
    inner.add_mcp_server("agent", url_of(mcp_agent), ROLE)
    outer = make_gateway()
    outer.add_mcp_server("inner", inner.url, ROLE)
    answer = outer.call("inner___agent___where")
    assert "boot" in answer.text
    unsigned = outer.begin_target("bare", {"mcp": {"mcpServer": {"endpoint": inner.url}}}).settle()
    assert unsigned["status"] == "FAILED", "without a credential it is as closed as from outside"


def test_a_loop_of_gateways_ends(make_gateway: MakeGateway) -> None:
    first, second = make_gateway(), make_gateway()
    first.add_mcp_server("second", second.url, ROLE, dynamic=True)
    second.add_mcp_server("first", first.url, ROLE, dynamic=True)
    answer = first.rpc("tools/list", {}, seconds_max=20)
    assert answer.status == 200
    assert "result" in answer.document


class TestFromInside:
    """Code in a session calls through its doorway, without a secret."""

    def test_as_its_session_where_the_gateway_takes_signatures_or_anybody(
        self, make_gateway: MakeGateway, platform: RunningPlatform, mcp_agent: Agent
    ) -> None:
        way = make_gateway()
        way.add_mcp_server("agent", url_of(mcp_agent), ROLE)
        for authorizer in ("AWS_IAM", "NONE"):
            gateway = make_gateway(authorizerType=authorizer)
            for path in (f"/gateway/{gateway.id}/mcp", f"/mcp/{gateway.id}"):
                answer = self._asked(way, path)
                assert answer["status"] == 200, answer
            asked = {"resource": gateway.arn, "operation": "InvokeGateway"}
            lines = platform.own("/audit", **asked)["lines"]
            (principal,) = {line["principal"] for line in lines}
            assert principal.startswith(f"{mcp_agent.arn}/session/")

    def test_with_a_token_where_the_gateway_takes_tokens(
        self, make_gateway: MakeGateway, mcp_agent: Agent
    ) -> None:
        way = make_gateway()
        way.add_mcp_server("agent", url_of(mcp_agent), ROLE)
        rules = {"discoveryUrl": "https://x.example.test/.well-known/openid-configuration"}
        rules |= {"allowedAudience": ["a"]}  # type: ignore[dict-item]
        closed = make_gateway(
            authorizerType="CUSTOM_JWT", authorizerConfiguration={"customJWTAuthorizer": rules}
        )
        assert self._asked(way, f"/gateway/{closed.id}/mcp")["status"] == 401

    def test_no_gateway_of_another_tenant(
        self, make_gateway: MakeGateway, platform: RunningPlatform, mcp_agent: Agent
    ) -> None:
        way = make_gateway()
        way.add_mcp_server("agent", url_of(mcp_agent), ROLE)
        theirs = make_gateway(platform.as_tenant(OTHER), authorizerType="AWS_IAM")
        assert self._asked(way, f"/gateway/{theirs.id}/mcp")["status"] == 404

    def test_it_finds_the_address_in_its_environment(
        self, make_gateway: MakeGateway, mcp_agent: Agent
    ) -> None:
        way = make_gateway()
        way.add_mcp_server("agent", url_of(mcp_agent), ROLE)
        answer = way.call("agent___where")
        environment = json.loads(answer.text.splitlines()[-1])["environment"]
        assert environment["FREEHOLD_GATEWAY_URL"] == "http://127.0.0.1:7400/gateway"

    def _asked(self, way: Gateway, path: str) -> dict[str, Any]:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "inside", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        arguments = {
            "url": f"http://127.0.0.1:7400{path}",
            "headers": {
                "accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": MODERN,
                "Mcp-Method": "tools/list",
            },
            "body": {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}},
        }
        answer = way.call("agent___post", arguments)
        assert not answer.result.get("isError"), answer.text
        found: dict[str, Any] = json.loads(answer.text.splitlines()[-1])
        return found
