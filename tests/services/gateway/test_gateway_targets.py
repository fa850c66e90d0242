"""Targets with real boto3: what is taken, what becomes of them, and what a crash leaves."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from control_ground import (
    API_KEYS,
    DISCOVERY,
    PUBLIC_URL,
    RUNTIME,
    SERVER_URL,
    ControlGround,
    Server,
    oauth,
    tool,
)

from edge_ground import refused
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import QuotaExceeded, Unavailable
from freehold.ports.targets import Problem, RpcRefused, TargetFailed
from freehold.services.gateway.model import INLINE_SCHEMA_BYTES_MAX, TARGET, TARGETS_MAX
from freehold.services.gateway.ports import ConsentNeeded

OPENAPI = {"mcp": {"openApiSchema": {"inlinePayload": '{"openapi": "3.1.0"}'}}}
LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:adder"
TOKEN = "b" * 40


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


async def test_a_target_is_asked_and_ready(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    client = ground.control(tenant)
    made = await client.create_gateway_target(
        gatewayIdentifier=id, name="server", description="ours",
        targetConfiguration=server(listingMode="DEFAULT", resourcePriority=7),
        metadataConfiguration={"allowedRequestHeaders": ["x-team"]},
    )  # fmt: skip
    assert (made["status"], len(made["targetId"])) == ("CREATING", 10)
    shown = await ground.settled(tenant, id, made["targetId"])
    assert shown["status"] == "READY" and "statusReasons" not in shown
    assert shown["targetConfiguration"] == server(listingMode="DEFAULT", resourcePriority=7)
    assert shown["credentialProviderConfigurations"] == []
    assert shown["metadataConfiguration"] == {"allowedRequestHeaders": ["x-team"]}
    assert (shown["protocolType"], "lastSynchronizedAt" in shown) == ("MCP", True)
    (item,) = (await client.list_gateway_targets(gatewayIdentifier=id))["items"]
    assert (item["targetType"], item["listingMode"], item["resourcePriority"]) == (
        "MCP_SERVER", "DEFAULT", 7,
    )  # fmt: skip
    assert await ground.in_force(id) == {"search": "does it", "write": "does it"}
    row = await ground.store.load(id)
    assert row is not None and row.targets[0].server == ground.server.server
    ((place, errand),) = ground.server.asked
    assert (place.tenant, place.gateway_id, place.kind) == (tenant, id, "mcp.mcpServer")
    assert tenant in errand.owner


async def test_one_that_cannot_be_asked_says_why(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    troubles: list[tuple[Exception, str]] = [
        (TargetFailed("tools.example.com refused the connection"), "refused the connection"),
        (RpcRefused(-32601, "no such method"), "no such method"),
        (Unavailable("the vault is away"), "the vault is away"),
        (ZeroDivisionError("secret=hunter2"), "an error of the platform's own"),
    ]
    for number, (trouble, words) in enumerate(troubles):
        ground.server.trouble = trouble
        target = await ground.target(tenant, id, f"server{number}")
        shown = await ground.settled(tenant, id, target)
        assert shown["status"] == "FAILED"
        assert words in shown["statusReasons"][0] and "hunter2" not in str(shown)
    ground.server.trouble = None
    shown = await ground.synchronized(tenant, id, target)
    assert shown["status"] == "READY" and "statusReasons" not in shown


async def test_one_that_does_not_answer_is_not_waited_for(
    ground: ControlGround, tenant: str
) -> None:
    ground.sync._seconds_max = 0.05
    ground.server.gate = asyncio.Event()
    id = await ground.gateway(tenant)
    shown = await ground.settled(tenant, id, await ground.target(tenant, id))
    assert shown["statusReasons"] == ["it did not answer within 0.05 seconds"]


async def test_a_document_of_which_nothing_can_be_a_tool_fails_with_the_problems(
    ground: ControlGround, tenant: str
) -> None:
    ground.server.definitions = ()
    ground.server.problems = (Problem(where="GET /pets", why="it has no operationId"),)
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id, targetConfiguration=OPENAPI)
    shown = await ground.settled(tenant, id, target)
    assert shown["status"] == "FAILED"
    assert shown["statusReasons"][1] == "GET /pets: it has no operationId"


async def test_what_works_of_a_document_is_taken_and_the_rest_is_listed(
    ground: ControlGround, tenant: str
) -> None:
    ground.server.problems = (
        Problem(where="POST /pets", why="two bodies at once"),
        Problem(where="/info", why="a\x00b", skipped=False),
    )
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id, targetConfiguration=OPENAPI)
    assert (await ground.settled(tenant, id, target))["status"] == "READY"
    status, answer = await ground.own(tenant, "GET", f"/gateways/{id}/targets/{target}/problems")
    assert (status, answer["problems"]) == (
        200,
        [
            {"where": "POST /pets", "why": "two bodies at once", "skipped": True},
            {"where": "/info", "why": "ab", "skipped": False},
        ],
    )


# -- documents


async def test_an_inline_document_comes_back_and_is_kept_out_of_the_data_path(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id, targetConfiguration=OPENAPI)
    assert (await ground.settled(tenant, id, target))["targetConfiguration"] == OPENAPI
    place, _ = ground.server.asked[-1]
    assert place.configuration == OPENAPI["mcp"]["openApiSchema"]
    row = await ground.store.load(id)
    assert row is not None and row.targets[0].configuration == {}
    schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "number"}}}
    tools = [{"name": "add", "description": "adds", "inputSchema": schema}]
    configuration = {
        "mcp": {"lambda": {"lambdaArn": LAMBDA, "toolSchema": {"inlinePayload": tools}}}
    }
    function = await ground.target(
        tenant, id, "function", targetConfiguration=configuration,
        credentialProviderConfigurations=credential("GATEWAY_IAM_ROLE"),
    )  # fmt: skip
    shown = await ground.settled(tenant, id, function)
    assert shown["targetConfiguration"] == configuration
    read = shown["targetConfiguration"]["mcp"]["lambda"]["toolSchema"]["inlinePayload"]
    assert list(read[0]["inputSchema"]["properties"]) == ["b", "a"]


async def test_documents_on_s3_are_the_accounts_own(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    uri = "s3://schemas/pets.json"
    ground.documents.objects[tenant, uri] = b'\xef\xbb\xbf{"openapi": "3.0.3"}'
    on_s3 = {"mcp": {"openApiSchema": {"s3": {"uri": uri}}}}
    target = await ground.target(tenant, id, targetConfiguration=on_s3)
    assert (await ground.settled(tenant, id, target))["targetConfiguration"] == on_s3
    assert ground.server.asked[-1][0].configuration == {"inlinePayload": '{"openapi": "3.0.3"}'}
    tools = [{"name": "add", "description": "adds", "inputSchema": {"type": "object"}}]
    ground.documents.objects[tenant, "s3://schemas/tools.json"] = json.dumps(tools).encode()
    function = {
        "lambdaArn": LAMBDA,
        "toolSchema": {"s3": {"uri": "s3://schemas/tools.json"}},
    }
    await ground.target(
        tenant, id, "function", targetConfiguration={"mcp": {"lambda": function}},
        credentialProviderConfigurations=credential("GATEWAY_IAM_ROLE"),
    )  # fmt: skip
    assert ground.server.asked[-1][0].configuration["toolSchema"] == {"inlinePayload": tools}
    for name, place, words in (
        ("absent", {"uri": "s3://schemas/none.json"}, "no such object"),
        ("others", {"uri": uri, "bucketOwnerAccountId": "999999999999"}, "own buckets alone"),
    ):
        configuration = {"mcp": {"openApiSchema": {"s3": place}}}
        failed = await ground.target(tenant, id, name, targetConfiguration=configuration)
        shown = await ground.settled(tenant, id, failed)
        assert shown["status"] == "FAILED" and words in shown["statusReasons"][0]


# -- what is refused at once


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


# -- how many


async def test_inline_documents_and_tools_have_limits(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    client = ground.control(tenant)
    large = {"mcp": {"openApiSchema": {"inlinePayload": "x" * (INLINE_SCHEMA_BYTES_MAX + 1)}}}
    message = await refused(
        client.create_gateway_target(gatewayIdentifier=id, name="x", targetConfiguration=large),
        "ServiceQuotaExceededException",
    )
    assert "1 MB at most" in message
    tools = [
        {"name": f"t{n}", "description": "d", "inputSchema": {"type": "object"}}
        for n in range(1001)
    ]
    many = {"mcp": {"lambda": {"lambdaArn": LAMBDA, "toolSchema": {"inlinePayload": tools}}}}
    await refused(
        client.create_gateway_target(gatewayIdentifier=id, name="x", targetConfiguration=many),
        "ServiceQuotaExceededException",
    )
    ground.server.definitions = tuple(tool(f"t{n}") for n in range(1001))
    shown = await ground.settled(tenant, id, await ground.target(tenant, id))
    assert shown["status"] == "FAILED"
    assert shown["statusReasons"] == ["it has 1001 tools; a target has 1000 at most"]
    assert await ground.in_force(id) == {}


async def test_of_many_that_come_at_once_no_more_than_the_limit_stay(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    configuration = {"http": {"passthrough": {
        "endpoint": "https://x.example.com", "protocolType": "CUSTOM",
    }}}  # fmt: skip

    async def create(number: int) -> bool:
        params = {
            "gatewayIdentifier": id, "name": f"t{number}", "targetConfiguration": configuration,
        }  # fmt: skip
        try:
            await ground.targets.create(_caller(tenant), tenant, params)
        except QuotaExceeded as error:
            assert "100 targets at most" in str(error)
            return False
        return True

    for number in range(TARGETS_MAX - 3):
        assert await create(number)
    outcomes = await asyncio.gather(*(create(200 + number) for number in range(8)))
    assert sum(outcomes) == 3
    row = await ground.store.load(id)
    assert row is not None and len(row.targets) == TARGETS_MAX


def _caller(tenant: str) -> Caller:
    return Caller(tenant=tenant, principal="tester", kind=CallerKind.ADMIN)


# -- changed and named


async def test_a_repeated_request_makes_one_target(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    first = await ground.target(tenant, id, clientToken=TOKEN)
    assert await ground.target(tenant, id, clientToken=TOKEN) == first
    assert len(ground.server.asked) == 1
    message = await refused(
        ground.control(tenant).create_gateway_target(
            gatewayIdentifier=id, name="other", clientToken=TOKEN, targetConfiguration=server()
        ),
        "ConflictException",
    )
    assert "token" in message


async def test_a_target_is_renamed_and_its_old_name_is_free(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    one = await ground.target(tenant, id, "one")
    await ground.target(tenant, id, "two")
    client = ground.control(tenant)
    here = {"gatewayIdentifier": id, "targetId": one, "targetConfiguration": server()}
    await refused(client.update_gateway_target(**here, name="two"), "ConflictException")
    await client.update_gateway_target(**here, name="three")
    assert (await ground.settled(tenant, id, one))["name"] == "three"
    await ground.target(tenant, id, "one")


async def test_of_targets_renamed_to_one_name_at_once_one_gets_it(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    made = [await ground.target(tenant, id, name) for name in ("one", "two", "three")]

    async def rename(target: str) -> str:
        try:
            await ground.control(tenant).update_gateway_target(
                gatewayIdentifier=id, targetId=target, name="wanted", targetConfiguration=server()
            )
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "renamed"

    outcomes = await asyncio.gather(*map(rename, made))
    assert sorted(outcomes) == ["ConflictException", "ConflictException", "renamed"]
    for target in made:
        assert (await ground.settled(tenant, id, target))["status"] == "READY"


async def test_a_busy_target_is_let_be(ground: ControlGround, tenant: str) -> None:
    ground.server.gate = asyncio.Event()
    id = await ground.gateway(tenant)
    client = ground.control(tenant)
    made = await client.create_gateway_target(
        gatewayIdentifier=id, name="x", targetConfiguration=server()
    )
    here = {"gatewayIdentifier": id, "targetId": made["targetId"]}
    for attempt in (
        client.update_gateway_target(**here, targetConfiguration=server()),
        client.delete_gateway_target(**here),
        client.synchronize_gateway_targets(gatewayIdentifier=id, targetIdList=[made["targetId"]]),
    ):
        assert "in status CREATING" in await refused(attempt, "ConflictException")
    ground.server.gate.set()
    assert (await ground.settled(tenant, id, made["targetId"]))["status"] == "READY"
    assert (await client.delete_gateway_target(**here))["status"] == "DELETING"


async def test_an_update_that_fails_leaves_what_was_in_force(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    ground.server.trouble = TargetFailed("it is away")
    await ground.control(tenant).update_gateway_target(
        gatewayIdentifier=id, targetId=target, name="server", targetConfiguration=server()
    )
    shown = await ground.settled(tenant, id, target)
    assert (shown["status"], shown["statusReasons"]) == ("UPDATE_UNSUCCESSFUL", ["it is away"])
    assert await ground.in_force(id) == {"search": "does it", "write": "does it"}
    row = await ground.store.load(id)
    assert row is not None and row.targets[0].serves


# -- a person agrees first


async def test_a_target_waits_until_a_person_agreed(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    arn = await ground.provider(tenant, "idp")
    three_legged = oauth(
        arn, grantType="AUTHORIZATION_CODE", defaultReturnUrl="https://app.example.com/done"
    )
    ground.outbound.trouble = ConsentNeeded("https://idp.example.com/authorize?x=1", "urn:x")
    target = await ground.target(tenant, id, credentialProviderConfigurations=three_legged)
    shown = await ground.settled(tenant, id, target)
    assert shown["status"] == "CREATE_PENDING_AUTH"
    data = shown["authorizationData"]["oauth2"]
    assert data["authorizationUrl"] == "https://idp.example.com/authorize?x=1"
    (caller,) = ground.outbound.callers
    assert caller is not None and caller.user == data["userId"]
    client = ground.control(tenant)
    for attempt in (
        client.delete_gateway_target(gatewayIdentifier=id, targetId=target),
        client.synchronize_gateway_targets(gatewayIdentifier=id, targetIdList=[target]),
    ):
        assert "CREATE_PENDING_AUTH" in await refused(attempt, "ConflictException")
    # Somebody else agreed somewhere: the address stays, though a new one was made.
    ground.outbound.trouble = ConsentNeeded("https://idp.example.com/authorize?x=2", "urn:y")
    asked = len(ground.outbound.callers)
    await _told_of_a_grant(ground)

    async def asked_again() -> bool:
        return len(ground.outbound.callers) > asked

    await ground.until(asked_again)
    shown = await ground.settled(tenant, id, target)
    assert shown["authorizationData"]["oauth2"] == data
    ground.outbound.trouble = None
    await _told_of_a_grant(ground)

    async def ready() -> bool:
        return (await ground.targets.get(tenant, id, target)).status == "READY"

    await ground.until(ready)
    shown = await ground.settled(tenant, id, target)
    assert "authorizationData" not in shown
    assert set(await ground.in_force(id)) == {"search", "write"}


async def _told_of_a_grant(ground: ControlGround) -> None:
    async with ground.database.connection() as connection:
        await ground.database.notify(connection, "freehold_oauth_grants", "some-grant")


async def test_nobody_agreed_in_time(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    arn = await ground.provider(tenant, "idp")
    three_legged = oauth(arn, grantType="AUTHORIZATION_CODE", defaultReturnUrl="https://app/x")
    ground.outbound.trouble = ConsentNeeded("https://idp.example.com/authorize", "urn:x")
    target = await ground.target(tenant, id, credentialProviderConfigurations=three_legged)
    async with ground.database.connection() as connection:
        await connection.execute(
            "UPDATE gateway_targets SET pending_at = now() - interval '11 minutes',"
            " refresh_at = now() WHERE target_id = %s",
            (target,),
        )
    await _told_of_a_grant(ground)

    async def failed() -> bool:
        return (await ground.targets.get(tenant, id, target)).status == "FAILED"

    await ground.until(failed)
    shown = await ground.settled(tenant, id, target)
    assert "nobody agreed" in shown["statusReasons"][0] and "authorizationData" not in shown
    await ground.control(tenant).delete_gateway_target(gatewayIdentifier=id, targetId=target)


async def test_consent_that_could_never_come_is_asked_for_otherwise(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    arn = await ground.provider(tenant, "idp")
    create = ground.control(tenant).create_gateway_target
    place = {"gatewayIdentifier": id, "name": "x"}
    three_legged = oauth(arn, grantType="AUTHORIZATION_CODE")
    message = await refused(
        create(**place, targetConfiguration=server(),
               credentialProviderConfigurations=three_legged)
    )  # fmt: skip
    assert "defaultReturnUrl" in message
    message = await refused(
        create(**place, targetConfiguration=server(listingMode="DYNAMIC"),
               credentialProviderConfigurations=three_legged)
    )  # fmt: skip
    assert "DYNAMIC does not go with" in message
    schema = {"inlinePayload": '{"tools": [{"name": "a", "inputSchema": {"type": "object"}}]}'}
    static = await ground.target(
        tenant, id, targetConfiguration=server(mcpToolSchema=schema),
        credentialProviderConfigurations=three_legged,
    )  # fmt: skip
    shown = await ground.settled(tenant, id, static)
    assert shown["status"] == "READY" and ground.outbound.callers == []
    assert shown["targetConfiguration"]["mcp"]["mcpServer"]["mcpToolSchema"] == schema
    message = await refused(
        ground.control(tenant).synchronize_gateway_targets(
            gatewayIdentifier=id, targetIdList=[static]
        )
    )
    assert "mcpToolSchema" in message


# -- crashes


async def test_what_a_killed_worker_was_asked_another_one_does(
    dsn: str, tenant: str, tmp_path: Path
) -> None:
    async with ControlGround(dsn, tmp_path / "a", works=False, executor="first").open() as first:
        id = await first.gateway(tenant)
        made = await first.control(tenant).create_gateway_target(
            gatewayIdentifier=id, name="x", targetConfiguration=server()
        )
        target = made["targetId"]
    async with ControlGround(dsn, tmp_path / "b", executor="second").open() as second:
        assert (await second.settled(tenant, id, target))["status"] == "READY"


async def test_what_is_cut_short_while_it_is_asked_is_asked_again(
    dsn: str, tenant: str, tmp_path: Path
) -> None:
    async with ControlGround(dsn, tmp_path / "a", executor="cut").open() as first:
        first.server.gate = asyncio.Event()
        id = await first.gateway(tenant)
        made = await first.control(tenant).create_gateway_target(
            gatewayIdentifier=id, name="x", targetConfiguration=server()
        )

        async def asked() -> bool:
            return bool(first.server.asked)

        await first.until(asked)
    async with ControlGround(dsn, tmp_path / "b", executor="other").open() as second:
        assert (await second.settled(tenant, id, made["targetId"]))["status"] == "READY"


async def test_what_a_killed_process_was_asking_another_one_asks(
    dsn: str, tenant: str, tmp_path: Path
) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("control_child.py")), dsn,
        str(tmp_path / "child"), tenant, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        async with asyncio.timeout(30):
            id, target = (await child.stdout.readline()).decode().split()
    finally:
        child.kill()
        await child.wait()
    async with ControlGround(dsn, tmp_path / "b", executor="other").open() as second:
        assert (await second.settled(tenant, id, target))["status"] == "READY"
        assert set(await second.in_force(id)) == {"search", "write"}


async def test_a_target_whose_job_was_never_written_is_taken_up(
    dsn: str, tenant: str, tmp_path: Path
) -> None:
    async with ControlGround(dsn, tmp_path / "a").open() as first:
        id = await first.gateway(tenant)
        target = await first.target(tenant, id)
    async with ControlGround(dsn, tmp_path / "b", works=False).open() as between:
        row = await between.targets.get(tenant, id, target)
        await between.resources.update(
            tenant, TARGET, target, lambda r: {**r.document, "_sync": {"why": "synchronize"}},
            parent=id, status="SYNCHRONIZING",
        )  # fmt: skip
        assert row.status == "READY"
    async with ControlGround(dsn, tmp_path / "c").open() as second:
        assert (await second.settled(tenant, id, target))["status"] == "READY"
        assert len(second.server.asked) == 1


async def test_an_answer_that_comes_after_the_target_was_changed_is_not_taken(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    old = await ground.targets.get(tenant, id, target)
    stale = Server(tool("stale"))
    ground.clients["mcp.mcpServer"] = stale
    stale.gate = asyncio.Event()
    gateway = await ground.gateways.get(tenant, id)
    late = asyncio.create_task(ground.sync._look_again(gateway, old))
    async with asyncio.timeout(5):
        while not stale.asked:
            await asyncio.sleep(0.01)
    ground.clients["mcp.mcpServer"] = ground.server
    await ground.synchronized(tenant, id, target)
    stale.gate.set()
    await late
    assert set(await ground.in_force(id)) == {"search", "write"}
