"""Targets are asked again: when they are due, when they failed, when they say so."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from control_ground import ControlGround, tool

from freehold.ports.targets import TargetFailed


@pytest.fixture(scope="module")
async def dsn(fresh_dsn: Any) -> str:
    made: str = await fresh_dsn()
    return made


@pytest.fixture
async def ground(dsn: str, tmp_path: Path) -> AsyncIterator[ControlGround]:
    async with ControlGround(dsn, tmp_path).open() as ground:
        yield ground


async def test_a_target_is_asked_again_when_it_is_due(ground: ControlGround, tenant: str) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    client = ground.control(tenant)
    arn = (await client.get_gateway(gatewayIdentifier=id))["gatewayArn"]
    await client.tag_resource(
        resourceArn=f"{arn}/target/{target}", tags={"freehold:refresh-seconds": "60"}
    )

    async def scheduled() -> bool:
        state = (await ground.store.target_states(tenant, id))[target]
        return state.refresh_seconds == 60

    await ground.until(scheduled)
    shown = await client.get_gateway_target(gatewayIdentifier=id, targetId=target)
    ground.server.definitions = (tool("search", "other"), tool("write"))
    asked = len(ground.server.asked)
    await _due(ground, tenant, id, target)

    async def quarantined() -> bool:
        return set(await ground.in_force(id)) == {"write"}

    await ground.until(quarantined)
    after = await client.get_gateway_target(gatewayIdentifier=id, targetId=target)
    assert (after["status"], after["updatedAt"]) == ("READY", shown["updatedAt"])
    assert after["lastSynchronizedAt"] > shown["lastSynchronizedAt"]
    assert len(ground.server.asked) == asked + 1


async def test_a_target_that_failed_is_ready_when_a_refresh_reaches_it(
    ground: ControlGround, tenant: str
) -> None:
    ground.server.trouble = TargetFailed("it is away")
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    assert await ground.in_force(id) == {}
    ground.server.trouble = None
    await _due(ground, tenant, id, target)

    async def ready() -> bool:
        return (await ground.targets.get(tenant, id, target)).status == "READY"

    await ground.until(ready)
    assert set(await ground.in_force(id)) == {"search", "write"}


async def test_a_refresh_that_fails_leaves_the_target_ready(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    ground.server.trouble = TargetFailed("it is away")
    await _due(ground, tenant, id, target)

    async def known() -> bool:
        state = (await ground.store.target_states(tenant, id))[target]
        return state.refresh_failure == "it is away"

    await ground.until(known)
    assert set(await ground.in_force(id)) == {"search", "write"}
    status, health = await ground.own(tenant, "GET", f"/gateways/{id}/status")
    assert (status, health["status"], health["toolNames"]) == (200, "READY", "prefixed")
    (of_target,) = health["targets"]
    assert (of_target["status"], of_target["refreshFailure"]) == ("READY", "it is away")
    assert (of_target["inForce"], of_target["waiting"], of_target["problems"]) == (2, 0, 0)


async def test_a_server_that_says_its_list_changed_is_asked_soon_and_once(
    ground: ControlGround, dsn: str, tenant: str, tmp_path: Path
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    async with ControlGround(dsn, tmp_path / "second", executor="second").open() as second:
        for _ in range(3):
            await ground.schedule.soon(tenant, id, target)
        async with ground.database.connection() as connection:
            await connection.execute(
                "UPDATE gateway_targets SET refresh_at = now() WHERE target_id = %s", (target,)
            )
            await ground.store.tell(connection, tenant, id)

        async def asked() -> bool:
            return len(ground.server.asked) + len(second.server.asked) == 2

        await ground.until(asked)

        async def at_rest() -> bool:
            async with ground.database.connection() as connection:
                rows = await connection.execute(
                    "SELECT refresh_at > now() + interval '30 minutes' FROM gateway_targets"
                    " WHERE target_id = %s",
                    (target,),
                )
                return await rows.fetchone() == (True,)  # each hour, as nothing else is said

        await ground.until(at_rest)
        assert len(ground.server.asked) + len(second.server.asked) == 2


async def _due(ground: ControlGround, tenant: str, id: str, target: str) -> None:
    async with ground.database.connection() as connection:
        await connection.execute(
            "UPDATE gateway_targets SET refresh_at = now() WHERE target_id = %s", (target,)
        )
        await ground.store.tell(connection, tenant, id)
