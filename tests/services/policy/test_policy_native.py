"""Proofs in our own API: what policies always do, what a change allows, what they can speak of."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from explained_bank import (
    BALANCE,
    ENGINE_ID,
    GATEWAY_ARN,
    GATEWAY_ID,
    REGION,
    REQUEST,
    STRANGER,
    TRANSFER,
    Bank,
    cedar,
    gateway,
    other,
    rows,
)

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.adapters.smt.reasoning import SmtReasoning
from freehold.kernel.errors import FreeholdError, NotFound, ValidationFailed
from freehold.kernel.operation import Operation
from freehold.kernel.request import Request
from freehold.services.policy.explaining import Explaining
from freehold.services.policy.native import operations
from freehold.services.policy.proving import Proofs

HERE = f'resource == AgentCore::Gateway::"{GATEWAY_ARN}"'
MOVES = f'action == AgentCore::Action::"{TRANSFER}"'
STRICT, LAX = cedar(), cedar().replace("> 1000", "> 5000")


@pytest.fixture(scope="module")
async def reasoning() -> AsyncIterator[SmtReasoning]:
    reasoning = SmtReasoning()
    yield reasoning
    await reasoning.close()


class Acknowledging:
    async def acknowledge(self, request: Request, engine_id: str, digest: str) -> str:
        return f"{request.tenant} {engine_id} {digest}"


class Own:
    """Our own API's operations on the bank, called as the edge does: with bodies as JSON."""

    def __init__(self, bank: Bank, reasoning: SmtReasoning) -> None:
        engine, statements = CedarEngine(), CedarStatements()
        explaining = Explaining(
            engine=engine, statements=statements, engines=bank, gateways=bank,
            decisions=None, region=REGION,  # type: ignore[arg-type]  # none is looked up here
        )  # fmt: skip
        self._operations: dict[str, Operation] = {
            operation.name: operation
            for operation in operations(
                Proofs(engine, statements, reasoning), explaining, bank, bank, Acknowledging(),
                region=REGION,
            )
        }  # fmt: skip

    async def __call__(
        self, name: str, params: dict[str, Any] | None = None, by: Request = REQUEST, **body: Any
    ) -> Any:
        operation = self._operations[name]
        given = msgspec.convert(body, operation.body) if operation.body else None
        answer = await operation.act(by, params or {}, given)
        assert isinstance(answer, operation.answer)
        return msgspec.to_builtins(answer)


def of(checked: Any, policy: str) -> list[str]:
    return sorted(
        each["property"] for each in checked["gateways"][0]["findings"] if each["policy"] == policy
    )


# -- check


async def test_good_policies_have_nothing_to_put_right(reasoning: SmtReasoning) -> None:
    own = Own(Bank([]), reasoning)
    found = await own("CheckPolicies", policies=STRICT, gatewayId=GATEWAY_ID)
    assert not found["fails"]
    (at,) = found["gateways"]
    assert (at["name"], at["policies"], at["actions"]) == ("bank", 3, 2)


async def test_findings_come_with_the_policy_and_a_request_that_shows_them(
    reasoning: SmtReasoning,
) -> None:
    text = f"""
        @id("all") permit (principal, {MOVES}, {HERE});
        @id("never") forbid (principal, {MOVES}, {HERE})
          when {{ context.input.amount > 5 && context.input.amount < 3 }};
        @id("fails") forbid (principal, {MOVES}, {HERE})
          when {{ context.input.amount * 100 > 7 }};
        @id("stale") permit (principal, {MOVES}, {HERE})
          when {{ context.input.currency == "EUR" }};
    """
    found = await Own(Bank([]), reasoning)("CheckPolicies", policies=text, gatewayId=GATEWAY_ID)
    assert found["fails"]
    assert of(found, "all") == ["ALLOW_ALL"]
    assert "DENY_NONE" in of(found, "never")
    assert of(found, "stale") == ["INVALID"]
    (fails,) = [each for each in found["gateways"][0]["findings"] if each["policy"] == "fails"]
    assert (fails["property"], fails["counts"]) == ("MAY_ERROR", True)
    example = fails["example"]
    assert (example["tool"], example["principalType"]) == (TRANSFER, "OAuthUser")
    assert abs(example["arguments"]["amount"] * 100) > 2**63, "this product is none of 64 bits"
    assert example["looksAt"] == []


async def test_a_permit_that_may_fail_is_noted_and_does_not_count(reasoning: SmtReasoning) -> None:
    text = f"permit (principal, {MOVES}, {HERE}) when {{ context.input.amount * 100 > 7 }};"
    found = await Own(Bank([]), reasoning)("CheckPolicies", policies=text, gatewayId=GATEWAY_ID)
    assert "MAY_ERROR" in of(found, "policy0")
    assert not found["fails"]


