"""From words to a policy in force: a generation's asset, made a policy by CreatePolicy."""

import re
from pathlib import Path
from typing import Any

from generation_ground import (
    BALANCE,
    READ,
    GenerationGround,
    gateway_arn,
    permit,
    proposed,
    statement,
)
from policy_ground import PolicyGround

from edge_ground import refused


async def test_an_asset_becomes_the_policy_that_it_was_shown_as(
    fresh_dsn: Any, tmp_path: Path, tenant: str
) -> None:
    dsn = await fresh_dsn()
    vague = "Be nice to everyone."
    policies = PolicyGround(dsn, tmp_path, executor="policies")
    words = GenerationGround(dsn, tmp_path, [
        proposed((READ, permit(tenant, BALANCE, "context.input.account != \"\"")), (vague, "")),
    ])  # fmt: skip
    async with policies.open(), words.open():
        words.gateways.add(tenant)
        policies.gateways.by_arn.update(words.gateways.by_arn)
        policies.generated.statement = words.generations.statement  # type: ignore[method-assign]
        engine = await policies.engine(tenant)
        generation = await words.started(tenant, f"{READ} {vague}", policyEngineId=engine)
        await words.ended(tenant, generation, engine)
        good, none = await words.assets(tenant, generation, engine)

        async def create(name: str, asset: dict[str, Any]) -> Any:
            chosen = {
                "policyGenerationId": generation,
                "policyGenerationAssetId": asset["policyGenerationAssetId"],
            }
            return await policies.control(tenant).create_policy(
                policyEngineId=engine, name=name, definition={"policyGeneration": chosen}
            )

        message = await refused(create("vague", none), "ValidationException")
        assert re.search("has no statement.*NOT_TRANSLATABLE", message)
        made = await policies.settled(tenant, engine, (await create("read", good))["policyId"])
        assert made["status"] == "ACTIVE", made["statusReasons"]
        assert await policies.in_force(tenant, engine) == {"read": statement(good)}
        assert gateway_arn(tenant) in statement(good)
