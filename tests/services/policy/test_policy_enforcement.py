"""Calls are decided by the engine's policies, in either mode, and every decision is recorded."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from enforcing_ground import (
    AT,
    BALANCE,
    CONVERT,
    ENGINE_ARN,
    GATEWAY,
    GATEWAY_ARN,
    INTEGER,
    STRING,
    TENANT,
    TOOLS,
    TRANSFER,
    Kept,
    Row,
    call,
    enforcement,
    gateway,
    object_of,
    tool,
    user,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.kernel import tracing
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import Unavailable
from freehold.kernel.tracing import Kind, Span, Trail
from freehold.ports.enforcement import Enforcement, GovernedTool
from freehold.ports.policies import CompiledRules, Rule
from freehold.services.policy.enforcement import (
    NOT_DECIDED,
    NOT_PERMITTED,
    NOT_USABLE,
    PolicyEnforcement,
)
from freehold.services.policy.model import Decided
from kept_spans import KeptSpans

PERMIT_ALL = "permit (principal, action, resource);"
TRANSFERS = f'action == AgentCore::Action::"Bank___transfer", resource == {GATEWAY}'
CONVERSIONS = f'action == AgentCore::Action::"Money___convert", resource == {GATEWAY}'
BALANCES = (
    f'permit (principal, action == AgentCore::Action::"Bank___balance", resource == {GATEWAY});'
)
SMALL = f"permit (principal, {TRANSFERS}) when {{ context.input.amount <= 1000 }};"
APPROVED = f"""permit (principal, {TRANSFERS}) when {{
    principal.hasTag("approval") && principal.getTag("approval") == "manager" }};"""
LARGE = f"""@reason("over 1000 a manager must approve") forbid (principal, {TRANSFERS})
    when {{ context.input.amount > 1000 }} unless {{ principal.hasTag("approval") }};"""


def transfer(amount: Any = 5, **members: Any) -> dict[str, Any]:
    return {"amount": amount, "to": "bob", **members}


class Counting(CedarEngine):
    def __init__(self) -> None:
        super().__init__()
        self.compiled = 0
        self.threads: set[str] = set()
        self.rules: list[str] = []

    def compile_rules(self, rules: Sequence[Rule], schema: Any) -> CompiledRules:
        self.compiled += 1
        self.rules = [rule.id for rule in rules]
        self.threads.add(threading.current_thread().name)
        return super().compile_rules(rules, schema)


async def refused(
    enforced: Enforcement, tool: GovernedTool, arguments: dict[str, Any], **members: Any
) -> str | None:
    refusal = await enforced.decide(call(gateway(), tool, arguments, **members))
    return None if refusal is None else refusal.text


async def test_balances_may_be_read_and_large_transfers_need_a_manager() -> None:
    enforced = enforcement(Row(BALANCES, SMALL, APPROVED, LARGE))
    assert await refused(enforced, BALANCE, {"account": "1"}) is None
    assert await refused(enforced, TRANSFER, transfer(1000)) is None
    assert (
        await refused(enforced, TRANSFER, transfer(1001))
        == "Refused by policy rule-3: over 1000 a manager must approve"
    )
    assert (
        await refused(enforced, TRANSFER, transfer(1001), caller=user(approval="manager")) is None
    )
    assert (
        await refused(enforced, TRANSFER, transfer(1001), caller=user(approval="clerk"))
        == NOT_PERMITTED
    )


async def test_what_no_policy_permits_is_refused() -> None:
    assert await refused(enforcement(Row()), BALANCE, {"account": "1"}) == NOT_PERMITTED
    assert await refused(enforcement(Row(SMALL)), BALANCE, {"account": "1"}) == NOT_PERMITTED


async def test_a_forbid_wins_over_every_permit() -> None:
    enforced = enforcement(Row(PERMIT_ALL, "forbid (principal, action, resource);", PERMIT_ALL))
    assert await refused(enforced, BALANCE, {"account": "1"}) == "Refused by policy rule-1."


async def test_all_policies_that_forbid_are_named_with_their_reasons() -> None:
    forbids = [f'@reason("no. {n}") forbid (principal, action, resource);' for n in range(3)]
    text = await refused(enforcement(Row(PERMIT_ALL, *forbids)), BALANCE, {"account": "1"})
    assert text is not None
    assert sorted(text.splitlines()) == [
        f"Refused by policy rule-{n + 1}: no. {n}" for n in range(3)
    ]


async def test_a_refusal_names_no_more_than_ten_policies_and_no_endless_reason() -> None:
    forbid = '@reason("' + "x" * 5000 + '") forbid (principal, action, resource);'
    text = await refused(enforcement(Row(*[forbid] * 25)), BALANCE, {"account": "1"})
    assert text is not None
    assert text.endswith("and 15 more")
    assert len(text) < 6000


async def test_trap_a_forbid_that_fails_forbids_and_is_named() -> None:
    failing = f"""@reason("sums") forbid (principal, {TRANSFERS})
        when {{ context.input.amount + 9223372036854775807 > 0 }};"""
    kept = Kept()
    enforced = enforcement(Row(PERMIT_ALL, failing), kept)
    assert await refused(enforced, TRANSFER, transfer(777)) == "Refused by policy rule-1: sums"
    assert kept.last.policies == ("rule-1",)
    assert "rule-1" in kept.last.errors[0]
    assert "777" not in str(kept.last.errors)


@pytest.mark.parametrize(
    "arguments",
    [
        {"account": {"__entity": {"type": "AgentCore::OAuthUser", "id": "boss"}}},
        {"account": {"__extn": {"fn": "ip", "arg": "10.0.0.1"}}},
        {"account": None}, {"account": 5}, {},
    ],
)  # fmt: skip
async def test_trap_arguments_that_the_schema_cannot_hold_are_denied(arguments: Any) -> None:
    kept = Kept()
    assert await refused(enforcement(Row(PERMIT_ALL), kept), BALANCE, arguments) == NOT_PERMITTED
    assert kept.last.allowed is False
    assert kept.last.errors[0].startswith("input.account: ")


async def test_trap_members_named_like_cedars_escapes_are_data_or_nothing() -> None:
    odd = tool("Odd___tool", object_of(["x"], x=STRING, __entity=object_of((), type=STRING)))
    at = gateway(odd)
    odd_tool = f'action == AgentCore::Action::"Odd___tool", resource == {GATEWAY}'
    permit = f"""permit (principal, {odd_tool}) when {{
        context.input.x == "AgentCore::OAuthUser::\\"boss\\"" }};"""
    enforced = enforcement(Row(permit))
    escape = {"__entity": {"type": "AgentCore::OAuthUser", "id": "boss"}}
    assert (await enforced.decide(call(at, odd, {**escape, "x": "y"}))) is not None
    text = {"x": 'AgentCore::OAuthUser::"boss"', **escape}
    assert (await enforced.decide(call(at, odd, text))) is None


@pytest.mark.parametrize("amount", [2**63, -(2**63) - 1, 5.5, "5", True, 1e300])
async def test_trap_numbers_that_are_no_64_bit_integers_are_denied(amount: Any) -> None:
    assert await refused(enforcement(Row(PERMIT_ALL)), TRANSFER, transfer(amount)) == NOT_PERMITTED


async def test_trap_null_is_absence_and_neither_an_error_nor_an_allowance() -> None:
    noted = f"forbid (principal, {TRANSFERS}) when {{ context.input has note }};"
    enforced = enforcement(Row(PERMIT_ALL, noted))
    assert await refused(enforced, TRANSFER, transfer(note=None)) is None
    assert await refused(enforced, TRANSFER, transfer(note="")) == "Refused by policy rule-1."


@pytest.mark.parametrize(
    ("condition", "value", "may"),
    [
        ('lessThanOrEqual(decimal("0.3"))', 0.3, True),
        ('lessThanOrEqual(decimal("0.3"))', 0.1 + 0.2, False),
        ('greaterThanOrEqual(decimal("0.3"))', 0.1 + 0.2, True),
        ('greaterThanOrEqual(decimal("0.3"))', 0.29999999, False),
        ('lessThan(decimal("0.3"))', 0.29999999, False),
        ('lessThan(decimal("0.3"))', 0.29989999, True),
    ],
)
async def test_trap_a_float_is_allowed_only_where_it_is_on_both_sides_of_its_rounding(
    condition: str, value: float, may: bool
) -> None:
    permit = f"permit (principal, {CONVERSIONS}) when {{ context.input.amount.{condition} }};"
    text = await refused(enforcement(Row(permit)), CONVERT, {"amount": value})
    assert (text is None) is may
    forbid = f"forbid (principal, {CONVERSIONS}) unless {{ context.input.amount.{condition} }};"
    text = await refused(enforcement(Row(PERMIT_ALL, forbid)), CONVERT, {"amount": value})
    assert (text is None) is may


async def test_a_policy_that_does_not_fit_forbids_what_its_scope_covers() -> None:
    forbid = f"forbid (principal, {TRANSFERS}) when {{ context.input.nowhere == 1 }};"
    enforced = enforcement(Row(PERMIT_ALL, forbid))
    assert await refused(enforced, TRANSFER, transfer()) == "Refused by policy rule-1."
    assert await refused(enforced, BALANCE, {"account": "1"}) is None


async def test_that_a_policy_does_not_fit_is_in_the_record_and_not_in_the_refusal() -> None:
    kept = Kept()
    permit = f"permit (principal, {TRANSFERS}) when {{ context.input.nowhere == 1 }};"
    forbid = f"forbid (principal, {TRANSFERS}) when {{ context.input.nowhere == 2 }};"
    row = Row(permit)
    enforced = enforcement(row, kept)
    assert await refused(enforced, TRANSFER, transfer()) == NOT_PERMITTED
    assert "rule-0 does not fit" in kept.last.errors[0]
    assert "nowhere" in kept.last.errors[0]
    row.change(PERMIT_ALL, forbid)
    assert await refused(enforced, TRANSFER, transfer()) == "Refused by policy rule-1."
    assert "rule-1 does not fit" in kept.last.errors[0]
    assert await refused(enforced, BALANCE, {"account": "1"}) is None
    assert kept.last.errors == []


async def test_policies_of_another_gateway_are_left_out() -> None:
    other = GATEWAY.replace("bank", "shop")
    named = f'forbid (principal, action == AgentCore::Action::"Shop___buy", resource == {other});'
    bare = f"forbid (principal, action, resource in {other});"
    every = (
        '@reason("all") forbid (principal, action, resource is AgentCore::Gateway) when { false };'
    )
    engine = Counting()
    enforced = PolicyEnforcement(
        Row(PERMIT_ALL, named, bare, every), engine, CedarStatements(), Kept()
    )
    assert await refused(enforced, BALANCE, {"account": "1"}) is None
    assert engine.rules == ["rule-0", "rule-3"]


async def test_a_gateway_without_an_engine_decides_nothing_and_records_nothing() -> None:
    kept = Kept()
    row = Row()
    enforced = enforcement(row, kept)
    plain = gateway(engine_arn="", mode="LOG_ONLY")
    assert await enforced.decide(call(plain, TRANSFER, transfer())) is None
    assert (await enforced.shown(plain, user()))("Bank___transfer")
    assert (kept.all, row.loads) == ([], 0)


# Modes.


async def test_a_gateway_in_log_only_records_and_lets_pass() -> None:
    kept = Kept()
    enforced = enforcement(Row(), kept)
    watched = gateway(mode="LOG_ONLY")
    assert await enforced.decide(call(watched, TRANSFER, transfer())) is None
    assert (kept.last.allowed, kept.last.mode) == (False, "LOG_ONLY")
    assert (await enforced.shown(watched, user()))("Bank___transfer")


async def test_a_policy_in_log_only_takes_no_part_and_is_shown_beside() -> None:
    kept = Kept()
    row = Row(BALANCES, shadow=["forbid (principal, action, resource);"])
    enforced = enforcement(row, kept)
    assert await refused(enforced, BALANCE, {"account": "1"}) is None
    assert (kept.last.allowed, kept.last.policies) == (True, ("rule-0",))
    assert (kept.last.shadow_allowed, kept.last.shadow_policies) == (False, ("rule-1",))
    row.change(shadow=[BALANCES])
    assert await refused(enforced, BALANCE, {"account": "1"}) == NOT_PERMITTED
    assert (kept.last.allowed, kept.last.shadow_allowed) == (False, True)
    row.change(BALANCES)
    assert await refused(enforced, BALANCE, {"account": "1"}) is None
    assert (kept.last.shadow_allowed, kept.last.shadow_policies) == (None, ())


# What is recorded.


async def test_a_decision_is_recorded_whole() -> None:
    kept = Kept()
    caller = user(role="clerk")
    made = call(gateway(), BALANCE, {"account": "1", "more": None}, caller=caller,
                request_id="r-1", source="10.0.0.7", session="s-1")  # fmt: skip
    assert await enforcement(Row(BALANCES), kept).decide(made) is None
    decided = kept.last
    moment = {"__extn": {"fn": "datetime", "arg": "2026-11-21T20:00:00.000Z"}}
    assert decided == Decided(
        tenant=TENANT, id=decided.id, at=AT, request_id="r-1", gateway_id="bank-0123456789",
        gateway_arn=GATEWAY_ARN, engine_arn=ENGINE_ARN, engine_version="v1",
        schema_version=decided.schema_version, mode="ENFORCE", tool="Bank___balance",
        target="Bank", principal="ann", principal_type="AgentCore::OAuthUser",
        principal_kind="oauth_user", user=caller.user, claims={"sub": "ann", "role": "clerk"},
        arguments={"account": "1", "more": None},
        context={"time": moment, "system": {"now": moment},
                 "source": {"__extn": {"fn": "ip", "arg": "10.0.0.7"}},
                 "session": {"id": "s-1", "user": caller.user}},
        allowed=True, policies=("rule-0",), errors=[], microseconds=decided.microseconds,
    )  # fmt: skip
    assert len(decided.schema_version) == 16
    assert 0 < decided.microseconds < 10_000_000


async def test_a_call_waits_for_its_record_and_fails_without_it() -> None:
    class Lost:
        async def record(self, decided: Decided) -> None:
            raise Unavailable("the decision log is full")

    enforced = PolicyEnforcement(Row(PERMIT_ALL), CedarEngine(), CedarStatements(), Lost())
    for mode in ("ENFORCE", "LOG_ONLY"):
        with pytest.raises(Unavailable):
            await enforced.decide(call(gateway(mode=mode), BALANCE, {"account": "1"}))


async def test_errors_never_repeat_values_of_the_call() -> None:
    kept = Kept()
    secret = 4_242_424_242
    overflows = "context.input.amount * 9223372036854775807 > 0"
    failing = f"permit (principal, {TRANSFERS}) when {{ {overflows} }};"
    await refused(enforcement(Row(failing), kept), TRANSFER, transfer(secret))
    assert kept.last.errors
    assert str(secret) not in str(kept.last.errors)


# An engine that is not usable.


async def test_an_engine_that_is_not_there_denies_everything_and_is_recorded() -> None:
    row, kept = Row(PERMIT_ALL), Kept()
    row.row = None
    enforced = enforcement(row, kept)
    assert await refused(enforced, BALANCE, {"account": "1"}) == NOT_USABLE
    assert kept.last.errors == ["there is no such policy engine"]
    shown = await enforced.shown(gateway(), user())
    assert not shown("Bank___balance")
    assert not shown("anything")
    assert await enforced.decide(call(gateway(mode="LOG_ONLY"), BALANCE, {"account": "1"})) is None
    assert kept.last.allowed is False


@pytest.mark.parametrize(
    "statement", ["permit (", PERMIT_ALL * 2, "permit (principal == ?principal, action, resource);"]
)
async def test_a_statement_that_cannot_be_read_denies_everything(statement: str) -> None:
    kept = Kept()
    row = Row(PERMIT_ALL, statement)
    enforced = enforcement(row, kept)
    assert await refused(enforced, BALANCE, {"account": "1"}) == NOT_USABLE
    assert kept.last.engine_version == "v1"
    row.change(PERMIT_ALL)
    assert await refused(enforced, BALANCE, {"account": "1"}) is None


async def test_a_schema_that_is_too_large_denies_everything_in_plain_words() -> None:
    kept = Kept()
    wide = object_of((), **{f"attribute_{n}": STRING for n in range(500)})
    big = gateway(*(tool(f"T___t{n}", wide) for n in range(40)))
    enforced = enforcement(Row(PERMIT_ALL), kept)
    refusal = await enforced.decide(call(big, big.tools[0], {}))
    assert refusal is not None
    assert refusal.text == NOT_USABLE
    assert "400000 bytes" in kept.last.errors[0]


class Failing(CedarEngine):
    """An engine with a defect that passes."""

    failing = True

    def compile_rules(self, rules: Sequence[Rule], schema: Any) -> CompiledRules:
        if self.failing:
            raise MemoryError("details nobody should see")
        return super().compile_rules(rules, schema)


async def test_a_defect_while_compiling_denies_everything_until_it_has_passed() -> None:
    kept, engine = Kept(), Failing()
    enforced = PolicyEnforcement(Row(PERMIT_ALL), engine, CedarStatements(), kept)
    made = call(gateway(), BALANCE, {"account": "1"})
    refusal = await enforced.decide(made)
    assert refusal is not None
    assert refusal.text == NOT_USABLE
    assert "details" not in str(kept.last.errors)
    engine.failing = False
    assert await enforced.decide(made) is None


async def test_a_decision_that_takes_too_long_is_refused_as_such() -> None:
    engine = CedarEngine(seconds_max=0)
    enforced = PolicyEnforcement(Row(PERMIT_ALL), engine, CedarStatements(), Kept())
    assert await refused(enforced, BALANCE, {"account": "1"}) == NOT_DECIDED


# Callers.


@pytest.mark.parametrize("kind", list(CallerKind))
@pytest.mark.parametrize(
    "authorizer", ["CUSTOM_JWT", "AWS_IAM", "AUTHENTICATE_ONLY", "NONE", "NEW"]
)
async def test_only_who_the_gateways_authorizer_lets_in_can_be_permitted(
    kind: CallerKind, authorizer: str
) -> None:
    enforced = enforcement(Row(PERMIT_ALL))
    caller = Caller(tenant=TENANT, principal="arn:x", kind=kind, claims={"sub": "ann"})
    may = {
        "CUSTOM_JWT": kind is CallerKind.OAUTH_USER,
        "AWS_IAM": kind not in (CallerKind.OAUTH_USER, CallerKind.ANONYMOUS),
        "AUTHENTICATE_ONLY": kind is not CallerKind.ANONYMOUS,
        "NONE": kind is CallerKind.ANONYMOUS,
        "NEW": False,
    }[authorizer]
    at = gateway(authorizer=authorizer)
    refusal = await enforced.decide(call(at, BALANCE, {"account": "1"}, caller=caller))
    assert (refusal is None) is may
    assert (await enforced.shown(at, caller))("Bank___balance") is may


# Tools that are known at their call only.


async def test_a_dynamic_tool_is_decided_with_the_schema_of_its_call() -> None:
    permit = """permit (principal, action in AgentCore::Action::"CallTool", resource)
        when { context.input has amount && context.input.amount < 5 };"""
    at, enforced = gateway(BALANCE, TRANSFER), enforcement(Row(permit))

    async def asked(late: GovernedTool, amount: int) -> str | None:
        refusal = await enforced.decide(call(at, late, {"amount": amount}))
        return None if refusal is None else refusal.text

    late = tool("Late___pay", object_of(["amount"], amount=INTEGER))
    assert await asked(late, 4) is None
    assert await asked(late, 5) == NOT_PERMITTED
    assert await asked(tool("Late___pay", object_of()), 4) == NOT_PERMITTED
    assert (await enforced.shown(at, user()))("Late___pay")


async def test_a_tool_that_says_it_is_another_is_decided_as_what_it_is_called_with() -> None:
    """A dynamic target's tool by the name of one that is listed, with another schema."""
    enforced = enforcement(Row(SMALL))
    loose = tool("Bank___transfer", object_of((), amount=STRING))
    assert await refused(enforced, loose, {"amount": "1000000"}) == NOT_PERMITTED
    assert await refused(enforced, TRANSFER, transfer(5)) is None
    anything = enforcement(Row(PERMIT_ALL))
    assert await refused(anything, loose, {"amount": "1000000"}) is None
    assert await refused(anything, TRANSFER, {"amount": "1000000", "to": "bob"}) == NOT_PERMITTED


