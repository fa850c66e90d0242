"""Targets that are refused at once, with words that say what to do; what needs no asking."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from control_ground import (
    API_KEYS,
    DISCOVERY,
    PUBLIC_URL,
    RUNTIME,
    SERVER_URL,
    ControlGround,
    oauth,
)

from edge_ground import refused

LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:adder"


@pytest.fixture(scope="module")
async def dsn(fresh_dsn: Any) -> str:
    made: str = await fresh_dsn()
    return made


@pytest.fixture
async def ground(dsn: str, tmp_path: Path) -> AsyncIterator[ControlGround]:
    async with ControlGround(dsn, tmp_path).open() as ground:
        yield ground


def server(**members: Any) -> dict[str, Any]:
    return {"mcp": {"mcpServer": {"endpoint": SERVER_URL, **members}}}


def credential(type: str, **provider: Any) -> list[dict[str, Any]]:
    given: dict[str, Any] = {"credentialProviderType": type}
    return [{**given, "credentialProvider": provider} if provider else given]


HEADERS = {"metadataConfiguration": {"allowedRequestHeaders": ["Authorization"]}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {
            "targetConfiguration": {
                "mcp": {
                    "apiGateway": {
                        "restApiId": "a", "stage": "b",
                        "apiGatewayToolConfiguration": {"toolFilters": []},
                    }
                }
            }
        },
        "give it as openApiSchema",
    ),
    (
        {"targetConfiguration": {"mcp": {"connector": {"source": {"connectorId": "fax"}}}}},
        "there is slack, zoom",
    ),
    ({"targetConfiguration": server(endpoint="http://tools.example.com/mcp")}, "asked by https"),
    ({"targetConfiguration": server(endpoint="https://a:b@tools.example.com/")}, "no user"),
    ({"targetConfiguration": server(endpoint="https:///mcp")}, "a URL with a host"),
    ({"targetConfiguration": server(endpoint="https://x.example.com:99999/")}, "not a URL"),
    (HEADERS, "Authorization is not passed on"),
    ({"metadataConfiguration": {"allowedResponseHeaders": ["a b"]}}, "is no header's name"),
    (
        {"credentialProviderConfigurations": credential("JWT_PASSTHROUGH")},
        "takes API_KEY, CALLER_IAM_CREDENTIALS, GATEWAY_IAM_ROLE, OAUTH, not JWT_PASSTHROUGH",
    ),
    (
        {"credentialProviderConfigurations": credential("GATEWAY_IAM_ROLE")},
        "the AWS service to sign for",
    ),
    (
        {"credentialProviderConfigurations": credential("CALLER_IAM_CREDENTIALS")},
        "for targets on this platform",
    ),
    ({"credentialProviderConfigurations": credential("OAUTH")}, "oauthCredentialProvider"),
    ({"credentialProviderConfigurations": oauth("arn:aws:x:us-east-1::nothing")}, "there is no"),
    (
        {
            "targetConfiguration": {"http": {"agentcoreRuntime": {
                "arn": "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/a-aaaaaaaaaa"
            }}},
            "credentialProviderConfigurations": credential("GATEWAY_IAM_ROLE"),
        },
        "there is no agent runtime",
    ),
    (
        {
            "targetConfiguration": {
                "mcp": {"lambda": {"lambdaArn": LAMBDA, "toolSchema": {"inlinePayload": []}}}
            },
            "credentialProviderConfigurations": credential(
                "API_KEY", apiKeyCredentialProvider={"providerArn": "arn:aws:x:::y"}
            ),
        },
        "mcp.lambda takes GATEWAY_IAM_ROLE, not API_KEY",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "words"), REFUSED)
async def test_what_is_not_right_is_refused_with_words(
    ground: ControlGround, tenant: str, parameters: dict[str, Any], words: str
) -> None:
    id = await ground.gateway(tenant)
    given = {"targetConfiguration": server(), **parameters}
    message = await refused(
        ground.control(tenant).create_gateway_target(gatewayIdentifier=id, name="x", **given)
    )
    assert words in message
    client = ground.control(tenant)
    assert (await client.list_gateway_targets(gatewayIdentifier=id))["items"] == []


async def test_a_provider_is_of_the_account_and_of_the_right_kind(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    own = await ground.provider(tenant, "own")
    keys = await ground.provider(tenant, "keys", API_KEYS)
    others = await ground.provider("999999999999", f"others-{tenant}")
    create = ground.control(tenant).create_gateway_target
    place = {"gatewayIdentifier": id, "targetConfiguration": server()}
    for arn in (others, keys):
        message = await refused(
            create(**place, name="x", credentialProviderConfigurations=oauth(arn))
        )
        assert "there is no oauth2credentialprovider" in message
    await ground.target(tenant, id, "own", credentialProviderConfigurations=oauth(own))
    key = credential("API_KEY", apiKeyCredentialProvider={"providerArn": keys})
    await ground.target(tenant, id, "keyed", credentialProviderConfigurations=key)
    message = await refused(create(**place, name="x", credentialProviderConfigurations=key * 2))
    assert "length less than or equal to 1" in message


async def test_a_path_of_the_gateways_own_is_no_name_of_a_target(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    client = ground.control(tenant)
    for name in ("inference", "mcp"):
        configuration = {"mcp": {"mcpServer": {"endpoint": "https://tools.example.com/mcp"}}}
        message = await refused(
            client.create_gateway_target(
                gatewayIdentifier=id, name=name, targetConfiguration=configuration
            )
        )
        assert "path of the gateway's own" in message


async def test_who_hands_on_tokens_only_authenticates(ground: ControlGround, tenant: str) -> None:
    made, _ = await ground.resources.create(
        tenant, RUNTIME, id="agent-aaaaaaaaaa", name="agent", status="READY", document={}
    )
    target = {
        "targetConfiguration": {"http": {"agentcoreRuntime": {"arn": made.arn}}},
        "credentialProviderConfigurations": credential("JWT_PASSTHROUGH"),
    }
    closed = await ground.gateway(tenant, "closed")
    client = ground.control(tenant)
    message = await refused(
        client.create_gateway_target(gatewayIdentifier=closed, name="agent", **target)
    )
    assert "authorizerType must be AUTHENTICATE_ONLY" in message
    jwt = {"customJWTAuthorizer": {"discoveryUrl": DISCOVERY}}
    open_ = await ground.gateway(
        tenant, "open", authorizerType="AUTHENTICATE_ONLY", authorizerConfiguration=jwt
    )
    made = await client.create_gateway_target(gatewayIdentifier=open_, name="agent", **target)
    assert (made["status"], made["protocolType"]) == ("READY", "HTTP")
    message = await refused(
        client.update_gateway(
            gatewayIdentifier=open_, name="open", authorizerType="NONE",
            roleArn="arn:aws:iam::123456789012:role/x",
        )
    )  # fmt: skip
    assert message.startswith("target agent: JWT_PASSTHROUGH")


async def test_what_only_passes_requests_on_is_ready_at_once(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    client = ground.control(tenant)
    endpoint = "https://models.example.com"
    for name, configuration, kind in (
        ("a", {"http": {"passthrough": {"endpoint": endpoint, "protocolType": "A2A"}}},
         "PASSTHROUGH"),
        ("b", {"inference": {"provider": {"endpoint": "http://10.0.0.7:8000/v1"}}}, "PROVIDER"),
    ):  # fmt: skip
        made = await client.create_gateway_target(
            gatewayIdentifier=id, name=name, targetConfiguration=configuration
        )
        assert made["status"] == "READY"
        items = (await client.list_gateway_targets(gatewayIdentifier=id))["items"]
        assert items[-1]["targetType"] == kind
    message = await refused(
        client.synchronize_gateway_targets(gatewayIdentifier=id, targetIdList=[made["targetId"]])
    )
    assert "nothing to synchronize" in message
    assert ground.server.asked == []


async def test_targets_on_this_platform_take_the_callers_own_credentials(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(
        tenant, id, targetConfiguration=server(endpoint=f"{PUBLIC_URL}/runtimes/x/invocations"),
        credentialProviderConfigurations=credential("CALLER_IAM_CREDENTIALS"),
    )  # fmt: skip
    assert (await ground.settled(tenant, id, target))["status"] == "READY"
