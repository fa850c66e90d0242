"""Agents that take tokens alone, behind gateways: the token decides, as it does from outside."""

import uuid
from collections.abc import Iterator

import pytest
from gateway_inner_ground import deployed, url_of

from gateway_ground import MakeGateway, bearer, oauth
from oidc_ground import OidcProvider, needed
from running import RunningPlatform
from token_issuer import TokenIssuer

RESOURCE = "https://tools.example.test"


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    with TokenIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def oidc() -> Iterator[OidcProvider]:
    needed()
    with OidcProvider() as provider:
        yield provider


def test_the_callers_token_opens_the_agent_where_it_is_passed_through(
    make_gateway: MakeGateway, platform: RunningPlatform, issuer: TokenIssuer
) -> None:
    rules = {"discoveryUrl": issuer.discovery_url, "allowedAudience": ["https://api.example.test"]}
    guarded = deployed(platform, "AGUI", customJWTAuthorizer=rules)
    loose = {"customJWTAuthorizer": {"discoveryUrl": issuer.discovery_url}}
    gateway = make_gateway(authorizerType="AUTHENTICATE_ONLY", authorizerConfiguration=loose)
    passing = {"credentialProviderType": "JWT_PASSTHROUGH"}
    gateway.add("agent", {"http": {"agentcoreRuntime": {"arn": guarded.arn}}}, passing)
    url = f"{gateway.base}/agent/invocations"
    assert gateway.post(b"{}", bearer(issuer.token()), url=url).status == 200
    other = issuer.token(aud="https://elsewhere.example.test")
    assert gateway.post(b"{}", bearer(other), url=url).status == 401
    guarded.delete()


def test_a_token_of_the_gateways_own_opens_the_agent(
    make_gateway: MakeGateway, platform: RunningPlatform, oidc: OidcProvider
) -> None:
    rules = {"discoveryUrl": oidc.discovery_url, "allowedAudience": [RESOURCE]}
    guarded = deployed(platform, customJWTAuthorizer=rules)
    made = platform.client("bedrock-agentcore-control").create_oauth2_credential_provider(
        name=f"tools-{uuid.uuid4().hex[:8]}",
        credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput={
            "customOauth2ProviderConfig": {
                "oauthDiscovery": {"discoveryUrl": oidc.discovery_url},
                "clientId": "machine",
                "clientSecret": oidc.secret("machine"),
            }
        },
    )
    credential = oauth(made["credentialProviderArn"], customParameters={"resource": RESOURCE})
    gateway = make_gateway()
    gateway.add_mcp_server("agent", url_of(guarded), credential)
    answer = gateway.call("agent___where")
    assert not answer.result.get("isError"), answer.text
    role = {"credentialProviderType": "GATEWAY_IAM_ROLE"}
    closed = gateway.begin_target(
        "unsigned", {"mcp": {"mcpServer": {"endpoint": url_of(guarded)}}}, role
    ).settle()
    assert closed["status"] == "FAILED", "an agent with a JWT authorizer takes tokens alone"
    guarded.delete()