async def test_tools_stand_in_for_a_gateway_and_are_of_the_one_that_policies_name(
    reasoning: SmtReasoning,
) -> None:
    tools = [
        {"name": tool.name, "inputSchema": tool.input_schema, "description": "as MCP has it"}
        for tool in gateway().tools
    ]
    own = Own(Bank([]), reasoning)
    found = await own("CheckPolicies", policies=STRICT, tools=tools)
    assert (found["fails"], found["gateways"][0]["gatewayArn"]) == (False, GATEWAY_ARN)
    iam = await own("CheckPolicies", policies=STRICT, tools=tools, authorizerType="AWS_IAM")
    assert "INVALID" in of(iam, "balances"), "no OAuthUser comes in there"
    two = STRICT.replace(GATEWAY_ARN, f"{GATEWAY_ARN}-2", 1)
    with pytest.raises(ValidationFailed, match="several gateways"):
        await own("CheckPolicies", policies=two, tools=tools)
    said = await own("CheckPolicies", policies=two, tools=tools, gatewayArn=GATEWAY_ARN)
    assert said["gateways"][0]["policies"] == 2


async def test_an_engines_policies_are_checked_at_all_gateways_that_ask_it(
    reasoning: SmtReasoning,
) -> None:
    bank = Bank(rows(cedar(), large_transfers="LOG_ONLY"), gateway(), other("branch"))
    own = Own(bank, reasoning)
    found = await own("CheckPolicies", engineId=ENGINE_ID)
    assert [(at["name"], at["policies"]) for at in found["gateways"]] == [
        ("bank", 2), ("branch", 0),
    ]  # fmt: skip
    with_logging = await own("CheckPolicies", engineId=ENGINE_ID, logOnly=True)
    assert with_logging["gateways"][0]["policies"] == 3


async def test_a_policy_for_many_gateways_may_have_nothing_to_say_to_some(
    reasoning: SmtReasoning,
) -> None:
    text = (
        'permit (principal, action in AgentCore::Action::"CallTool", resource) '
        'when { context.input has account && principal.id == "x" };'
    )
    schema = {"type": "object", "properties": {}}
    tools = [msgspec.structs.replace(tool, input_schema=schema) for tool in gateway().tools]
    mute = msgspec.structs.replace(other("mute"), tools=tools)
    both, alone = Bank(rows(text), gateway(), mute), Bank(rows(text), mute)
    assert not (await Own(both, reasoning)("CheckPolicies", engineId=ENGINE_ID))["fails"]
    assert (await Own(alone, reasoning)("CheckPolicies", engineId=ENGINE_ID))["fails"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "`policies` or an `engineId`"),
        ({"policies": STRICT}, "`gatewayId`, `tools` or an `engineId`"),
        ({"policies": STRICT, "gatewayId": GATEWAY_ID, "tools": []}, "not both"),
        ({"policies": "permit (", "gatewayId": GATEWAY_ID}, "line 1"),
        ({"policies": STRICT, "gatewayId": GATEWAY_ID, "secondsMax": 0.0}, "secondsMax"),
        ({"policies": STRICT, "gatewayId": GATEWAY_ID, "secondsMax": 1e9}, "secondsMax"),
    ],
)
async def test_a_check_that_makes_no_sense_says_what_it_needs(
    reasoning: SmtReasoning, body: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValidationFailed, match=why):
        await Own(Bank([]), reasoning)("CheckPolicies", **body)


# -- diff


async def test_a_loosening_is_shown_as_a_call_that_goes_through_now(
    reasoning: SmtReasoning,
) -> None:
    own = Own(Bank([]), reasoning)
    found = await own("DiffPolicies", old=STRICT, new=LAX, gatewayId=GATEWAY_ID)
    assert (found["equivalent"], found["loosens"]) == (False, True)
    (difference,) = found["gateways"][0]["differences"]
    assert (difference["action"], difference["change"]) == (TRANSFER, "newly allowed")
    example = difference["example"]
    assert 1000 < example["arguments"]["amount"] <= 5000
    assert example["claims"]["role"] == "clerk"
    assert example["gatewayArn"] == GATEWAY_ARN
    for text, allowed in ((STRICT, False), (LAX, True)):
        bank = Bank(rows(text))
        told = await Own(bank, reasoning)(
            "ExplainPolicyCall", gatewayId=GATEWAY_ID, tool=example["tool"],
            arguments=example["arguments"], claims=example["claims"],
            principal=example["principal"],
        )  # fmt: skip
        assert told["allowed"] is allowed, "the engine itself says so"


async def test_a_tightening_loosens_nothing(reasoning: SmtReasoning) -> None:
    own = Own(Bank([]), reasoning)
    found = await own("DiffPolicies", old=LAX, new=STRICT, gatewayId=GATEWAY_ID)
    assert (found["equivalent"], found["loosens"]) == (False, False)
    assert [each["change"] for each in found["gateways"][0]["differences"]] == ["newly denied"]


