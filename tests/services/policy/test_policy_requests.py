"""A call as the policies see it: each value in the form of its type, and nothing else."""

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from enforcing_ground import (
    AT,
    GATEWAY_ARN,
    INTEGER,
    NUMBER,
    STRING,
    TENANT,
    call,
    gateway,
    object_of,
    tool,
    user,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from freehold.kernel.caller import Caller, CallerKind
from freehold.ports.policies import Uid
from freehold.services.policy.requests import (
    Asked,
    SchemaMismatch,
    asked_of,
    caller_entity,
    principal_entity,
)
from freehold.services.policy.schema import gateway_schema

NESTED = object_of(["deep"], deep=INTEGER, maybe=STRING)
ALL = object_of(
    ["text", "count", "price", "on"],
    text=STRING, count=INTEGER, price=NUMBER, on={"type": "boolean"},
    tags={"type": "array", "items": STRING}, inner=NESTED,
    prices={"type": "array", "items": NUMBER},
    maybe={"type": ["string", "null"]}, anything={},
)  # fmt: skip
GOOD: Mapping[str, Any] = {"text": "a", "count": 1, "price": 2, "on": True}


def asking(arguments: Mapping[str, Any], schema: Any = ALL, **members: Any) -> Asked:
    at = gateway(tool("T___t", schema), authorizer=members.pop("authorizer", "CUSTOM_JWT"))
    made = call(at, at.tools[0], arguments, **members)
    return asked_of(made, gateway_schema(at), AT)


def inputs(arguments: Mapping[str, Any], schema: Any = ALL) -> list[Any]:
    return [request.context["input"] for request in asking(arguments, schema).requests]


def decimal(text: str) -> dict[str, Any]:
    return {"__extn": {"fn": "decimal", "arg": text}}


def test_every_kind_of_argument_has_the_form_of_its_type() -> None:
    (given,) = inputs({**GOOD, "tags": ["x", "y"], "inner": {"deep": 3}, "prices": [1, 2.5]})
    assert given == {
        "text": "a", "count": 1, "price": decimal("2.0000"), "on": True, "tags": ["x", "y"],
        "inner": {"deep": 3}, "prices": [decimal("1.0000"), decimal("2.5000")],
    }  # fmt: skip


def test_members_that_the_schema_does_not_have_are_left_out() -> None:
    (given,) = inputs({**GOOD, "more": 1, "anything": {"x": 1}, "inner": {"deep": 1, "y": 2}})
    assert given == {
        "text": "a",
        "count": 1,
        "price": decimal("2.0000"),
        "on": True,
        "inner": {"deep": 1},
    }


def test_null_is_absence() -> None:
    (given,) = inputs({**GOOD, "maybe": None, "tags": None})
    assert "maybe" not in given
    assert "tags" not in given


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("text", None, "it is needed"),
        ("text", 5, "a text is needed"),
        ("count", "5", "a number is needed"),
        ("count", True, "a number is needed"),
        ("count", 5.5, "a whole number is needed"),
        ("count", 2**63, "larger than 64 bits"),
        ("count", -(2**63) - 1, "larger than 64 bits"),
        ("count", 1e30, "larger than 64 bits"),
        ("price", 922337203685477.6, "too large"),
        ("price", 10**400, "too large"),
        ("price", float("inf"), "a number is needed"),
        ("price", float("nan"), "a number is needed"),
        ("on", 1, "true or false is needed"),
        ("tags", "x", "a list is needed"),
        ("tags", ["x", None], "a text is needed"),
        ("inner", [], "an object is needed"),
        ("inner", {"maybe": "x"}, "it is needed"),
    ],
)
def test_what_has_no_form_is_refused_without_being_repeated(
    member: str, value: Any, words: str
) -> None:
    with pytest.raises(SchemaMismatch, match=words) as refused:
        inputs({**GOOD, member: value})
    assert str(refused.value).startswith(f"input.{member}")


