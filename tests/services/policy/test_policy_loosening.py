"""Engines that refuse to be loosened, acknowledgements and modes: who may, and what is told."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from policy_ground import (
    ANYWHERE,
    BALANCE,
    TRANSFER,
    PolicyGround,
    asked,
    engine_arn,
    forbid,
    loosens,
    permit,
    same,
    transfers,
)

from edge_ground import refused
from freehold.adapters.smt.reasoning import SmtReasoning
from freehold.kernel.errors import Conflict, NotFound, Unavailable
from freehold.ports.policies import Rule
from freehold.ports.reasoning import Comparison
from freehold.services.policy.loosening import (
    ACKNOWLEDGE_OPERATION,
    LOOSENING_OPERATION,
    Passage,
)
from freehold.services.policy.model import MODE_OPERATION

IGNORING = {"validationMode": "IGNORE_ALL_FINDINGS"}


@pytest.fixture(scope="module")
async def shared(
    fresh_dsn: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PolicyGround]:
    state: Path = tmp_path_factory.mktemp("loosening")
    async with PolicyGround(await fresh_dsn(), state).open() as ground:
        yield ground


@pytest.fixture
def ground(shared: PolicyGround) -> PolicyGround:
    shared.scripted.compares, shared.scripted.trouble = loosens, None
    shared.scripted.compared.clear()
    shared.authorizer.may_change_modes = True
    return shared


def create(
    ground: PolicyGround, tenant: str, id: str, statement: str, name: str = "one", **more: Any
) -> Any:
    return ground.control(tenant).create_policy(
        policyEngineId=id, name=name,
        **{"definition": {"cedar": {"statement": statement}}, **IGNORING, **more},
    )  # fmt: skip


def digest_in(message: str, engine_id: str) -> str:
    found = re.search(rf"freehold policy acknowledge {engine_id} ([0-9a-f]{{64}})", message)
    assert found is not None, message
    return found[1]


def limit(gateway: str, most: int) -> str:
    return forbid(TRANSFER, gateway, f"context.input.amount > {most}")


# -- what is refused


async def test_a_change_that_allows_more_is_refused_with_the_call(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.guarded(tenant)
    message = await refused(create(ground, tenant, id, transfers(gateway)), "ConflictException")
    assert 'OAuthUser "alice" (claims {"role":"clerk"}) calls "bank___transfer"' in message
    assert '{"amount":2000}' in message and "freehold:loosening" in message
    digest_in(message, id)
    assert await ground.in_force(tenant, id) == {}
    listed = await ground.control(tenant).list_policies(policyEngineId=id)
    assert listed["policies"] == []


async def test_an_acknowledged_change_passes_once(ground: PolicyGround, tenant: str) -> None:
    id, gateway = await ground.guarded(tenant)
    client = ground.control(tenant)
    message = await refused(create(ground, tenant, id, transfers(gateway)), "ConflictException")
    digest = digest_in(message, id)
    shown = await ground.loosening.acknowledge(asked(tenant), id, digest)
    assert '{"amount":2000}' in shown and shown.startswith("CreatePolicy: ")
    other = await refused(create(ground, tenant, id, transfers(gateway, 9)), "ConflictException")
    assert digest_in(other, id) != digest, "another change is another"
    made = await create(ground, tenant, id, transfers(gateway))
    assert await ground.in_force(tenant, id) == {"one": transfers(gateway)}
    key = {"policyEngineId": id, "policyId": made["policyId"]}
    ground.scripted.compares = same
    await client.delete_policy(**key)
    ground.scripted.compares = loosens
    message = await refused(create(ground, tenant, id, transfers(gateway)), "ConflictException")
    assert digest_in(message, id) == digest, "the same change of the same engine"


async def test_a_repeated_request_needs_no_second_acknowledgement(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.guarded(tenant)
    given = {"clientToken": "t" * 40, "validationMode": "FAIL_ON_ANY_FINDINGS"}
    message = await refused(
        create(ground, tenant, id, transfers(gateway), **given), "ConflictException"
    )
    await ground.loosening.acknowledge(asked(tenant), id, digest_in(message, id))
    first = await create(ground, tenant, id, transfers(gateway), **given)
    again = await create(ground, tenant, id, transfers(gateway), **given)
    assert first["policyId"] == again["policyId"]
    assert (await ground.settled(tenant, id, first["policyId"]))["status"] == "ACTIVE"


async def test_one_acknowledgement_lets_one_of_many_through(
    ground: PolicyGround, tenant: str
) -> None:
    """The same statement under one name, asked for at once by many."""
    id, gateway = await ground.guarded(tenant)
    ground.scripted.compares = same
    forbidden = await create(ground, tenant, id, limit(gateway, 5))
    ground.scripted.compares = loosens
    key = {"policyEngineId": id, "policyId": forbidden["policyId"]}
    client = ground.control(tenant)
    message = await refused(client.delete_policy(**key), "ConflictException")
    await ground.loosening.acknowledge(asked(tenant), id, digest_in(message, id))
    answers = await asyncio.gather(
        *(client.delete_policy(**key) for _ in range(4)), return_exceptions=True
    )
    assert sum(not isinstance(each, BaseException) for each in answers) == 1
    assert await ground.in_force(tenant, id) == {}


async def test_who_only_tightens_is_never_asked(ground: PolicyGround, tenant: str) -> None:
    id, gateway = await ground.guarded(tenant)
    ground.scripted.trouble = Unavailable("no solver")
    made = await create(ground, tenant, id, limit(gateway, 5))
    assert made["status"] == "ACTIVE"
    ground.scripted.trouble = None
    ground.scripted.compares = same
    permitted = await create(ground, tenant, id, transfers(gateway), "two")
    ground.scripted.trouble = Unavailable("no solver")
    key = {"policyEngineId": id, "policyId": permitted["policyId"]}
    assert (await ground.control(tenant).delete_policy(**key))["status"] == "DELETING"


@pytest.mark.parametrize("how", ["untold", "undecided", "no solver"])
async def test_what_cannot_be_told_counts_as_loosening(
    ground: PolicyGround, tenant: str, how: str
) -> None:
    id, gateway = await ground.guarded(tenant)

    def untold(old: Sequence[Rule], new: Sequence[Rule]) -> Comparison:
        told = [(TRANSFER, "`like` of a variable")] if how == "untold" else []
        return Comparison(equivalent=None, differences=(), untold=told)

    ground.scripted.compares = untold
    if how == "no solver":
        ground.scripted.trouble = Unavailable("no solver is installed")
    message = await refused(create(ground, tenant, id, transfers(gateway)), "ConflictException")
    assert "it cannot be told" in message


async def test_only_calls_of_the_gateways_that_ask_are_compared(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.guarded(tenant)
    idle = ground.gateways.put(tenant, "idle")
    await create(ground, tenant, id, transfers(idle), "idle")
    assert ground.scripted.compared == []
    await refused(create(ground, tenant, id, transfers(gateway)), "ConflictException")
    ((old, new),) = ground.scripted.compared
    # Both sides deny what is no call of the gateway; a policy of another takes no part.
    assert [rule.statement for rule in old] == [
        f'forbid (principal, action, resource) unless {{ resource == AgentCore::Gateway::"{gateway}" }};'  # noqa: E501
    ]
    assert [rule.statement for rule in new] == [transfers(gateway), old[0].statement]


async def test_an_engine_that_allows_it_is_loosened_without_a_proof(
    ground: PolicyGround, tenant: str
) -> None:
    id = await ground.engine(tenant)
    gateway = ground.gateways.put(tenant, engine=engine_arn(tenant, id))
    assert (await create(ground, tenant, id, transfers(gateway)))["status"] == "ACTIVE"
    assert ground.scripted.compared == []


async def test_what_changes_meanwhile_is_compared_again(ground: PolicyGround, tenant: str) -> None:
    """A permit that a forbid makes harmless, and whose forbid goes while it is looked at."""
    id, gateway = await ground.guarded(tenant)
    ground.scripted.compares = same
    wall = await create(ground, tenant, id, limit(gateway, 5), "wall")
    ground.scripted.gate = asyncio.Event()
    try:
        made = await create(
            ground, tenant, id, transfers(gateway), validationMode="FAIL_ON_ANY_FINDINGS"
        )
        key = {"policyEngineId": id, "policyId": wall["policyId"]}
        await ground.control(tenant).delete_policy(**key)
        ground.scripted.compares = loosens
    finally:
        ground.scripted.gate.set()
        ground.scripted.gate = None
    failed = await ground.settled(tenant, id, made["policyId"])
    assert failed["status"] == "CREATE_FAILED"
    assert "changed meanwhile" in failed["statusReasons"][0]
    assert await ground.in_force(tenant, id) == {}


# -- acknowledgements


async def test_only_what_was_refused_here_can_be_acknowledged(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.guarded(tenant)
    message = await refused(create(ground, tenant, id, transfers(gateway)), "ConflictException")
    digest = digest_in(message, id)
    other = str(int(tenant) ^ 1).rjust(12, "0")
    for who, engine, what in (
        (tenant, id, "f" * 64), (other, id, digest), (tenant, "none-aaaaaaaaaa", digest),
        (tenant, await ground.engine(tenant, "b"), digest),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            await ground.loosening.acknowledge(asked(who), engine, what)
    await refused(create(ground, tenant, id, transfers(gateway)), "ConflictException")


async def test_an_acknowledgement_is_good_for_a_day(ground: PolicyGround, tenant: str) -> None:
    id, gateway = await ground.guarded(tenant)
    message = await refused(create(ground, tenant, id, transfers(gateway)), "ConflictException")
    await ground.loosening.acknowledge(asked(tenant), id, digest_in(message, id))
    async with ground.database.transaction() as connection:
        await connection.execute(
            "UPDATE policy_acknowledgements SET acknowledged_at = now() - interval '25 hours'"
            " WHERE tenant = %s",
            (tenant,),
        )
    await refused(create(ground, tenant, id, transfers(gateway)), "ConflictException")


async def test_refusals_and_acknowledgements_are_in_the_audit(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.guarded(tenant)
    arn = engine_arn(tenant, id)
    message = await refused(create(ground, tenant, id, transfers(gateway)), "ConflictException")
    digest = digest_in(message, id)
    await ground.loosening.acknowledge(asked(tenant, "the boss"), id, digest)
    await create(ground, tenant, id, transfers(gateway))
    lines = ground.audit.of(tenant, LOOSENING_OPERATION)
    assert [(each["outcome"], each["digest"], each["resource"]) for each in lines] == [
        ("denied", digest, arn), ("allowed", digest, arn),
    ]  # fmt: skip
    (given,) = ground.audit.of(tenant, ACKNOWLEDGE_OPERATION)
    assert given["digest"] == digest and '{"amount":2000}' in given["change"]
    (event,) = [
        each
        for each in ground.audit.events
        if (each.tenant, each.operation) == (tenant, ACKNOWLEDGE_OPERATION)
    ]
    assert (event.principal, event.phase) == ("the boss", "decision")


# -- modes


async def test_a_mode_changes_with_its_own_permission_alone(
    ground: PolicyGround, tenant: str
) -> None:
    id = await ground.engine(tenant)
    gateway = ground.gateways.put(tenant, engine=engine_arn(tenant, id))
    made = await create(ground, tenant, id, transfers(gateway), enforcementMode="LOG_ONLY")
    assert made["enforcementMode"] == "LOG_ONLY", "made so, nobody need be asked"
    client, key = ground.control(tenant), {"policyEngineId": id, "policyId": made["policyId"]}
    ground.authorizer.may_change_modes = False
    await refused(client.update_policy(**key, enforcementMode="ACTIVE"), "AccessDeniedException")
    assert (await client.get_policy(**key))["enforcementMode"] == "LOG_ONLY"
    await client.update_policy(**key, enforcementMode="LOG_ONLY", description={})
    ground.authorizer.may_change_modes = True
    await client.update_policy(**key, enforcementMode="ACTIVE")
    active = await ground.settled(tenant, id, made["policyId"])
    assert (active["status"], active["enforcementMode"]) == ("ACTIVE", "ACTIVE")
    assert (MODE_OPERATION, engine_arn(tenant, id)) in ground.authorizer.asked
    change = {
        "resource": engine_arn(tenant, id), "policy": made["policyId"],
        "from": "LOG_ONLY", "to": "ACTIVE",
    }  # fmt: skip
    assert ground.audit.of(tenant, MODE_OPERATION) == [
        {"outcome": "denied", **change}, {"outcome": "allowed", **change},
    ]  # fmt: skip


async def test_a_policy_that_is_to_decide_no_longer_stops_at_once(
    ground: PolicyGround, tenant: str
) -> None:
    id = await ground.engine(tenant)
    gateway = ground.gateways.put(tenant, engine=engine_arn(tenant, id))
    made = await create(ground, tenant, id, transfers(gateway))
    ground.gateways.put(tenant, engine=engine_arn(tenant, id), tools=())
    changed = await ground.control(tenant).update_policy(
        policyEngineId=id, policyId=made["policyId"], enforcementMode="LOG_ONLY"
    )
    assert (changed["status"], changed["enforcementMode"]) == ("ACTIVE", "LOG_ONLY")
    row = await ground.store.load(tenant, id)
    assert [(each.mode, each.version) for each in row.policies] == [("LOG_ONLY", 2)]


async def test_a_forbid_that_is_only_recorded_loosens(ground: PolicyGround, tenant: str) -> None:
    id, gateway = await ground.guarded(tenant)
    ground.scripted.compares = same
    made = await create(ground, tenant, id, limit(gateway, 5))
    ground.scripted.compares = loosens
    awaited = ground.control(tenant).update_policy(
        policyEngineId=id, policyId=made["policyId"], enforcementMode="LOG_ONLY"
    )
    message = await refused(awaited, "ConflictException")
    await ground.loosening.acknowledge(asked(tenant), id, digest_in(message, id))
    changed = await ground.control(tenant).update_policy(
        policyEngineId=id, policyId=made["policyId"], enforcementMode="LOG_ONLY"
    )
    assert changed["enforcementMode"] == "LOG_ONLY"


async def test_a_log_only_policy_that_is_made_or_deleted_loosens_nothing(
    ground: PolicyGround, tenant: str
) -> None:
    id, _ = await ground.guarded(tenant)
    made = await create(ground, tenant, id, ANYWHERE, enforcementMode="LOG_ONLY")
    await ground.control(tenant).delete_policy(policyEngineId=id, policyId=made["policyId"])
    assert ground.scripted.compared == []


async def test_an_acknowledgement_used_meanwhile_is_none(ground: PolicyGround, tenant: str) -> None:
    id, gateway = await ground.guarded(tenant)
    message = await refused(create(ground, tenant, id, transfers(gateway)), "ConflictException")
    digest = digest_in(message, id)
    await ground.loosening.acknowledge(asked(tenant), id, digest)
    row = await ground.store.load(tenant, id)
    passage = Passage(engine_id=id, version=row.version, digest=digest)
    async with ground.store.changing(tenant, id) as connection:
        await ground.loosening.use(connection, tenant, passage)
    with pytest.raises(Conflict):
        async with ground.store.changing(tenant, id) as connection:
            await ground.loosening.use(connection, tenant, passage)


async def test_who_may_only_tag_does_not_lift_the_guard(ground: PolicyGround, tenant: str) -> None:
    id, _ = await ground.guarded(tenant)
    arn, client = engine_arn(tenant, id), ground.control(tenant)
    ground.authorizer.may_change_modes = False
    await client.tag_resource(resourceArn=arn, tags={"freehold:loosening": "refuse", "team": "x"})
    for awaited in (
        client.tag_resource(resourceArn=arn, tags={"freehold:loosening": "allow"}),
        client.untag_resource(resourceArn=arn, tagKeys=["team", "freehold:loosening"]),
    ):
        await refused(awaited, "AccessDeniedException")
    await client.untag_resource(resourceArn=arn, tagKeys=["team"])
    shown = await client.list_tags_for_resource(resourceArn=arn)
    assert shown["tags"] == {"freehold:loosening": "refuse"}
    ground.authorizer.may_change_modes = True
    await client.untag_resource(resourceArn=arn, tagKeys=["freehold:loosening"])
    lines = ground.audit.of(tenant, MODE_OPERATION)
    assert {(each["from"], each["to"]) for each in lines} == {("refuse", "allow")}
    assert [each["outcome"] for each in lines] == ["denied", "denied", "allowed"]


# -- with the real prover


@pytest.fixture(scope="module")
async def proving(
    fresh_dsn: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PolicyGround]:
    state: Path = tmp_path_factory.mktemp("proving")
    reasoning = SmtReasoning()
    try:
        async with PolicyGround(await fresh_dsn(), state, proofs=reasoning).open() as ground:
            yield ground
    finally:
        await reasoning.close()


async def test_a_limit_may_be_lowered_and_not_raised(proving: PolicyGround, tenant: str) -> None:
    id, gateway = await proving.guarded(tenant)
    client = proving.control(tenant)
    message = await refused(create(proving, tenant, id, transfers(gateway)), "ConflictException")
    assert f'calls "{TRANSFER}" with' in message
    await proving.loosening.acknowledge(asked(tenant), id, digest_in(message, id))
    made = await proving.policy(tenant, id, transfers(gateway))
    assert (made["status"], made["statusReasons"]) == ("ACTIVE", [])
    key = {"policyEngineId": id, "policyId": made["policyId"]}
    wider = {"cedar": {"statement": transfers(gateway, 1001)}}
    message = await refused(client.update_policy(**key, definition=wider), "ConflictException")
    assert '"amount":1001' in message
    narrower = {"cedar": {"statement": transfers(gateway, 999)}}
    await client.update_policy(**key, definition=narrower)
    assert (await proving.settled(tenant, id, made["policyId"]))["status"] == "ACTIVE"
    assert await proving.in_force(tenant, id) == {"one": transfers(gateway, 999)}


async def test_a_policy_for_all_newly_allows_nothing_that_a_forbid_of_the_gateway_takes(
    proving: PolicyGround, tenant: str
) -> None:
    """Whatever it allows at other gateways: none of them asks this engine."""
    id, gateway = await proving.guarded(tenant)
    wall = f'forbid (principal, action, resource == AgentCore::Gateway::"{gateway}");'
    await create(proving, tenant, id, wall, "wall")
    made = await create(proving, tenant, id, ANYWHERE)
    assert made["status"] == "ACTIVE"


async def test_what_always_or_never_holds_is_found(proving: PolicyGround, tenant: str) -> None:
    id, gateway = await proving.guarded(tenant)
    never = forbid(TRANSFER, gateway, "context.input.amount > 5 && context.input.amount < 5")
    failed = await proving.policy(tenant, id, never)
    assert failed["status"] == "CREATE_FAILED"
    assert failed["statusReasons"][0].startswith(f"DENY_NONE (gateway bank, {TRANSFER}): ")
    errs = forbid(TRANSFER, gateway, "context.input.amount * 2 > 10")
    failed = await proving.policy(tenant, id, errs, "two")
    assert failed["status"] == "CREATE_FAILED"
    assert (
        failed["statusReasons"][0].startswith("MAY_ERROR")
        and "for example" in (failed["statusReasons"][0])
    )
    always = f'forbid (principal, action, resource == AgentCore::Gateway::"{gateway}");'
    failed = await proving.policy(tenant, id, always, "three")
    assert failed["statusReasons"][0].startswith("DENY_ALL")


async def test_tools_that_are_yet_to_come_are_calls_too(proving: PolicyGround, tenant: str) -> None:
    """Each tool of today is allowed by its name: a policy for all allows those of tomorrow."""
    id, gateway = await proving.guarded(tenant)
    for number, tool in enumerate((BALANCE, TRANSFER)):
        given = (proving, tenant, id, permit(tool, gateway, "true"), f"p{number}")
        message = await refused(create(*given), "ConflictException")
        await proving.loosening.acknowledge(asked(tenant), id, digest_in(message, id))
        await create(*given)
    message = await refused(create(proving, tenant, id, ANYWHERE), "ConflictException")
    assert 'calls "(any other tool)" with {}' in message
    assert TRANSFER not in message