async def test_the_same_in_other_words_is_equivalent(reasoning: SmtReasoning) -> None:
    other_words = STRICT.replace("context.input.amount > 1000", "!(context.input.amount <= 1000)")
    own = Own(Bank([]), reasoning)
    found = await own("DiffPolicies", old=STRICT, new=other_words, gatewayId=GATEWAY_ID)
    assert (found["equivalent"], found["loosens"]) == (True, False)


async def test_against_an_engine_one_policy_is_changed_added_or_taken_away(
    reasoning: SmtReasoning,
) -> None:
    own = Own(Bank(rows(cedar())), reasoning)
    *_, lax = CedarEngine().split(LAX)
    extra = f"forbid (principal, {MOVES}, {HERE});"

    async def changes(*changes: dict[str, str]) -> list[str]:
        found = await own("DiffPolicies", engineId=ENGINE_ID, changes=list(changes))
        return [each["change"] for each in found["gateways"][0]["differences"]]

    assert await changes({"policyId": "large_transfers", "statement": lax.statement}) == [
        "newly allowed"
    ]
    assert await changes({"policyId": "large_transfers-0000000000"}) == ["newly allowed"]
    assert await changes({"statement": extra}) == ["newly denied"]
    assert await changes({"policyId": "balances"}, {"statement": extra}) == [
        "newly denied", "newly denied",
    ]  # fmt: skip
    whole = await own("DiffPolicies", engineId=ENGINE_ID, new=STRICT)
    assert whole["equivalent"] is True


async def test_no_difference_is_shown_of_a_gateway_that_nobody_asked_about(
    reasoning: SmtReasoning,
) -> None:
    """A bare `resource` is of every gateway: the request that shows it is of this one."""
    everything = 'permit (principal, action in AgentCore::Action::"CallTool", resource);'
    own = Own(Bank([]), reasoning)
    found = await own("DiffPolicies", old="", new=everything, gatewayId=GATEWAY_ID)
    differences = found["gateways"][0]["differences"]
    assert {each["action"] for each in differences} == {BALANCE, TRANSFER}
    assert {each["example"]["gatewayArn"] for each in differences} == {GATEWAY_ARN}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"new": STRICT}, ValidationFailed),
        ({"old": STRICT, "engineId": ENGINE_ID, "new": LAX}, ValidationFailed),
        ({"old": STRICT}, ValidationFailed),
        ({"old": STRICT, "changes": [{"policyId": "a"}]}, ValidationFailed),
        ({"engineId": ENGINE_ID, "changes": [{}]}, ValidationFailed),
        ({"engineId": ENGINE_ID, "changes": [{"policyId": "gone"}]}, NotFound),
        ({"engineId": "gone-abcdefghij", "new": STRICT}, NotFound),
        (
            {"engineId": ENGINE_ID, "changes": [{"policyId": "balances", "statement": STRICT}]},
            ValidationFailed,
        ),
    ],
)
async def test_a_diff_that_makes_no_sense_says_what_it_needs(
    reasoning: SmtReasoning, body: dict[str, Any], error: type[FreeholdError]
) -> None:
    with pytest.raises(error):
        await Own(Bank(rows(cedar())), reasoning)(
            "DiffPolicies", gatewayId=GATEWAY_ID, **body
        )  # fmt: skip


# -- schema, strangers


async def test_the_schema_is_told_in_both_forms_with_what_is_left_out(
    reasoning: SmtReasoning,
) -> None:
    open_ended = {"type": "object", "properties": {"any": {}}}
    first, second = gateway().tools
    tools = [first, msgspec.structs.replace(second, input_schema=open_ended)]
    bank = Bank([], msgspec.structs.replace(gateway(), tools=tools))
    found = await Own(bank, reasoning)("GetGatewayPolicySchema", {"gatewayId": GATEWAY_ID})
    assert f'action "{BALANCE}" in ["accounts"]' in found["cedar"]
    assert BALANCE in found["schema"]["AgentCore"]["actions"]
    assert [(each["tool"], each["path"]) for each in found["leftOut"]] == [(TRANSFER, "input.any")]


async def test_another_tenants_are_not_there(reasoning: SmtReasoning) -> None:
    own = Own(Bank(rows(cedar())), reasoning)
    with pytest.raises(NotFound):
        await own("GetGatewayPolicySchema", {"gatewayId": GATEWAY_ID}, by=STRANGER)
    for body in ({"engineId": ENGINE_ID}, {"policies": STRICT, "gatewayId": GATEWAY_ID}):
        with pytest.raises(NotFound):
            await own("CheckPolicies", by=STRANGER, **body)


async def test_an_acknowledgement_is_handed_on(reasoning: SmtReasoning) -> None:
    own = Own(Bank([]), reasoning)
    found = await own("AcknowledgePolicyChange", engineId=ENGINE_ID, digest="d")
    assert found["shown"] == f"{REQUEST.tenant} {ENGINE_ID} d"
