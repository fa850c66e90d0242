"""What is refused at once, what an analysis finds, and what survives a crash in the middle."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from policy_ground import (
    ANYWHERE,
    BALANCE,
    TRANSFER,
    PolicyGround,
    engine_arn,
    example,
    forbid,
    gateway_arn,
    permit,
    transfers,
)

from edge_ground import refused
from freehold.kernel.errors import Unavailable
from freehold.ports.jobs import JobState
from freehold.ports.reasoning import Finding, Property
from freehold.services.policy import policies as policies_module
from freehold.services.policy.analysis import ANALYSIS_JOB


@pytest.fixture(scope="module")
async def ground(
    fresh_dsn: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PolicyGround]:
    state: Path = tmp_path_factory.mktemp("validation")
    async with PolicyGround(await fresh_dsn(), state).open() as ground:
        yield ground


@pytest.fixture(autouse=True)
def silent(ground: PolicyGround) -> None:
    ground.scripted.says, ground.scripted.trouble = [], None


def made(ground: PolicyGround, tenant: str, id: str, statement: str, **more: Any) -> Any:
    return ground.control(tenant).create_policy(
        policyEngineId=id,
        **{"name": "one", "definition": {"cedar": {"statement": statement}}, **more},
    )


# -- at once

SCOPE = 'permit (principal, action == AgentCore::Action::"bank___transfer", '
HERE = 'resource == AgentCore::Gateway::"<gateway>")'
REFUSED = [
    ("permit (principal, action, resource) when { 1 = 1 };", "'=' is not a valid operator"),
    ("permit (principal, action, resource);" * 2, "exactly one policy, and there are 2"),
    ("// nothing but a comment, which is long enough", "exactly one policy, and there are 0"),
    ("permit (principal == ?principal, action, resource);", "is a template"),
    (SCOPE + "resource);", "does not say which"),
    (SCOPE + "resource is AgentCore::Gateway);", "does not say which"),
    (SCOPE + 'resource in AgentCore::Gateway::"<gateway>");', "does not say which"),
    (
        'permit (principal, action in AgentCore::Action::"bank", resource);',
        "bank is of one gateway",
    ),
    (SCOPE + 'resource == AgentCore::Gateway::"arn:none");', "no such gateway: arn:none"),
    (SCOPE + 'resource == AgentCore::Runtime::"<gateway>");', "expected one of the type"),
    (SCOPE + HERE + " when { context.input.amount == true };", "does not fit the tools"),
    (SCOPE + HERE + " when { context.input.ammount > 1 };", "ammount"),
    (SCOPE + HERE + ' when { context.input.to == "x" };', "to"),
    (SCOPE.replace("transfer", "steal") + HERE + ";", "steal"),
    (SCOPE + HERE + " when { " + "(" * 200 + "true" + ")" * 200 + " };", "brackets"),
]


@pytest.mark.parametrize(("statement", "words"), REFUSED)
async def test_what_cannot_be_a_policy_is_refused_in_words(
    ground: PolicyGround, tenant: str, statement: str, words: str
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    awaited = made(ground, tenant, id, statement.replace("<gateway>", gateway))
    assert words in await refused(awaited, "ValidationException")
    assert await ground.in_force(tenant, id) == {}


async def test_a_statement_has_ten_thousand_bytes_at_most(
    ground: PolicyGround, tenant: str
) -> None:
    """Bytes: the API's model counts characters."""
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    text = permit(TRANSFER, gateway, 'context.input.amount == 1 && "<>" == "x"')
    text = text.replace("<>", "ü" * 4990)
    assert len(text) < 10_000 < len(text.encode())
    assert "10000 bytes" in await refused(made(ground, tenant, id, text), "ValidationException")


async def test_another_tenants_gateway_is_no_gateway(ground: PolicyGround, tenant: str) -> None:
    other = str(int(tenant) ^ 1).rjust(12, "0")
    theirs = ground.gateways.put(other)
    awaited = made(ground, tenant, await ground.engine(tenant), transfers(theirs))
    assert f"no such gateway: {theirs}" in await refused(awaited, "ValidationException")


