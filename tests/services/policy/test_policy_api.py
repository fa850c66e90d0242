"""Policy engines and policies with real boto3: made, shown, changed, listed, deleted."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from policy_ground import (
    ANYWHERE,
    BALANCE,
    PolicyGround,
    engine_arn,
    permit,
    transfers,
)

from edge_ground import refused

TOKEN = "a" * 40


@pytest.fixture(scope="module")
async def ground(
    fresh_dsn: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PolicyGround]:
    state: Path = tmp_path_factory.mktemp("policies")
    async with PolicyGround(await fresh_dsn(), state).open() as ground:
        yield ground


@pytest.fixture
def other(tenant: str) -> str:
    return str(int(tenant) ^ 1).rjust(12, "0")


# -- engines


async def test_an_engine_is_active_and_shown_whole(ground: PolicyGround, tenant: str) -> None:
    client = ground.control(tenant)
    made = await client.create_policy_engine(
        name="My_Rules", description="ours", tags={"team": "x", "freehold:loosening": "refuse"}
    )
    id = made["policyEngineId"]
    assert id.startswith("My_Rules-") and len(id) == len("My_Rules-") + 10
    shown = await client.get_policy_engine(policyEngineId=id)
    assert shown["policyEngineArn"] == engine_arn(tenant, id)
    assert (shown["name"], shown["status"], shown["description"], shown["statusReasons"]) == (
        "My_Rules", "ACTIVE", "ours", [],
    )  # fmt: skip
    summary = await client.get_policy_engine_summary(policyEngineId=id)
    assert summary["policyEngineArn"] == shown["policyEngineArn"] and "description" not in summary
    tags = await client.list_tags_for_resource(resourceArn=shown["policyEngineArn"])
    assert tags["tags"]["freehold:loosening"] == "refuse"


async def test_an_engine_is_described_anew_or_not_at_all(ground: PolicyGround, tenant: str) -> None:
    client = ground.control(tenant)
    id = await ground.engine(tenant, description="old")
    changed = await client.update_policy_engine(
        policyEngineId=id, description={"optionalValue": "new"}
    )
    assert changed["description"] == "new"
    assert (await client.update_policy_engine(policyEngineId=id))["description"] == "new"
    assert "description" not in await client.update_policy_engine(policyEngineId=id, description={})


async def test_the_same_client_token_makes_one_engine(ground: PolicyGround, tenant: str) -> None:
    client = ground.control(tenant)
    first = await client.create_policy_engine(name="a", clientToken=TOKEN)
    again = await client.create_policy_engine(name="a", clientToken=TOKEN)
    assert first["policyEngineId"] == again["policyEngineId"]
    await refused(client.create_policy_engine(name="b", clientToken=TOKEN), "ConflictException")
    assert "taken" in await refused(client.create_policy_engine(name="a"), "ConflictException")


async def test_engines_are_listed_in_pages(ground: PolicyGround, tenant: str) -> None:
    client = ground.control(tenant)
    ids = [await ground.engine(tenant, name) for name in ("a", "b", "c")]
    for operation in (client.list_policy_engines, client.list_policy_engine_summaries):
        first = await operation(maxResults=2)
        rest = await operation(maxResults=2, nextToken=first["nextToken"])
        found = [*first["policyEngines"], *rest["policyEngines"]]
        assert [each["policyEngineId"] for each in found] == ids
        assert "nextToken" not in rest


async def test_a_key_of_ones_own_is_refused_in_words(ground: PolicyGround, tenant: str) -> None:
    arn = f"arn:aws:kms:us-east-1:{tenant}:key/12345678-1234-1234-1234-123456789012"
    awaited = ground.control(tenant).create_policy_engine(name="a", encryptionKeyArn=arn)
    assert "leave it out" in await refused(awaited, "ValidationException")


@pytest.mark.parametrize("tag", [{"freehold:loosening": "maybe"}, {"freehold:unheard": "of"}])
async def test_a_setting_that_is_none_is_refused(
    ground: PolicyGround, tenant: str, tag: dict[str, str]
) -> None:
    client = ground.control(tenant)
    await refused(client.create_policy_engine(name="a", tags=tag), "ValidationException")
    arn = engine_arn(tenant, await ground.engine(tenant))
    await refused(client.tag_resource(resourceArn=arn, tags=tag), "ValidationException")


async def test_an_engine_goes_when_nothing_needs_it(ground: PolicyGround, tenant: str) -> None:
    client = ground.control(tenant)
    id = await ground.engine(tenant)
    gateway = ground.gateways.put(tenant, engine=engine_arn(tenant, id))
    policy = await ground.policy(tenant, id, transfers(gateway))
    message = await refused(client.delete_policy_engine(policyEngineId=id), "ConflictException")
    assert "gateways bank" in message
    ground.gateways.put(tenant)
    message = await refused(client.delete_policy_engine(policyEngineId=id), "ConflictException")
    assert "1 policies (one)" in message
    await client.delete_policy(policyEngineId=id, policyId=policy["policyId"])
    gone = await client.delete_policy_engine(policyEngineId=id)
    assert gone["status"] == "DELETING"
    await refused(client.get_policy_engine(policyEngineId=id), "ResourceNotFoundException")


# -- policies


async def test_a_policy_becomes_active_and_is_shown_whole(
    ground: PolicyGround, tenant: str
) -> None:
    client = ground.control(tenant)
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    definition = {"cedar": {"statement": transfers(gateway)}}
    made = await client.create_policy(
        policyEngineId=id, name="Small", definition=definition, description="small transfers"
    )
    assert made["status"] == "CREATING"
    shown = await ground.settled(tenant, id, made["policyId"])
    assert (shown["status"], shown["statusReasons"], shown["enforcementMode"]) == (
        "ACTIVE", [], "ACTIVE",
    )  # fmt: skip
    assert shown["definition"] == definition and shown["description"] == "small transfers"
    assert shown["policyArn"] == f"{engine_arn(tenant, id)}/policy/{made['policyId']}"
    summary = await client.get_policy_summary(policyEngineId=id, policyId=made["policyId"])
    assert summary["status"] == "ACTIVE" and "definition" not in summary
    assert await ground.in_force(tenant, id) == {"Small": transfers(gateway)}


async def test_a_statement_may_come_as_a_policy_or_from_a_generation(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    plain = {"policy": {"statement": transfers(gateway)}}
    assert (await ground.policy(tenant, id, "", "a", definition=plain))["definition"] == plain
    key = (tenant, id, "generation-aaaaaaaaaa", "asset-aaaaaaaaaa")
    ground.generated.statements[key] = transfers(gateway, 5)
    named = {"policyGeneration": {"policyGenerationId": key[2], "policyGenerationAssetId": key[3]}}
    made = await ground.policy(tenant, id, "", "b", definition=named)
    assert made["definition"] == {"cedar": {"statement": transfers(gateway, 5)}}
    named["policyGeneration"]["policyGenerationAssetId"] = "another-aaaaaaaaaa"
    awaited = ground.control(tenant).create_policy(policyEngineId=id, name="c", definition=named)
    assert "generation-aaaaaaaaaa" in await refused(awaited, "ValidationException")


async def test_the_same_client_token_makes_one_policy(ground: PolicyGround, tenant: str) -> None:
    client = ground.control(tenant)
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    given: dict[str, Any] = {
        "policyEngineId": id, "name": "a", "clientToken": TOKEN,
        "definition": {"cedar": {"statement": transfers(gateway)}},
    }  # fmt: skip
    first, again = await client.create_policy(**given), await client.create_policy(**given)
    assert first["policyId"] == again["policyId"]
    assert "taken" in await refused(
        client.create_policy(**{**given, "clientToken": "b" * 40}), "ConflictException"
    )


async def test_a_repeated_request_needs_no_generation_any_more(
    ground: PolicyGround, tenant: str
) -> None:
    client = ground.control(tenant)
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    key = (tenant, id, "generation-aaaaaaaaaa", "asset-aaaaaaaaaa")
    ground.generated.statements[key] = transfers(gateway, 5)
    named = {"policyGenerationId": key[2], "policyGenerationAssetId": key[3]}
    given: dict[str, Any] = {
        "policyEngineId": id,
        "name": "a",
        "clientToken": TOKEN,
        "definition": {"policyGeneration": named},
    }
    first = await client.create_policy(**given)
    del ground.generated.statements[key]
    again = await client.create_policy(**given)
    assert again["policyId"] == first["policyId"]
    assert again["definition"] == {"cedar": {"statement": transfers(gateway, 5)}}


async def test_a_name_that_is_freed_meanwhile_is_no_way_past_the_checks(
    ground: PolicyGround, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ground.control(tenant)
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    found = await ground.policy(tenant, id, transfers(gateway))
    taken = await ground.policies.get(tenant, id, found["policyId"])

    async def find(*_: Any, **__: Any) -> Any:
        await client.delete_policy(policyEngineId=id, policyId=taken.id)
        return taken

    monkeypatch.setattr(ground.resources, "find_by_name", find)
    statement = permit("bank___steal", gateway)
    awaited = client.create_policy(
        policyEngineId=id, name="one", definition={"cedar": {"statement": statement}}
    )
    assert "deleted just now" in await refused(awaited, "ConflictException")
    assert (await client.list_policies(policyEngineId=id))["policies"] == []


async def test_a_policy_of_a_gateway_and_of_all_are_found_by_the_gateway(
    ground: PolicyGround, tenant: str
) -> None:
    client, id = ground.control(tenant), await ground.engine(tenant)
    bank, shop = ground.gateways.put(tenant), ground.gateways.put(tenant, "shop")
    await ground.policy(tenant, id, transfers(bank), "bank")
    await ground.policy(tenant, id, transfers(shop), "shop")
    await ground.policy(tenant, id, ANYWHERE, "all")

    async def names(operation: Any, **scope: str) -> list[str]:
        found, token = [], {}
        while True:
            page = await operation(policyEngineId=id, maxResults=1, **scope, **token)
            found += [each["name"] for each in page["policies"]]
            if "nextToken" not in page:
                return found
            token = {"nextToken": page["nextToken"]}

    for operation in (client.list_policies, client.list_policy_summaries):
        assert await names(operation) == ["bank", "shop", "all"]
        assert await names(operation, targetResourceScope=bank) == ["bank", "all"]
        assert await names(operation, targetResourceScope=shop) == ["shop", "all"]
    assert (await client.list_policies(policyEngineId=await ground.engine(tenant, "none")))[
        "policies"
    ] == []


async def test_a_changed_policy_is_looked_at_before_it_is_in_force(
    ground: PolicyGround, tenant: str
) -> None:
    client = ground.control(tenant)
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    made = await ground.policy(tenant, id, transfers(gateway, 10), description="ten")
    key = {"policyEngineId": id, "policyId": made["policyId"]}
    changed = await client.update_policy(
        **key, definition={"cedar": {"statement": transfers(gateway, 20)}}
    )
    assert changed["status"] == "UPDATING" and "20" in changed["definition"]["cedar"]["statement"]
    assert (await ground.settled(tenant, id, made["policyId"]))["status"] == "ACTIVE"
    assert await ground.in_force(tenant, id) == {"one": transfers(gateway, 20)}
    again = await client.update_policy(**key, description={})
    assert again["status"] == "ACTIVE" and "description" not in again


async def test_a_deleted_policy_is_gone_and_its_name_free(
    ground: PolicyGround, tenant: str
) -> None:
    client = ground.control(tenant)
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    made = await ground.policy(tenant, id, transfers(gateway))
    key = {"policyEngineId": id, "policyId": made["policyId"]}
    assert (await client.delete_policy(**key))["status"] == "DELETING"
    await refused(client.get_policy(**key), "ResourceNotFoundException")
    await refused(client.delete_policy(**key), "ResourceNotFoundException")
    assert await ground.in_force(tenant, id) == {}
    await ground.policy(tenant, id, transfers(gateway))


async def test_other_tenants_see_none_of_it(ground: PolicyGround, tenant: str, other: str) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    made = await ground.policy(tenant, id, transfers(gateway))
    theirs = ground.control(other)
    engine = {"policyEngineId": id}
    policy = {**engine, "policyId": made["policyId"]}
    definition = {"cedar": {"statement": permit(BALANCE, gateway)}}
    for awaited in (
        theirs.get_policy_engine(**engine), theirs.get_policy_engine_summary(**engine),
        theirs.update_policy_engine(**engine, description={}),
        theirs.delete_policy_engine(**engine),
        theirs.create_policy(**engine, name="x", definition=definition),
        theirs.list_policies(**engine), theirs.list_policy_summaries(**engine),
        theirs.get_policy(**policy), theirs.get_policy_summary(**policy),
        theirs.update_policy(**policy, definition=definition), theirs.delete_policy(**policy),
    ):  # fmt: skip
        await refused(awaited, "ResourceNotFoundException")
    assert (await theirs.list_policy_engines())["policyEngines"] == []
    assert (await theirs.list_policy_engine_summaries())["policyEngines"] == []
    assert await ground.in_force(tenant, id) == {"one": transfers(gateway)}
    # Nor is a policy reached through another engine of its own tenant.
    elsewhere = {"policyEngineId": await ground.engine(tenant, "b"), "policyId": made["policyId"]}
    await refused(ground.control(tenant).get_policy(**elsewhere), "ResourceNotFoundException")