async def test_many_dynamic_tools_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freehold.services.policy.compiled.DYNAMIC_TOOLS_MAX", 2)
    at, enforced = gateway(), enforcement(Row(PERMIT_ALL))
    for n in [*range(4), *range(4)]:
        assert await enforced.decide(call(at, tool(f"Late___t{n}"), {})) is None


# What is shown.


async def test_the_list_shows_what_could_be_allowed() -> None:
    trainees = f"""forbid (principal, {TRANSFERS}) when {{
        principal.hasTag("role") && principal.getTag("role") == "trainee" }};"""
    enforced = enforcement(Row(BALANCES, SMALL, trainees))
    clerk = await enforced.shown(gateway(), user())
    trainee = await enforced.shown(gateway(), user(role="trainee"))
    names = [tool.name for tool in TOOLS]
    assert [name for name in names if clerk(name)] == ["Bank___balance", "Bank___transfer"]
    assert [name for name in names if trainee(name)] == ["Bank___balance"]
    assert clerk("x_amz_bedrock_agentcore_search")


async def test_the_list_follows_the_engine_and_the_gateway() -> None:
    row = Row(BALANCES)
    enforced, at = enforcement(row), gateway()
    assert (await enforced.shown(at, user()))("Bank___balance")
    row.change()
    assert not (await enforced.shown(at, user()))("Bank___balance")
    row.change(PERMIT_ALL)
    assert (await enforced.shown(at, user()))("Money___convert")
    assert (await enforced.shown(gateway(BALANCE), user()))("Bank___balance")