async def test_a_policy_for_all_fits_each_gateway_that_uses_the_engine(
    ground: PolicyGround, tenant: str
) -> None:
    id = await ground.engine(tenant)
    arn = engine_arn(tenant, id)
    text = (
        'permit (principal, action in AgentCore::Action::"CallTool", resource) '
        "when { context.input.account == 1 };"
    )
    ground.gateways.put(tenant, "elsewhere")
    assert (await ground.policy(tenant, id, text, "early"))["statusReasons"] == [
        "no gateway with tools uses the engine yet, so that nothing could be proven of the policy"
    ]
    ground.gateways.put(tenant, engine=arn)
    assert "gateway bank" in await refused(made(ground, tenant, id, text), "ValidationException")
    assert (await ground.policy(tenant, id, ANYWHERE))["status"] == "ACTIVE"


async def test_the_statements_for_one_gateway_have_a_limit_together(
    ground: PolicyGround, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await ground.engine(tenant)
    bank, shop = ground.gateways.put(tenant), ground.gateways.put(tenant, "shop")
    size = len(transfers(bank))
    monkeypatch.setattr(policies_module, "ENGINE_BYTES_MAX", 2 * size + len(ANYWHERE))
    await ground.policy(tenant, id, transfers(bank), "a")
    await ground.policy(tenant, id, ANYWHERE, "b")
    second = await ground.policy(tenant, id, transfers(bank), "c")
    await ground.policy(tenant, id, transfers(shop), "d")
    awaited = made(ground, tenant, id, transfers(bank), name="e")
    assert "bytes at most" in await refused(awaited, "ServiceQuotaExceededException")
    awaited = ground.control(tenant).update_policy(
        policyEngineId=id, policyId=second["policyId"],
        definition={"cedar": {"statement": transfers(bank, 10_000_000)}},
    )  # fmt: skip
    await refused(awaited, "ServiceQuotaExceededException")
    assert len(await ground.in_force(tenant, id)) == 4


async def test_an_engine_has_so_many_policies_at_most(
    ground: PolicyGround, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    monkeypatch.setattr(policies_module, "POLICIES_MAX", 2)
    answers = await asyncio.gather(
        *(made(ground, tenant, id, transfers(gateway), name=name) for name in ("a", "b", "c")),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Exception) for each in answers) == 1
    assert len((await ground.control(tenant).list_policies(policyEngineId=id))["policies"]) == 2


# -- the analysis


def finding(property: Property, **members: Any) -> Finding:
    return Finding(property=property, **members)


@pytest.mark.parametrize(
    "property",
    [Property.ALLOW_ALL, Property.ALLOW_NONE, Property.DENY_ALL, Property.DENY_NONE,
     Property.INVALID],
)  # fmt: skip
async def test_findings_that_count_fail_a_policy(
    ground: PolicyGround, tenant: str, property: Property
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    ground.scripted.says = [("<= 7", finding(property, actions=[TRANSFER]))]
    failed = await ground.policy(tenant, id, transfers(gateway, 7))
    assert failed["status"] == "CREATE_FAILED"
    (line,) = failed["statusReasons"]
    assert line.startswith(f"{property} (gateway bank, {TRANSFER}): ")
    assert await ground.in_force(tenant, id) == {}
    assert failed["definition"]["cedar"]["statement"] == transfers(gateway, 7)


@pytest.mark.parametrize(
    "property",
    [Property.UNSUPPORTED, Property.UNDECIDED, Property.MAY_ERROR, Property.REDUNDANT],
)
async def test_other_findings_are_noted(
    ground: PolicyGround, tenant: str, property: Property
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    await ground.policy(tenant, id, transfers(gateway, 8), "other")
    ground.scripted.says = [("<= 7", finding(property, description="why not"))]
    noted = await ground.policy(tenant, id, transfers(gateway, 7))
    assert noted["status"] == "ACTIVE"
    assert noted["statusReasons"][0] == f"{property} (gateway bank): why not"


async def test_a_forbid_that_may_err_fails_with_the_request_that_shows_it(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    ground.scripted.says = [("> 7", finding(Property.MAY_ERROR, example=example(7)))]
    statement = forbid(TRANSFER, gateway, "context.input.amount > 7")
    failed = await ground.policy(tenant, id, statement)
    assert failed["status"] == "CREATE_FAILED"
    assert failed["statusReasons"][0].endswith(
        'for example OAuthUser "alice" (claims {"role":"clerk"}) calls "bank___transfer" '
        'with {"amount":7}'
    )


async def test_whoever_ignores_findings_waits_for_none(ground: PolicyGround, tenant: str) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    ground.scripted.says = [("<= 7", finding(Property.ALLOW_ALL))]
    ignoring = {"validationMode": "IGNORE_ALL_FINDINGS"}
    answer = await made(ground, tenant, id, transfers(gateway, 7), **ignoring)
    assert answer["status"] == "ACTIVE"
    assert await ground.in_force(tenant, id) == {"one": transfers(gateway, 7)}
    wrong = permit(TRANSFER, gateway, "context.input.ammount > 1")
    awaited = made(ground, tenant, id, wrong, name="two", **ignoring)
    assert "ammount" in await refused(awaited, "ValidationException")


async def test_a_policy_for_all_may_be_idle_at_one_gateway(
    ground: PolicyGround, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await ground.engine(tenant)
    arn = engine_arn(tenant, id)
    ground.gateways.put(tenant, engine=arn)
    ground.gateways.put(tenant, "shop", engine=arn)
    none = finding(Property.ALLOW_NONE)
    found = iter([[none], [], [none], [none]])

    async def analysed(rules: Any, *_: Any) -> list[Finding]:
        return [Finding(property=each.property, policy=rules[0].id) for each in next(found)]

    monkeypatch.setattr(ground.analysis, "_analysed", analysed)
    once = await ground.policy(tenant, id, ANYWHERE, "once")
    assert (once["status"], len(once["statusReasons"])) == ("ACTIVE", 1)
    # Two are looked at together with the first: nothing more is found.
    found = iter([[none], [none]])
    assert (await ground.policy(tenant, id, ANYWHERE, "never"))["status"] == "CREATE_FAILED"


async def test_a_change_that_fails_leaves_what_is_in_force_and_says_so(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    old = await ground.policy(tenant, id, transfers(gateway, 10), description="ten")
    ground.scripted.says = [("<= 7", finding(Property.ALLOW_ALL))]
    key = {"policyEngineId": id, "policyId": old["policyId"]}
    await ground.control(tenant).update_policy(
        **key, definition={"cedar": {"statement": transfers(gateway, 7)}},
        description={"optionalValue": "seven"},
    )  # fmt: skip
    failed = await ground.settled(tenant, id, old["policyId"])
    assert failed["status"] == "UPDATE_FAILED"
    assert failed["statusReasons"][-1] == "version 1 of the policy stays in force"
    assert (failed["definition"], failed["description"]) == (old["definition"], "ten")
    assert await ground.in_force(tenant, id) == {"one": transfers(gateway, 10)}
    await ground.control(tenant).update_policy(
        **key, definition={"cedar": {"statement": transfers(gateway, 8)}}
    )
    good = await ground.settled(tenant, id, old["policyId"])
    assert (good["status"], good["statusReasons"]) == ("ACTIVE", [])


async def test_a_change_that_fails_gives_its_room_back(
    ground: PolicyGround, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    old = await ground.policy(tenant, id, transfers(gateway, 10))
    long = transfers(gateway, 7) + " " * 100
    monkeypatch.setattr(policies_module, "ENGINE_BYTES_MAX", len(long) + 50)
    ground.scripted.says = [("<= 7", finding(Property.ALLOW_ALL))]
    await ground.control(tenant).update_policy(
        policyEngineId=id, policyId=old["policyId"], definition={"cedar": {"statement": long}}
    )
    assert (await ground.settled(tenant, id, old["policyId"]))["status"] == "UPDATE_FAILED"
    monkeypatch.setattr(policies_module, "ENGINE_BYTES_MAX", 2 * len(transfers(gateway, 10)))
    assert (await ground.policy(tenant, id, transfers(gateway, 20), "two"))["status"] == "ACTIVE"


async def test_a_policy_that_failed_can_be_put_right(ground: PolicyGround, tenant: str) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    ground.scripted.says = [("<= 7", finding(Property.ALLOW_ALL))]
    failed = await ground.policy(tenant, id, transfers(gateway, 7))
    key = {"policyEngineId": id, "policyId": failed["policyId"]}
    await ground.control(tenant).update_policy(
        **key, definition={"cedar": {"statement": transfers(gateway, 8)}}
    )
    good = await ground.settled(tenant, id, failed["policyId"])
    assert good["status"] == "ACTIVE"
    assert await ground.in_force(tenant, id) == {"one": transfers(gateway, 8)}


async def test_without_a_solver_nothing_is_taken_unproven(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    ground.scripted.trouble = Unavailable("no solver is installed")
    failed = await ground.policy(tenant, id, transfers(gateway))
    assert failed["status"] == "CREATE_FAILED"
    assert failed["statusReasons"][0].startswith("no solver is installed")
    assert "IGNORE_ALL_FINDINGS" in failed["statusReasons"][0]


async def test_a_fault_of_our_own_leaves_no_policy_waiting(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    ground.scripted.trouble = RuntimeError("secret of the platform")
    failed = await ground.policy(tenant, id, transfers(gateway))
    assert failed["status"] == "CREATE_FAILED" and "secret" not in str(failed["statusReasons"])


async def test_a_gateway_that_goes_meanwhile_fails_its_policy(
    ground: PolicyGround, tenant: str
) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    old = await ground.policy(tenant, id, transfers(gateway))
    del ground.gateways.by_arn[tenant, gateway_arn(tenant)]
    awaited = ground.control(tenant).update_policy(
        policyEngineId=id, policyId=old["policyId"], definition=old["definition"]
    )
    assert "no such gateway" in await refused(awaited, "ValidationException")


# -- races and crashes


async def test_of_two_changes_at_once_one_is_made(ground: PolicyGround, tenant: str) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    policy = await ground.policy(tenant, id, transfers(gateway, 10))
    changes = [
        ground.control(tenant).update_policy(
            policyEngineId=id, policyId=policy["policyId"],
            definition={"cedar": {"statement": transfers(gateway, most)}},
            validationMode=mode,
        )
        for most, mode in (
            (20, "IGNORE_ALL_FINDINGS"), (30, "IGNORE_ALL_FINDINGS"), (40, "FAIL_ON_ANY_FINDINGS"),
        )
    ]  # fmt: skip
    answers = await asyncio.gather(*changes, return_exceptions=True)
    made = [each for each in answers if not isinstance(each, BaseException)]
    assert made, answers
    for each in answers:
        if isinstance(each, BaseException):
            assert "ConflictException" in str(each)
    settled = await ground.settled(tenant, id, policy["policyId"])
    row = await ground.store.load(tenant, id)
    assert row.policies[0].statement == settled["definition"]["cedar"]["statement"]
    assert row.policies[0].version == 1 + len(made)


async def test_a_policy_that_is_looked_at_is_left_alone(ground: PolicyGround, tenant: str) -> None:
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    ground.scripted.gate = asyncio.Event()
    try:
        policy = await made(ground, tenant, id, transfers(gateway))
        key = {"policyEngineId": id, "policyId": policy["policyId"]}
        client = ground.control(tenant)
        for awaited in (
            client.delete_policy(**key),
            client.update_policy(**key, description={"optionalValue": "x"}),
            client.update_policy(**key, enforcementMode="LOG_ONLY"),
            client.delete_policy_engine(policyEngineId=id),
        ):
            await refused(awaited, "ConflictException")
    finally:
        ground.scripted.gate.set()
        ground.scripted.gate = None
    assert (await ground.settled(tenant, id, policy["policyId"]))["status"] == "ACTIVE"


async def test_what_a_crash_left_is_taken_up(fresh_dsn: Any, tenant: str, tmp_path: Path) -> None:
    """Of two policies: one whose job is in the middle, and one whose job was never written."""
    dsn = await fresh_dsn()
    async with PolicyGround(dsn, tmp_path, executor="same").open() as first:
        id, gateway = await first.engine(tenant), first.gateways.put(tenant)
        old = await first.policy(tenant, id, transfers(gateway, 10), "middle")
        first.scripted.gate = asyncio.Event()
        before = len(first.scripted.analysed)
        middle = await first.control(tenant).update_policy(
            policyEngineId=id, policyId=old["policyId"],
            definition={"cedar": {"statement": transfers(gateway, 20)}},
        )  # fmt: skip

        async def analysing() -> bool:
            return len(first.scripted.analysed) > before

        await first.until(analysing)
        first.analysis.enqueue = _never  # type: ignore[method-assign]
        lost = await made(first, tenant, id, transfers(gateway), name="lost")
    assert (middle["status"], lost["status"]) == ("UPDATING", "CREATING")

    second = PolicyGround(dsn, tmp_path, executor="same")
    second.gateways.put(tenant)
    async with second.open():
        assert (await second.settled(tenant, id, old["policyId"]))["status"] == "ACTIVE"
        assert (await second.settled(tenant, id, lost["policyId"]))["status"] == "ACTIVE"
        assert await second.in_force(tenant, id) == {
            "middle": transfers(gateway, 20), "lost": transfers(gateway),
        }  # fmt: skip


async def test_a_policy_whose_job_gave_up_says_so_after_a_restart(
    fresh_dsn: Any, tenant: str, tmp_path: Path
) -> None:
    dsn = await fresh_dsn()
    async with PolicyGround(dsn, tmp_path).open() as first:
        id, gateway = await first.engine(tenant), first.gateways.put(tenant)
        first.analysis._settle = _unavailable  # type: ignore[method-assign]
        waiting = await made(first, tenant, id, transfers(gateway))
        job = f"{ANALYSIS_JOB}-{tenant}-{id}-{waiting['policyId']}-1"

        async def gave_up() -> bool:
            found = await first.jobs.get(job)
            return found is not None and found.state is JobState.FAILED

        await first.until(gave_up)
    async with PolicyGround(dsn, tmp_path).open() as second:
        failed = await second.settled(tenant, id, waiting["policyId"])
    assert failed["status"] == "CREATE_FAILED"
    assert "it could not be looked at (no database)" in failed["statusReasons"][0]


async def _never(_: Any) -> None:
    return None


async def _unavailable(engine: Any, policy: Any) -> None:
    raise Unavailable("no database")


async def test_a_statement_of_a_balance_reads(ground: PolicyGround, tenant: str) -> None:
    """The seeds' own rules fit."""
    id, gateway = await ground.engine(tenant), ground.gateways.put(tenant)
    rules = {
        "balances": permit(BALANCE, gateway, "true"),
        "small": transfers(gateway),
        "managers": forbid(
            TRANSFER, gateway,
            'context.input.amount > 1000 && !(principal.hasTag("approved_by") && '
            'principal.getTag("approved_by") == "manager")',
        ),
    }  # fmt: skip
    for name, text in rules.items():
        assert (await ground.policy(tenant, id, text, name))["status"] == "ACTIVE"
    assert await ground.in_force(tenant, id) == rules
