"""A gateway's engine and mode: what is there, who may change it, and what may not pass unseen."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from policy_ground import (
    PolicyGround,
    asked,
    engine_arn,
    gateway_arn,
    loosens,
    same,
    transfers,
)

from freehold.kernel.errors import AccessDenied, Conflict, ValidationFailed
from freehold.services.policy.model import MODE_OPERATION


@pytest.fixture(scope="module")
async def shared(
    fresh_dsn: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PolicyGround]:
    state: Path = tmp_path_factory.mktemp("attachments")
    async with PolicyGround(await fresh_dsn(), state).open() as ground:
        yield ground


@pytest.fixture
def ground(shared: PolicyGround) -> PolicyGround:
    shared.scripted.compares = same
    shared.authorizer.may_change_modes = True
    return shared


def configured(tenant: str, engine_id: str, mode: str = "ENFORCE") -> dict[str, str]:
    return {"arn": engine_arn(tenant, engine_id), "mode": mode}


async def change(
    ground: PolicyGround, tenant: str, before: dict[str, str] | None, after: dict[str, str] | None
) -> None:
    await ground.attachments.check(asked(tenant), gateway_arn(tenant), before, after)


async def test_an_engine_must_be_there(ground: PolicyGround, tenant: str) -> None:
    other = str(int(tenant) ^ 1).rjust(12, "0")
    theirs = configured(other, await ground.engine(other))
    absent = configured(tenant, "rules-aaaaaaaaaa")
    elsewhere = configured(tenant, await ground.engine(tenant))
    elsewhere["arn"] = elsewhere["arn"].replace("us-east-1", "us-west-2")
    nonsense = {"arn": "rules", "mode": "ENFORCE"}
    for wanted in (theirs, absent, elsewhere, nonsense):
        with pytest.raises(ValidationFailed, match="no such policy engine"):
            await ground.attachments.check(asked(tenant), None, None, wanted)
        with pytest.raises(ValidationFailed, match="no such policy engine"):
            await change(ground, tenant, None, wanted)


async def test_a_gateway_may_be_made_with_an_engine_by_who_may_make_it(
    ground: PolicyGround, tenant: str
) -> None:
    ground.authorizer.may_change_modes = False
    wanted = configured(tenant, await ground.engine(tenant), "LOG_ONLY")
    await ground.attachments.check(asked(tenant), None, None, wanted)
    assert ground.audit.of(tenant, MODE_OPERATION) == []


async def test_each_change_of_a_gateway_needs_the_permission_and_is_a_line(
    ground: PolicyGround, tenant: str
) -> None:
    one = configured(tenant, await ground.engine(tenant))
    two = configured(tenant, await ground.engine(tenant, "b"))
    log_only = {**one, "mode": "LOG_ONLY"}
    changes = [(None, one), (one, log_only), (log_only, one), (one, two), (two, None)]
    ground.authorizer.may_change_modes = False
    for before, after in changes:
        with pytest.raises(AccessDenied):
            await change(ground, tenant, before, after)
    ground.authorizer.may_change_modes = True
    for before, after in changes:
        await change(ground, tenant, before, after)
    lines = ground.audit.of(tenant, MODE_OPERATION)
    assert [line["outcome"] for line in lines] == ["denied"] * 5 + ["allowed"] * 5
    assert {line["resource"] for line in lines} == {gateway_arn(tenant)}
    assert (lines[5]["from"], lines[5]["to"]) == ("no engine", f"ENFORCE {one['arn']}")
    assert (lines[6]["from"], lines[6]["to"]) == (f"ENFORCE {one['arn']}", f"LOG_ONLY {one['arn']}")


async def test_what_stays_as_it_is_needs_nothing(ground: PolicyGround, tenant: str) -> None:
    ground.authorizer.may_change_modes = False
    here = configured(tenant, await ground.engine(tenant))
    for before, after in ((here, dict(here)), (None, None), (None, {}), ({}, None)):
        await change(ground, tenant, before, after)
    assert ground.audit.of(tenant, MODE_OPERATION) == []


@pytest.mark.parametrize("after", ["LOG_ONLY", "none"])
async def test_a_guarded_gateway_is_let_go_only_acknowledged(
    ground: PolicyGround, tenant: str, after: str
) -> None:
    id, _ = await ground.guarded(tenant)
    before = configured(tenant, id)
    wanted = None if after == "none" else configured(tenant, id, after)
    with pytest.raises(Conflict) as refusal:
        await change(ground, tenant, before, wanted)
    found = re.search(rf"acknowledge {id} ([0-9a-f]{{64}})", refusal.value.message)
    assert found is not None and "would pass" in refusal.value.message
    await ground.loosening.acknowledge(asked(tenant), id, found[1])
    await change(ground, tenant, before, wanted)
    with pytest.raises(Conflict):
        await change(ground, tenant, before, wanted)


async def test_who_enforces_more_is_not_held_up(ground: PolicyGround, tenant: str) -> None:
    id, _ = await ground.guarded(tenant)
    await change(ground, tenant, None, configured(tenant, id))
    await change(ground, tenant, configured(tenant, id, "LOG_ONLY"), configured(tenant, id))
    await change(ground, tenant, configured(tenant, id, "LOG_ONLY"), None)


async def test_another_engine_is_compared_with_the_one_that_guards(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.guarded(tenant)
    other = await ground.engine(tenant, "other")
    await ground.policy(tenant, other, transfers(gateway))
    before, after = configured(tenant, id), configured(tenant, other)
    await change(ground, tenant, before, after)
    ground.scripted.compares = loosens
    with pytest.raises(Conflict, match="newly allowed") as refusal:
        await change(ground, tenant, before, after)
    assert f"acknowledge {id} " in refusal.value.message
    old, new = ground.scripted.compared[-1]
    assert transfers(gateway) in [rule.statement for rule in new]
    assert transfers(gateway) not in [rule.statement for rule in old]


async def test_an_engine_that_is_gone_guards_nothing(ground: PolicyGround, tenant: str) -> None:
    await change(ground, tenant, configured(tenant, "gone-aaaaaaaaaa"), None)
    assert ground.audit.of(tenant, MODE_OPERATION)[0]["to"] == "no engine"
