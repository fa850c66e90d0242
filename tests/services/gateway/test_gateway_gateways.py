"""Gateways with real boto3: made, shown, replaced, listed, deleted."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from control_ground import DISCOVERY, PUBLIC_URL, ROLE, ControlGround

from edge_ground import refused
from freehold.services.gateway.model import GATEWAY

JWT = {"customJWTAuthorizer": {"discoveryUrl": DISCOVERY, "allowedAudience": ["tools"]}}
LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:guard"
ENGINE = "arn:aws:bedrock-agentcore:us-east-1:123456789012:policy-engine/p-aaaaaaaaaa"
TOKEN = "a" * 40


@pytest.fixture(scope="module")
async def ground(
    fresh_dsn: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlGround]:
    state: Path = tmp_path_factory.mktemp("gateways")
    async with ControlGround(await fresh_dsn(), state).open() as ground:
        yield ground


async def test_a_gateway_is_ready_and_shown_whole(ground: ControlGround, tenant: str) -> None:
    client = ground.control(tenant)
    given = {
        "name": "My-Tools", "description": "ours", "roleArn": ROLE, "protocolType": "MCP",
        "authorizerType": "CUSTOM_JWT", "authorizerConfiguration": JWT, "exceptionLevel": "DEBUG",
        "protocolConfiguration": {
            "mcp": {
                "supportedVersions": ["2025-11-25"], "instructions": "be kind",
                "searchType": "SEMANTIC", "sessionConfiguration": {"sessionTimeoutInSeconds": 900},
            }
        },
        "interceptorConfigurations": [
            {"interceptor": {"lambda": {"arn": LAMBDA}}, "interceptionPoints": ["REQUEST"]}
        ],
    }  # fmt: skip
    made = await client.create_gateway(**given, tags={"team": "x"})
    id = made["gatewayId"]
    assert id.startswith("my-tools-") and len(id) == len("my-tools-") + 10
    assert made["status"] == "READY"
    shown = await client.get_gateway(gatewayIdentifier=id)
    assert {name: shown[name] for name in given} == given
    assert shown["gatewayUrl"] == f"{PUBLIC_URL}/gateway/{id}/mcp"
    assert shown["gatewayArn"] == f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:gateway/{id}"
    assert shown["workloadIdentityDetails"]["workloadIdentityArn"].endswith(f"/{id}")
    assert (tenant, id) in ground.identities.known
    assert (await client.list_tags_for_resource(resourceArn=shown["gatewayArn"]))["tags"] == {
        "team": "x"
    }
    (item,) = (await client.list_gateways())["items"]
    assert (item["gatewayId"], item["name"], item["authorizerType"], item["protocolType"]) == (
        id, "My-Tools", "CUSTOM_JWT", "MCP",
    )  # fmt: skip


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"authorizerType": "CUSTOM_JWT"}, "CUSTOM_JWT needs one"),
    ({"authorizerConfiguration": JWT}, "NONE takes none"),
    (
        {
            "authorizerType": "CUSTOM_JWT",
            "authorizerConfiguration": {"customJWTAuthorizer": {"discoveryUrl": DISCOVERY}},
        },
        "every token of the provider would do",
    ),
    (
        {
            "policyEngineConfiguration": {
                "arn": ENGINE,
                "mode": "ENFORCE",
            }
        },
        "there is no such policy engine",
    ),
    (
        {"kmsKeyArn": f"arn:aws:kms:us-east-1:123456789012:key/{'0' * 36}"},
        "SetTokenVaultCMK",
    ),
    ({"domainOverride": {"defaultDomain": "tools.example.com"}}, "domainOverride: not available"),
    (
        {"protocolConfiguration": {"mcp": {"supportedVersions": ["1999-01-01"]}}},
        "'1999-01-01' is none of",
    ),
    (
        {
            "interceptorConfigurations": [
                {
                    "interceptor": {"lambda": {"arn": LAMBDA}},
                    "interceptionPoints": ["REQUEST", "RESPONSE"],
                },
                {"interceptor": {"lambda": {"arn": LAMBDA}}, "interceptionPoints": ["REQUEST"]},
            ]
        },
        "one interceptor for each point",
    ),
    ({"tags": {"freehold:tool-names": "loud"}}, "expected plain, prefixed, short"),
    ({"tags": {"freehold:colour": "red"}}, "no such setting"),
]


@pytest.mark.parametrize(("parameters", "words"), REFUSED)
async def test_what_is_not_honoured_is_refused_with_words(
    ground: ControlGround, tenant: str, parameters: dict[str, Any], words: str
) -> None:
    message = await refused(
        ground.gateway(tenant, **{"authorizerType": "NONE", **parameters}), "ValidationException"
    )
    assert words in message
    assert (await ground.control(tenant).list_gateways())["items"] == []


async def test_who_only_authenticates_lets_every_token_of_the_provider_in(
    ground: ControlGround, tenant: str
) -> None:
    configuration = {"customJWTAuthorizer": {"discoveryUrl": DISCOVERY}}
    id = await ground.gateway(
        tenant, authorizerType="AUTHENTICATE_ONLY", authorizerConfiguration=configuration
    )
    shown = await ground.control(tenant).get_gateway(gatewayIdentifier=id)
    assert shown["authorizerConfiguration"] == configuration


async def test_an_update_replaces_everything(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant, description="before", exceptionLevel="DEBUG")
    client = ground.control(tenant)
    changed = await client.update_gateway(
        gatewayIdentifier=id, name="tools", roleArn=ROLE, authorizerType="AWS_IAM",
        description="after",
    )  # fmt: skip
    assert (changed["description"], changed["authorizerType"]) == ("after", "AWS_IAM")
    shown = await client.get_gateway(gatewayIdentifier=id)
    assert "exceptionLevel" not in shown and "protocolType" not in shown
    message = await refused(
        client.update_gateway(
            gatewayIdentifier=id, name="other", roleArn=ROLE, authorizerType="AWS_IAM"
        ),
        "ValidationException",
    )
    assert "keeps its name" in message


async def test_a_repeated_request_makes_one_gateway(ground: ControlGround, tenant: str) -> None:
    first = await ground.gateway(tenant, clientToken=TOKEN)
    assert await ground.gateway(tenant, clientToken=TOKEN) == first
    message = await refused(
        ground.gateway(tenant, clientToken=TOKEN, description="other"), "ConflictException"
    )
    assert "token" in message
    assert len((await ground.control(tenant).list_gateways())["items"]) == 1


async def test_a_name_is_taken_once(ground: ControlGround, tenant: str) -> None:
    await ground.gateway(tenant)
    assert "is taken by gateway" in await refused(ground.gateway(tenant), "ConflictException")


async def test_other_accounts_see_nothing_of_it(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    stranger = ground.control("999999999999")
    place = {"gatewayIdentifier": id}
    here = {**place, "targetId": target}
    endpoint = {
        "targetConfiguration": {"mcp": {"mcpServer": {"endpoint": "https://x.example.com"}}}
    }
    for attempt in (
        stranger.get_gateway(**place),
        stranger.delete_gateway(**place),
        stranger.update_gateway(**place, name="tools", roleArn=ROLE, authorizerType="NONE"),
        stranger.create_gateway_target(**place, name="x", **endpoint),
        stranger.list_gateway_targets(**place),
        stranger.get_gateway_target(**here),
        stranger.update_gateway_target(**here, name="x", **endpoint),
        stranger.delete_gateway_target(**here),
        stranger.synchronize_gateway_targets(**place, targetIdList=[target]),
        stranger.list_gateway_rules(**place),
        stranger.list_gateway_rate_limits(**place),
    ):
        message = await refused(attempt, "ResourceNotFoundException")
        assert "does not exist" in message
    for path in ("status", "tools", "changes", "action-groups", f"targets/{target}/problems"):
        status, _ = await ground.own("999999999999", "GET", f"/gateways/{id}/{path}")
        assert status == 404, path
    groups = {"principals": ["*"], "tools": ["*"]}
    path = f"/gateways/{id}/action-groups/mine"
    assert (await ground.own("999999999999", "PUT", path, groups))[0] == 404
    decision = {"targetId": target}
    for verb in ("approve", "reject"):
        path = f"/gateways/{id}/changes/{verb}"
        assert (await ground.own("999999999999", "POST", path, decision))[0] == 404


async def test_a_gateway_goes_after_its_targets(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    client = ground.control(tenant)
    message = await refused(client.delete_gateway(gatewayIdentifier=id), "ConflictException")
    assert "has 1 targets" in message
    await ground.own(
        tenant, "PUT", f"/gateways/{id}/action-groups/mine", {"principals": ["*"], "tools": []}
    )
    await client.delete_gateway_target(gatewayIdentifier=id, targetId=target)
    assert (await client.delete_gateway(gatewayIdentifier=id))["status"] == "DELETING"
    await refused(client.get_gateway(gatewayIdentifier=id), "ResourceNotFoundException")
    assert (tenant, id) not in ground.identities.known
    assert await ground.store.load(id) is None
    async with ground.database.connection() as connection:
        for table in ("gateways", "gateway_targets", "gateway_definitions",
                      "gateway_problems", "gateway_action_groups"):  # fmt: skip
            rows = await connection.execute(
                f"SELECT count(*) FROM {table} WHERE tenant = %s", (tenant,)
            )
            assert await rows.fetchone() == (0,), table


async def test_what_a_crash_left_half_made_is_finished(
    ground: ControlGround, tenant: str, tmp_path: Path
) -> None:
    id = await ground.gateway(tenant)
    ground.identities.known.clear()
    await ground.resources.set_status(tenant, GATEWAY, id, "CREATING")
    async with ControlGround(ground.dsn, tmp_path, works=False, executor="other").open() as other:
        assert (await other.control(tenant).get_gateway(gatewayIdentifier=id))["status"] == "READY"
        assert (tenant, id) in other.identities.known


async def test_settings_are_tags_that_are_checked(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant, tags={"freehold:tool-names": "short"})
    target = await ground.target(tenant, id)
    client = ground.control(tenant)
    arn = (await client.get_gateway(gatewayIdentifier=id))["gatewayArn"]
    await client.tag_resource(resourceArn=arn, tags={"freehold:tool-access": "deny"})
    row = await ground.store.load(id)
    assert row is not None and (row.naming, row.tool_access) == ("short", "deny")
    of_target = f"{arn}/target/{target}"
    tags = {"freehold:timeout-seconds": "5", "freehold:timeout-seconds:write": "60"}
    await client.tag_resource(resourceArn=of_target, tags=tags)
    for bad in (
        {"freehold:timeout-seconds": "0"},
        {"freehold:timeout-seconds:write": "soon"},
        {"freehold:new-tools": "perhaps"},
        {"freehold:refresh-seconds": "1"},
        {"freehold:tool-names": "plain"},
    ):
        await refused(client.tag_resource(resourceArn=of_target, tags=bad), "ValidationException")
