"""Who gets in at a gateway: tokens, signatures, nobody's; and what the others are told."""

import json
import re

import pytest
import urllib3

from gateway_ground import (
    AUDIENCE,
    Answered,
    Gateway,
    MakeGateway,
    at_every_worker,
    bearer,
    jwt_rules,
)
from gateway_upstreams import McpUpstream
from oidc_ground import OidcProvider
from running import RunningPlatform

ECHO = "there___echo"


@pytest.fixture
def guarded(make_gateway: MakeGateway, oidc: OidcProvider, mcp_upstream: McpUpstream) -> Gateway:
    """For tokens of the audience with the scope `tools:read`."""
    rules = jwt_rules(oidc, allowedScopes=["tools:read"])
    gateway = make_gateway(authorizerType="CUSTOM_JWT", authorizerConfiguration=rules)
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    return gateway


def challenge(answer: Answered) -> dict[str, str]:
    given = answer.headers["www-authenticate"]
    assert given.startswith("Bearer ")
    return dict(re.findall(r'(\w+)="([^"]*)"', given))


async def test_a_token_that_the_authorizer_takes(guarded: Gateway, oidc: OidcProvider) -> None:
    token = await oidc.machine_token(AUDIENCE)
    assert guarded.tools(bearer(token)) == [ECHO]
    assert "isError" not in guarded.call(ECHO, {"a": 1}, bearer(token)).result


def test_without_a_token_a_client_learns_where_to_get_one(
    guarded: Gateway, oidc: OidcProvider, mcp_upstream: McpUpstream
) -> None:
    before = mcp_upstream.count()
    answer = guarded.call(ECHO)
    assert answer.status == 401
    told = challenge(answer)
    assert "error" not in told
    assert told["scope"] == "tools:read"
    metadata = json.loads(urllib3.request("GET", told["resource_metadata"]).data)
    assert metadata["resource"] == guarded.url
    assert metadata["authorization_servers"] == [oidc.issuer]
    assert metadata["scopes_supported"] == ["tools:read"]
    assert mcp_upstream.count() == before


async def test_a_token_with_too_few_scopes_is_told_which(
    guarded: Gateway, oidc: OidcProvider
) -> None:
    token = await oidc.machine_token(AUDIENCE, scope="tools:write")
    answer = guarded.call(ECHO, {}, bearer(token))
    assert answer.status == 403
    assert challenge(answer)["error"] == "insufficient_scope"
    assert challenge(answer)["scope"] == "tools:read"


async def test_tokens_for_others_and_of_others_are_refused(
    guarded: Gateway, oidc: OidcProvider, platform: RunningPlatform, mcp_upstream: McpUpstream
) -> None:
    good = await oidc.machine_token(AUDIENCE)
    bad = [
        await oidc.machine_token("https://other.example.test"),
        oidc.sign({"sub": "ada", "aud": AUDIENCE, "scope": "tools:read", "exp": 1}),
        oidc.sign({"sub": "a", "aud": AUDIENCE, "scope": "tools:read", "iss": "https://e.test"}),
        good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
        "nonsense",
    ]
    before = mcp_upstream.count()
    for token in bad:
        answer = guarded.call(ECHO, {}, bearer(token))
        assert answer.status == 401, token
        assert challenge(answer)["error"] == "invalid_token"
        assert token not in answer.body.decode()
    in_query = guarded.call(ECHO, {}, url=f"{guarded.url}?access_token={good}")
    assert in_query.status == 401
    assert guarded.call(ECHO, {}, signed_by=platform).status == 401
    assert mcp_upstream.count() == before


async def test_while_the_provider_is_away_nobody_new_gets_in(
    make_gateway: MakeGateway, mcp_upstream: McpUpstream
) -> None:
    with OidcProvider() as other:
        rules = jwt_rules(other)
        gateway = make_gateway(authorizerType="CUSTOM_JWT", authorizerConfiguration=rules)
        token = await other.machine_token(AUDIENCE)
    answer = gateway.rpc("tools/list", {}, bearer(token))
    assert answer.status in (401, 503)
    assert "result" not in answer.document


def test_signatures_of_the_account_alone(
    make_gateway: MakeGateway, mcp_upstream: McpUpstream, platform: RunningPlatform
) -> None:
    gateway = make_gateway(authorizerType="AWS_IAM")
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    assert gateway.tools(signed_by=platform) == [ECHO]
    assert gateway.call(ECHO, signed_by=platform).status == 200
    assert gateway.call(ECHO).status in (401, 403)
    stranger = platform.as_tenant("999900009999")
    for end in ("", "/there/x", "/inference/v1/models"):
        theirs, never = (
            gateway.call(ECHO, url=url.removesuffix("/mcp") + end if end else url,
                         signed_by=stranger)
            for url in (gateway.url, absent(gateway))
        )  # fmt: skip
        assert (theirs.status, never.status) == (404, 404)
        assert told(theirs, gateway) == told(never, gateway), "it tells what exists"


def test_anybody_where_the_gateway_says_so(gateway: Gateway, mcp_upstream: McpUpstream) -> None:
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    assert gateway.tools() == [ECHO]
    assert gateway.tools(url=f"{gateway.platform.endpoint}/mcp/{gateway.id}") == [ECHO]


def test_a_gateway_that_is_gone_is_gone_at_every_worker(
    platform: RunningPlatform, mcp_upstream: McpUpstream
) -> None:
    gateway = Gateway(platform)
    target = gateway.add_mcp_server("there", mcp_upstream.endpoint)
    for _ in range(4):
        gateway.call(ECHO)
    target.delete()
    at_every_worker(lambda: gateway.tools() == [])
    assert gateway.call(ECHO).error["code"] == -32602
    gateway.delete()
    at_every_worker(lambda: gateway.call(ECHO).status == 404)
    assert mcp_upstream.count("tools/call") == 4


def test_header_and_body_must_agree(gateway: Gateway, mcp_upstream: McpUpstream) -> None:
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    before = mcp_upstream.count()
    for header in ({"Mcp-Name": "another"}, {"Mcp-Method": "tools/list"}):
        answer = gateway.call(ECHO, {}, header)
        assert (answer.status, answer.error["code"]) == (400, -32020)
    assert mcp_upstream.count() == before


def told(answer: Answered, gateway: Gateway) -> tuple[list[str], str]:
    """Names of headers, and the body without what says which request it was."""
    body = answer.body.decode()
    assert gateway.platform.account not in body
    return sorted(answer.headers), body.replace(answer.headers["x-amzn-requestid"], "")


def absent(gateway: Gateway) -> str:
    head, _, tail = gateway.id.rpartition("-")
    swapped = tail[::-1] if tail != tail[::-1] else "0" * len(tail)
    return gateway.url.replace(gateway.id, f"{head}-{swapped}")
