"""Targets with real boto3: what is taken, what becomes of them, and what a crash leaves."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from control_ground import (
    SERVER_URL,
    ControlGround,
    tool,
)

from edge_ground import refused
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import QuotaExceeded, Unavailable
from freehold.ports.targets import Problem, RpcRefused, TargetFailed
from freehold.services.gateway.model import INLINE_SCHEMA_BYTES_MAX, TARGETS_MAX

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