def test_integers_of_64_bits_and_whole_floats_are_integers() -> None:
    for value in (2**63 - 1, -(2**63), 5.0, -0.0):
        (given,) = inputs({**GOOD, "count": value})
        assert given["count"] == int(value)
        assert type(given["count"]) is int


@pytest.mark.parametrize(
    ("value", "down", "up"),
    [
        (0.12345, "0.1234", "0.1235"),
        (-0.12345, "-0.1235", "-0.1234"),
        (1e-9, "0.0", "0.0001"),
        (-1e-9, "-0.0001", "0.0"),
        (Decimal("1.00001"), "1.0000", "1.0001"),
    ],
)
def test_a_number_with_more_than_four_places_is_asked_of_twice(
    value: Any, down: str, up: str
) -> None:
    low, high = inputs({**GOOD, "price": value, "prices": [1.5, value]})
    assert (low["price"], high["price"]) == (decimal(down), decimal(up))
    assert low["prices"] == [decimal("1.5000"), decimal(down)]
    assert high["prices"] == [decimal("1.5000"), decimal(up)]


def test_a_number_that_is_exact_is_asked_of_once() -> None:
    for value in (0.1, 0.0001, -3, 922337203685477.5, -0.0):
        assert len(inputs({**GOOD, "price": value})) == 1


def test_the_edges_of_decimals_range_are_in_it() -> None:
    (given,) = inputs({**GOOD, "price": Decimal("922337203685477.5807")})
    assert given["price"] == decimal("922337203685477.5807")
    with pytest.raises(SchemaMismatch):
        inputs({**GOOD, "price": Decimal("922337203685477.58071")})


def test_time_source_and_session_go_along() -> None:
    far = timezone(timedelta(hours=9))
    at = gateway(tool("T___t", object_of()))
    made = call(at, at.tools[0], {}, source="10.0.0.7", session="mcp-1", caller=user("ann"))
    (request,) = asked_of(made, gateway_schema(at), AT.astimezone(far)).requests
    moment = {"__extn": {"fn": "datetime", "arg": "2026-11-21T20:00:00.000Z"}}
    assert request.context == {
        "input": {}, "time": moment, "system": {"now": moment},
        "source": {"__extn": {"fn": "ip", "arg": "10.0.0.7"}},
        "session": {"id": "mcp-1", "user": "https://issuer.example|ann"},
    }  # fmt: skip


