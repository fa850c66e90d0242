"""Why a call is allowed or denied, told policy by policy."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from explained_bank import (
    BALANCE,
    ENGINE_ID,
    GATEWAY_ARN,
    GATEWAY_ID,
    REGION,
    REQUEST,
    STRANGER,
    TENANT,
    TRANSFER,
    Bank,
    cedar,
    gateway,
    rows,
)

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.ports.secrets import SealBroken
from freehold.services.policy.decision_lines import Inputs
from freehold.services.policy.decision_store import Kept
from freehold.services.policy.explaining import Explaining, Explanation, Hypothetical, SessionGiven
from freehold.services.policy.schema import gateway_schema

CLERK = {"role": "clerk"}
MANAGER = {"role": "clerk", "manager_approval": "true"}
FAILING = (
    f'forbid (principal, action == AgentCore::Action::"{TRANSFER}", '
    f'resource == AgentCore::Gateway::"{GATEWAY_ARN}") '
    "when { context.input.amount + 9223372036854775807 > 0 };"
)


class Log:
    """Decisions that were recorded, with their inputs as nobody sealed them."""

    def __init__(self, **kept: tuple[Kept, Inputs | None]) -> None:
        self._kept = kept

    async def get(self, tenant: str, id: str) -> Kept:
        if id not in self._kept or self._kept[id][0].tenant != tenant:
            raise NotFound(f"policy decision {id!r} does not exist")
        return self._kept[id][0]

    def open(self, kept: Kept) -> Inputs:
        inputs = next(inputs for each, inputs in self._kept.values() if each is kept)
        if inputs is None:
            raise SealBroken("no such key")
        return inputs


def explaining(bank: Bank, log: Log | None = None) -> Explaining:
    return Explaining(
        engine=CedarEngine(), statements=CedarStatements(), engines=bank, gateways=bank,
        decisions=log or Log(), region=REGION,
    )  # fmt: skip


async def explained(bank: Bank | None = None, **given: Any) -> Explanation:
    given = {"tool": TRANSFER, "arguments": transfer(5), "claims": CLERK, **given}
    asked = Hypothetical(gateway_id=GATEWAY_ID, **given)
    return await explaining(bank or Bank(rows(cedar()))).call(REQUEST, asked)


def transfer(amount: object) -> dict[str, Any]:
    return {"from": "a", "to": "b", "amount": amount}


def outcomes(explanation: Explanation) -> dict[str, tuple[str, bool]]:
    return {each.name: (each.outcome, each.decided) for each in explanation.policies}


async def test_a_permit_decides_where_no_forbid_speaks() -> None:
    found = await explained()
    assert found.allowed
    assert outcomes(found) == {
        "transfers": ("fulfilled", True), "large_transfers": ("not fulfilled", False),
    }  # fmt: skip
    assert "permits it" in found.why


async def test_a_forbid_wins_and_gives_its_reason() -> None:
    found = await explained(arguments=transfer(2000))
    assert not found.allowed
    assert outcomes(found) == {
        "transfers": ("fulfilled", False), "large_transfers": ("fulfilled", True),
    }  # fmt: skip
    (forbid,) = [each for each in found.policies if each.effect == "forbid"]
    assert forbid.reason == "Transfers over 1000 need a manager's approval."
    assert "a policy forbids it" in found.why


async def test_claims_change_the_answer() -> None:
    assert (await explained(arguments=transfer(2000), claims=MANAGER)).allowed
    nobody = await explained(claims={})
    assert not nobody.allowed
    assert "no policy permits it" in nobody.why
    assert not any(each.decided for each in nobody.policies)


async def test_only_policies_that_speak_of_the_tool_are_named() -> None:
    found = await explained(tool=BALANCE, arguments={"account": "a"})
    assert outcomes(found) == {"balances": ("fulfilled", True)}


async def test_a_policy_of_a_group_speaks_of_its_tools() -> None:
    group = 'forbid (principal, action in AgentCore::Action::"CallTool", resource);'
    found = await explained(Bank(rows(f"{cedar()}\n{group}")))
    assert outcomes(found)["policy3"] == ("fulfilled", True)


async def test_one_that_only_logs_is_named_and_takes_no_part() -> None:
    found = await explained(
        Bank(rows(cedar(), large_transfers="LOG_ONLY")), arguments=transfer(2000)
    )
    assert found.allowed
    assert outcomes(found)["large_transfers"] == ("fulfilled", False)


async def test_a_forbid_that_fails_forbids_and_says_why() -> None:
    found = await explained(Bank(rows(f"{cedar()}\n{FAILING}")))
    assert not found.allowed
    (failed,) = [each for each in found.policies if each.outcome == "failed"]
    assert failed.decided
    assert "overflow" in failed.problem


async def test_a_policy_that_does_not_fit_the_tools_any_more_says_so() -> None:
    stale = (
        f'forbid (principal, action == AgentCore::Action::"{TRANSFER}", '
        f'resource == AgentCore::Gateway::"{GATEWAY_ARN}") '
        'when { context.input.currency == "x" };'
    )
    found = await explained(Bank(rows(f"{cedar()}\n{stale}")))
    assert not found.allowed, "a forbid that does not fit forbids all that it could"
    (failed,) = [each for each in found.policies if each.outcome == "failed"]
    assert "currency" in failed.problem


async def test_arguments_that_no_policy_can_speak_of_deny() -> None:
    found = await explained(arguments=transfer(2**70))
    assert not found.allowed
    assert found.mismatch == "input.amount: the number is larger than 64 bits"
    assert found.policies == []


async def test_time_source_and_session_are_what_they_are_said_to_be() -> None:
    text = (
        'permit (principal, action in AgentCore::Action::"CallTool", resource) when {'
        ' context.time < datetime("2026-01-02") && context has source &&'
        ' context.source.isInRange(ip("10.0.0.0/8")) &&'
        ' context has session && context.session.id == "s" };'
    )
    given: dict[str, Any] = {
        "at": datetime(2026, 1, 1, tzinfo=UTC), "source": "10.1.2.3",
        "session": SessionGiven(id="s"),
    }  # fmt: skip
    bank = Bank(rows(text))
    assert (await explained(bank, **given)).allowed
    for name, value in (
        ("at", datetime(2026, 1, 3, tzinfo=UTC)), ("source", "192.0.2.1"), ("session", None),
    ):  # fmt: skip
        assert not (await explained(bank, **{**given, name: value})).allowed, name
    with pytest.raises(ValidationFailed, match="source"):
        await explained(bank, source="elsewhere")


async def test_what_is_not_there_is_not_there_for_strangers_either() -> None:
    asked = Hypothetical(gateway_id=GATEWAY_ID, tool=TRANSFER)
    with pytest.raises(NotFound):
        await explaining(Bank(rows(cedar()))).call(STRANGER, asked)
    with pytest.raises(NotFound):
        await explaining(Bank([])).call(REQUEST, Hypothetical(gateway_id="no-0123456789", tool="t"))
    with pytest.raises(NotFound):
        await explained(engine_id="other-abcdefghij")


async def test_without_an_engine_there_is_nothing_to_explain_unless_one_is_named() -> None:
    bank = Bank(rows(cedar()), gateway(engine_arn=""))
    with pytest.raises(ValidationFailed, match="asks no policy engine"):
        await explained(bank)
    found = await explained(bank, engine_id=ENGINE_ID)
    assert (found.allowed, found.mode) == (True, "")


# -- recorded ones


def kept(**changed: Any) -> Kept:
    members: dict[str, Any] = {
        "tenant": TENANT, "id": uuid.UUID(int=1), "at": datetime(2026, 1, 1, tzinfo=UTC),
        "request_id": "r", "gateway_id": GATEWAY_ID, "gateway_arn": GATEWAY_ARN,
        "engine_id": ENGINE_ID, "engine_version": "v1",
        "schema_version": gateway_schema(gateway()).version, "mode": "ENFORCE", "tool": TRANSFER,
        "target": "accounts", "principal": "alice", "principal_type": "AgentCore::OAuthUser",
        "principal_kind": "oauth_user", "user": None, "allowed": False,
        "policies": ["large_transfers-0000000000"], "errors": 0, "shadow_allowed": None,
        "shadow_policies": [], "microseconds": 1,
    }  # fmt: skip
    return Kept(**{**members, **changed})


MOMENT = {"__extn": {"fn": "datetime", "arg": "2026-01-01T00:00:00.000Z"}}
INPUTS = Inputs(transfer(2000), CLERK, {"time": MOMENT, "system": {"now": MOMENT}})


async def test_a_recorded_decision_is_explained_with_what_was_recorded() -> None:
    log = Log(one=(kept(), INPUTS))
    found = await explaining(Bank(rows(cedar())), log).decision(REQUEST, "one")
    assert not found.allowed
    assert outcomes(found)["large_transfers"] == ("fulfilled", True)
    assert found.recorded is not None
    assert (found.recorded.allowed, found.recorded.changed) == (False, False)


async def test_it_says_that_the_policies_are_others_now() -> None:
    log = Log(one=(kept(engine_version="v0"), INPUTS))
    lax = cedar().replace("> 1000", "> 5000")
    found = await explaining(Bank(rows(lax)), log).decision(REQUEST, "one")
    assert found.allowed
    assert found.recorded is not None
    assert (found.recorded.allowed, found.recorded.changed) == (False, True)


async def test_the_engines_own_words_stay_out_of_it_for_they_repeat_values() -> None:
    log = Log(one=(kept(), Inputs(transfer(424242), CLERK, INPUTS.context)))
    found = await explaining(Bank(rows(f"{cedar()}\n{FAILING}")), log).decision(REQUEST, "one")
    (failed,) = [each for each in found.policies if each.outcome == "failed"]
    assert failed.problem
    assert "424242" not in repr(found)
    told = await explained(Bank(rows(f"{cedar()}\n{FAILING}")), arguments=transfer(424242))
    assert "424242" in repr(told), "of a call that nobody made they are the asker's own"


async def test_inputs_that_are_not_to_be_had_are_not_guessed() -> None:
    bank = Bank(rows(cedar()))
    with pytest.raises(ValidationFailed, match="sealed"):
        await explaining(bank, Log(one=(kept(), None))).decision(REQUEST, "one")
    omitted = Inputs(None, None, None, omitted_bytes=100_000)
    with pytest.raises(ValidationFailed, match="too large"):
        await explaining(bank, Log(one=(kept(), omitted))).decision(REQUEST, "one")
    early = Inputs(transfer(5), CLERK, {})
    with pytest.raises(ValidationFailed, match="before anything was known"):
        await explaining(bank, Log(one=(kept(), early))).decision(REQUEST, "one")
    with pytest.raises(NotFound):
        await explaining(bank, Log(one=(kept(), INPUTS))).decision(STRANGER, "one")