async def test_lists_of_many_callers_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freehold.services.policy.enforcement.SHOWN_MAX", 3)
    at, enforced = gateway(), enforcement(Row(BALANCES))
    for n in [*range(6), *range(6)]:
        assert (await enforced.shown(at, user(f"user-{n}")))("Bank___balance")


# Compiling.


async def test_policies_are_compiled_once_for_each_state_and_off_the_event_loop() -> None:
    engine, row = Counting(), Row(PERMIT_ALL)
    enforced = PolicyEnforcement(row, engine, CedarStatements(), Kept())
    at = gateway()
    made = call(at, BALANCE, {"account": "1"})
    assert await asyncio.gather(*(enforced.decide(made) for _ in range(20))) == [None] * 20
    assert engine.compiled == 1
    assert threading.current_thread().name not in engine.threads
    row.change(PERMIT_ALL)
    await asyncio.gather(*(enforced.decide(made) for _ in range(20)))
    assert engine.compiled == 2
    await enforced.decide(call(gateway(), BALANCE, {"account": "1"}))
    assert engine.compiled == 3


async def test_who_gives_up_waiting_takes_nothing_from_the_others() -> None:
    engine = Counting()
    enforced = PolicyEnforcement(Row(PERMIT_ALL), engine, CedarStatements(), Kept())
    made = call(gateway(), BALANCE, {"account": "1"})
    impatient = asyncio.create_task(enforced.decide(made))
    patient = asyncio.create_task(enforced.decide(made))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await asyncio.wait_for(patient, 10) is None
    assert engine.compiled == 1
    assert await asyncio.gather(impatient, return_exceptions=True) != [None]