def test_what_is_not_known_is_absent() -> None:
    (request,) = asking({}, object_of()).requests
    assert set(request.context) == {"input", "time", "system"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_is_said_in_one_way(source: str, said: str) -> None:
    (request,) = asking({}, object_of(), source=source).requests
    assert request.context["source"]["__extn"]["arg"] == said


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(SchemaMismatch, match="no IP address"):
        asking({}, object_of(), source="somewhere")


def test_a_platform_session_is_known_by_its_agent() -> None:
    agent = f"arn:aws:bedrock-agentcore:us-east-1:{TENANT}:runtime/agent-0123456789"
    caller = Caller(
        tenant=TENANT, principal=f"{agent}/session/s-1", kind=CallerKind.SESSION, user="ann"
    )
    asked = asking({}, object_of(), caller=caller, session="mcp-1", authorizer="AWS_IAM")
    assert asked.requests[0].context["session"] == {"id": "s-1", "agent": agent, "user": "ann"}
    assert asked.requests[0].principal == Uid("AgentCore::IamEntity", f"{agent}/session/s-1")


def test_claims_are_tags_and_all_tags_are_strings() -> None:
    entity = caller_entity(
        user("ann", role="manager", admin=True, level=3, ratio=0.5, none=None, groups=["a", "b"],
             address={"city": "Ulm"})
    )  # fmt: skip
    assert entity.uid == Uid("AgentCore::OAuthUser", "ann")
    assert entity.attributes == {"id": "ann"}
    assert entity.tags == {
        "sub": "ann", "role": "manager", "admin": "true", "level": "3", "ratio": "0.5",
        "groups": '["a","b"]', "address": '{"city":"Ulm"}',
    }  # fmt: skip


def test_a_token_without_a_subject_is_known_by_the_callers_name() -> None:
    caller = Caller(
        tenant=TENANT, principal="issuer|x", kind=CallerKind.OAUTH_USER, claims={"sub": 5}
    )
    assert caller_entity(caller).uid == Uid("AgentCore::OAuthUser", "issuer|x")


@pytest.mark.parametrize("kind", sorted(set(CallerKind) - {CallerKind.OAUTH_USER}))
def test_every_other_caller_is_an_iam_entity_or_anonymous(kind: CallerKind) -> None:
    entity = caller_entity(Caller(tenant=TENANT, principal="arn:x", kind=kind, claims={"a": "b"}))
    if kind is CallerKind.ANONYMOUS:
        assert entity.uid == Uid("AgentCore::Anonymous", "anonymous")
    else:
        assert entity.uid == Uid("AgentCore::IamEntity", "arn:x")
    assert entity.tags == {}
    assert entity == principal_entity(entity.uid.type, entity.uid.id, {"a": "b"})


def test_a_kind_of_caller_that_the_gateway_has_not_is_refused() -> None:
    person = Caller(tenant=TENANT, principal="arn:x", kind=CallerKind.PERSON)
    with pytest.raises(SchemaMismatch, match="kind of caller"):
        asking({}, object_of(), caller=person)
    assert asking({}, object_of(), caller=person, authorizer="AUTHENTICATE_ONLY").requests


def test_the_gateway_is_the_resource() -> None:
    asked = asking({}, object_of())
    assert asked.requests[0].resource == Uid("AgentCore::Gateway", GATEWAY_ARN)
    assert asked.entities[1].attributes == {"id": GATEWAY_ARN, "name": "bank"}


ANY_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.sampled_from([*GOOD, "inner", "deep", "__entity", "__extn"]), st.text(max_size=3)
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


FITTING = {
    "text": st.text(max_size=5),
    "count": st.integers(-(2**64), 2**64),
    "price": st.one_of(st.integers(), st.floats(-1e16, 1e16)),
    "on": st.booleans(),
}
ARGUMENTS = st.fixed_dictionaries(
    {name: st.one_of(fitting, fitting, ANY_JSON) for name, fitting in FITTING.items()},
    optional={
        "prices": st.lists(st.floats(-1e9, 1e9)),
        **dict.fromkeys(("tags", "inner", "anything", "__extn"), ANY_JSON),
    },
)


@settings(deadline=None, max_examples=400)
@given(ARGUMENTS)
@example({**GOOD, "text": {"__entity": {"type": "AgentCore::OAuthUser", "id": "boss"}}})
@example({**GOOD, "inner": {"__extn": {"fn": "ip", "arg": "1.1.1.1"}, "deep": 1}})
def test_whatever_a_client_writes_is_data_or_refused(arguments: dict[str, Any]) -> None:
    """No form that Cedar reads as something else than data, but our own for numbers."""
    try:
        given = inputs(arguments)
    except SchemaMismatch:
        return
    for each in given:
        assert set(each) <= set(ALL["properties"])
        assert each["text"] == arguments["text"]
        assert type(each["count"]) is int
        assert set(each.get("inner", {})) <= {"deep", "maybe"}
        for number in (each["price"], *each.get("prices", ())):
            assert number.keys() == {"__extn"}
            assert number["__extn"]["fn"] == "decimal"
            assert Decimal(number["__extn"]["arg"]) == Decimal(number["__extn"]["arg"]).quantize(
                Decimal("0.0001")
            )


def test_the_time_is_never_taken_as_local() -> None:
    zone = datetime(2026, 11, 21, 23, 0, tzinfo=timezone(timedelta(hours=3)))
    at = gateway(tool("T___t", object_of()))
    (request,) = asked_of(call(at, at.tools[0], {}), gateway_schema(at), zone).requests
    assert request.context["time"]["__extn"]["arg"] == "2026-11-21T20:00:00.000Z"
