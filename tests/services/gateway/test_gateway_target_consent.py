"""Targets that wait until a person agreed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from control_ground import (
    SERVER_URL,
    ControlGround,
    oauth,
)

from edge_ground import refused
from freehold.services.gateway.ports import ConsentNeeded


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
