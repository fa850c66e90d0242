"""Engines in a worker's memory, and what of a policy is in force while it changes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from policy_ground import PolicyGround, engine_arn, gateway_arn, transfers


@pytest.fixture(scope="module")
async def ground(
    fresh_dsn: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PolicyGround]:
    state: Path = tmp_path_factory.mktemp("engines")
    async with PolicyGround(await fresh_dsn(), state).open() as ground:
        yield ground


async def test_an_engine_is_the_same_object_until_it_changes(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    arn = engine_arn(tenant, id)
    made = await ground.policy(tenant, id, transfers(gateway))
    row = await ground.engines.load(tenant, arn)
    assert row is not None and await ground.engines.load(tenant, arn) is row
    assert [(each.id, each.statement, each.gateway) for each in row.policies] == [
        (made["policyId"], transfers(gateway), gateway)
    ]
    told: list[tuple[str, str]] = []
    ground.engines.changed.append(lambda tenant, engine_id: told.append((tenant, engine_id)))
    await ground.control(tenant).update_policy(
        policyEngineId=id, policyId=made["policyId"], description={"optionalValue": "why"}
    )

    async def heard() -> bool:
        return (tenant, id) in told

    await ground.until(heard)
    assert await ground.engines.load(tenant, arn) is row, "a description decides nothing"
    await ground.policy(tenant, id, transfers(gateway, 5), "other")

    async def other() -> bool:
        return await ground.engines.load(tenant, arn) is not row

    await ground.until(other)
    changed = await ground.engines.load(tenant, arn)
    assert changed is not None and changed.version != row.version
    assert len(changed.policies) == 2


async def test_everything_is_loaded_anew_after_a_lost_connection(
    ground: PolicyGround, tenant: str
) -> None:
    id = await ground.engine(tenant)
    arn = engine_arn(tenant, id)
    before = await ground.engines.load(tenant, arn)
    async with ground.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO policies VALUES (%s, %s, 'p', 'p', '', 1, 1, 'ACTIVE', 'x', '')",
            (tenant, id),
        )
    assert await ground.engines.load(tenant, arn) is before, "nobody told"
    ground.engines.heard_policies("")
    after = await ground.engines.load(tenant, arn)
    assert after is not None and [each.id for each in after.policies] == ["p"]


async def test_an_engine_that_is_not_there_is_looked_for_each_time(
    ground: PolicyGround, tenant: str
) -> None:
    absent = engine_arn(tenant, "rules-aaaaaaaaaa")
    assert await ground.engines.load(tenant, absent) is None
    id = await ground.engine(tenant)
    other = str(int(tenant) ^ 1).rjust(12, "0")
    assert await ground.engines.load(other, engine_arn(tenant, id)) is None
    assert await ground.engines.load(other, engine_arn(other, id)) is None
    elsewhere = engine_arn(tenant, id).replace("us-east-1", "us-west-2")
    assert await ground.engines.load(tenant, elsewhere) is None
    assert await ground.engines.load(tenant, engine_arn(tenant, id)) is not None
    assert await ground.engines.load(tenant, elsewhere) is None
    await ground.control(tenant).delete_policy_engine(policyEngineId=id)

    async def gone() -> bool:
        return await ground.engines.load(tenant, engine_arn(tenant, id)) is None

    await ground.until(gone)


async def test_many_who_ask_at_once_wait_for_one_load(ground: PolicyGround, tenant: str) -> None:
    arn = engine_arn(tenant, await ground.engine(tenant))
    rows = await asyncio.gather(*(ground.engines.load(tenant, arn) for _ in range(20)))
    assert rows[0] is not None and all(row is rows[0] for row in rows)


async def test_another_worker_hears_of_a_change(
    ground: PolicyGround, tenant: str, tmp_path: Path
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    arn = engine_arn(tenant, id)
    dsn = ground.dsn
    async with PolicyGround(dsn, tmp_path, works=False, executor="two").open() as other:
        before = await other.engines.load(tenant, arn)
        assert before is not None and before.policies == ()
        await ground.policy(tenant, id, transfers(gateway))

        async def heard() -> bool:
            row = await other.engines.load(tenant, arn)
            return row is not None and len(row.policies) == 1

        await other.until(heard)


async def test_a_change_that_is_looked_at_leaves_the_old_in_force(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    made = await ground.policy(tenant, id, transfers(gateway, 10))
    key = {"policyEngineId": id, "policyId": made["policyId"]}
    ground.scripted.gate = asyncio.Event()
    try:
        await ground.control(tenant).update_policy(
            **key, definition={"cedar": {"statement": transfers(gateway, 20)}}
        )
        assert await ground.in_force(tenant, id) == {"one": transfers(gateway, 10)}
        row = await ground.store.load(tenant, id)
        assert row.policies[0].version == 1
    finally:
        ground.scripted.gate.set()
        ground.scripted.gate = None
    await ground.settled(tenant, id, made["policyId"])
    row = await ground.store.load(tenant, id)
    assert (row.policies[0].statement, row.policies[0].version) == (transfers(gateway, 20), 2)


async def test_a_policy_for_a_gateway_without_the_engine_waits_there(
    ground: PolicyGround, tenant: str
) -> None:
    """Policies are made first, and the gateway is attached when they are right."""
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    assert gateway == gateway_arn(tenant)
    assert (await ground.policy(tenant, id, transfers(gateway)))["status"] == "ACTIVE"
