"""The rule of the seeds, end to end: balances may be read, larger transfers need a manager."""

from pathlib import Path

import pytest

from gateway_ground import at_every_worker, bearer
from gateway_upstreams import McpUpstream
from policy_bank import REASON, Bank
from running import Agent, RunningPlatform

CUSTOMER = {"role": "customer"}
APPROVED = {"role": "customer", "manager_approval": True}


def denied(answer: object) -> str:
    result = answer.result  # type: ignore[attr-defined]
    assert result["isError"], result
    text: str = result["content"][0]["text"]
    return text


@pytest.fixture
def banker(platform: RunningPlatform, bank: Bank) -> Agent:
    source = Path(__file__).with_name("banker.py").read_text()
    environment = {"GATEWAY_ID": bank.gateway.id}
    return platform.deploy({"main.py": source}, environmentVariables=environment)


def test_an_agent_reads_balances_and_is_refused_larger_transfers(
    bank: Bank, banker: Agent, vault: McpUpstream
) -> None:
    _, large = bank.rule()
    customer, approved = bank.token(**CUSTOMER), bank.token(**APPROVED)
    said = banker.invoke({"prompt": "what is my balance?", "token": customer})
    assert said["tools"] == ["bank___balance", "bank___transfer"]
    assert said["results"][0]["content"][0]["text"] == '{"balance": 4200}'
    said = banker.invoke({"prompt": "send 900 to Ann", "token": customer})
    assert said["results"][0]["content"][0]["text"] == '{"moved": 900}'
    before = vault.count("tools/call")
    said = banker.invoke({"prompt": "send 1500 to Ann", "token": customer})
    [refused] = said["results"]
    assert refused["isError"]
    assert large in refused["content"][0]["text"]
    assert REASON in refused["content"][0]["text"]
    assert vault.count("tools/call") == before, "nothing was sent to the bank"
    said = banker.invoke({"prompt": "send 1500 to Ann", "token": approved})
    assert said["results"][0]["content"][0]["text"] == '{"moved": 1500}'
    banker.delete()


def test_a_refusal_says_no_more_than_the_policy_and_its_reason(bank: Bank) -> None:
    _, large = bank.rule()
    text = denied(bank.transfer(1500, **CUSTOMER))
    assert large in text and REASON in text
    for hidden in ("context", "amount >", "1500", "manager_approval", bank.engine.id):
        assert hidden not in text


def test_what_nobody_permits_is_denied_and_not_shown(bank: Bank) -> None:
    bank.rule()
    assert bank.tools(role="stranger") == []
    assert "permit" in denied(bank.call("balance", **{"role": "stranger"}))
    assert "permit" in denied(bank.call("close", **CUSTOMER))


def test_each_decision_is_kept_and_its_inputs_are_not_shown(bank: Bank) -> None:
    permit, large = bank.rule()
    bank.transfer(900, **CUSTOMER)
    bank.transfer(1500, **CUSTOMER)
    newest, older = bank.decisions(limit=2)
    assert (newest["tool"], newest["allowed"], newest["policies"]) == (
        "bank___transfer", False, [large],
    )  # fmt: skip
    assert (older["allowed"], older["policies"]) == (True, [permit])
    assert [each["allowed"] for each in bank.decisions(outcome="denied")] == [False]
    assert "Ann" not in str(bank.decisions(inputs="true")), "masked unless somebody says otherwise"


def test_a_gateway_that_only_logs_lets_pass_and_says_what_it_would_have_done(bank: Bank) -> None:
    bank.rule()
    bank.govern("LOG_ONLY")
    at_every_worker(lambda: "bank___close" in bank.tools(**CUSTOMER))
    assert not bank.transfer(1500, **CUSTOMER).result.get("isError")
    [newest] = bank.decisions(limit=1)
    assert (newest["allowed"], newest["mode"]) == (False, "LOG_ONLY")


def test_a_policy_that_only_logs_takes_no_part(bank: Bank) -> None:
    _, large = bank.rule()
    bank.engine.change(large, enforcementMode="LOG_ONLY")
    at_every_worker(lambda: not bank.transfer(1500, **CUSTOMER).result.get("isError"))
    [newest] = bank.decisions(limit=1)
    assert newest["allowed"] and newest["shadowAllowed"] is False
    assert newest["shadowPolicies"] == [large]
    assert bank.decisions(wouldDiffer="true")


def test_a_change_is_heard_by_every_worker(bank: Bank) -> None:
    permit, _ = bank.rule()
    bank.engine.remove(permit)
    at_every_worker(lambda: bank.call("balance", **CUSTOMER).result.get("isError"))
    bank.govern("")
    at_every_worker(lambda: not bank.call("close", **CUSTOMER).result.get("isError"))


def test_what_is_no_tool_of_an_mcp_server_is_denied_too(bank: Bank) -> None:
    bank.rule()
    headers = bearer(bank.token(**CUSTOMER))
    answer = bank.gateway.rpc("resources/read", {"uri": "bank://ledger"}, headers)
    assert "permit" in answer.error["message"]


def test_a_loosening_waits_for_somebody_who_saw_it(bank: Bank) -> None:
    """`freehold:loosening` = refuse on the engine."""
    _, large = bank.rule()
    bank.gateway.control.tag_resource(
        resourceArn=bank.engine.arn, tags={"freehold:loosening": "refuse"}
    )
    with pytest.raises(bank.engine.control.exceptions.ConflictException) as refused:
        bank.engine.remove(large)
    assert "bank___transfer" in str(refused.value)
    bank.gateway.control.untag_resource(resourceArn=bank.engine.arn, tagKeys=["freehold:loosening"])