async def test_a_gateway_that_is_gone_leaves_nothing_behind() -> None:
    enforced = enforcement(Row(PERMIT_ALL))
    at = gateway()
    await enforced.decide(call(at, BALANCE, {"account": "1"}))
    await enforced.shown(at, user())
    gone = weakref.ref(at)
    del at
    gc.collect()
    assert gone() is None


NAMES = st.sampled_from(["amount", "to", "__entity", "__extn", "fn", "arg"])
ANY_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
        st.integers(990, 1010),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(NAMES, st.text(max_size=3)), inner, max_size=4,
        ),
    ),
    max_leaves=10,
)  # fmt: skip
ARGUMENTS = st.one_of(
    st.fixed_dictionaries({"amount": ANY_JSON, "to": st.one_of(st.text(max_size=3), ANY_JSON)}),
    st.dictionaries(st.text(max_size=6), ANY_JSON, max_size=4),
)


@settings(deadline=None, max_examples=300)
@given(ARGUMENTS, st.sampled_from([BALANCE, TRANSFER, CONVERT]))
def test_whatever_the_arguments_are_nothing_fails_and_nothing_is_allowed_that_no_permit_says(
    arguments: dict[str, Any], tool: GovernedTool
) -> None:
    kept = Kept()
    made = call(gateway(), tool, arguments)
    refusal = asyncio.run(enforcement(Row(SMALL, LARGE), kept).decide(made))
    assert len(kept.all) == 1
    assert kept.last.allowed is (refusal is None)
    amount, to = arguments.get("amount"), arguments.get("to")
    if refusal is None:
        assert tool is TRANSFER
        assert kept.last.policies == ("rule-0",)
        assert isinstance(amount, int | float)
        assert amount <= 1000
        assert isinstance(to, str)
    elif tool is TRANSFER and type(amount) is int and isinstance(to, str):
        assert amount > 1000 or amount < -(2**63)


@pytest.mark.parametrize(("amount", "said", "ids"), [(5, "allow", ["rule-0"]), (5000, "deny", [])])
async def test_a_trace_says_what_was_decided_and_by_which_policies_and_no_inputs(
    amount: int, said: str, ids: list[str]
) -> None:
    kept = KeptSpans()
    with tracing.within(Span(Trail(kept), "a call", kind=Kind.INTERNAL, parent=None)):
        await refused(enforcement(Row(SMALL)), TRANSFER, transfer(amount, to="a-secret"))
    span = kept.one("policy ")
    assert span.name == f"policy {said}"
    assert span.attributes["freehold.policy.decision"] == said
    assert span.attributes["freehold.policy.ids"] == ids
    assert span.attributes["freehold.policy.mode"] == "ENFORCE"
    assert "a-secret" not in repr(span.attributes)
