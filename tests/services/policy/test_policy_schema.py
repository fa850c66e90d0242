"""The Cedar schema of a gateway: what policies can speak of, and what not, and why."""

import time
from typing import Any

import cedarpy
import msgspec
import pytest
from enforcing_ground import GATEWAY, INTEGER, NUMBER, STRING, TOOLS, gateway, object_of, tool
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.adapters.cedar.engine import CedarEngine
from freehold.ports.policies import Rule
from freehold.services.policy.inputs import LeftOut
from freehold.services.policy.schema import (
    GatewaySchema,
    SchemaTooLarge,
    gateway_schema,
    restricted,
    schema_text,
)


def schema_of(input_schema: Any, **members: Any) -> GatewaySchema:
    return gateway_schema(gateway(tool("T___t", input_schema), **members))


def fits(schema: GatewaySchema, condition: str, action: str = 'action == A::"T___t"') -> bool:
    """Whether a policy may say so: by our engine, and by Cedar's own words for the schema."""
    scope = f"principal, {action}, resource == {GATEWAY}"
    statement = f"permit({scope}) when {{ {condition} }};".replace("A::", "AgentCore::Action::")
    compiled = CedarEngine().compile_rules([Rule(id="p", statement=statement)], schema.document)
    in_words = cedarpy.validate_policies(statement, schema_text(schema)).validation_passed
    assert in_words is not bool(compiled.problems), compiled.problems
    return in_words


@pytest.mark.parametrize(
    ("member", "condition"),
    [
        (STRING, 'context.input.x like "a*"'),
        (INTEGER, "context.input.x + 1 > 5"),
        ({"type": "boolean"}, "context.input.x"),
        (NUMBER, 'context.input.x.lessThan(decimal("1.5"))'),
        ({"type": ["integer", "number"]}, 'context.input.x.lessThan(decimal("1.5"))'),
        ({"type": "array", "items": STRING}, 'context.input.x.contains("a")'),
        (object_of(["y"], y=INTEGER), "context.input.x.y == 1"),
        ({"enum": ["a", "b"]}, 'context.input.x == "a"'),
        ({"const": 5}, "context.input.x == 5"),
        ({"$ref": "#/$defs/named"}, "context.input.x.y == 1"),
        ({"allOf": [{"$ref": "#/$defs/named"}]}, "context.input.x.y == 1"),
        ({"type": "array", "items": object_of(["y"], y=STRING)}, 'context.input.x == [{y: "a"}]'),
    ],
)
def test_each_kind_of_argument_has_its_cedar_type(member: Any, condition: str) -> None:
    schema = schema_of(
        {**object_of(["x"], x=member), "$defs": {"named": object_of(["y"], y=INTEGER)}}
    )
    assert schema.left_out == {}
    assert fits(schema, condition)
    assert not fits(schema, "context.input.x == principal")


@pytest.mark.parametrize(
    "member",
    [
        {"type": ["string", "null"]},
        {"type": "string", "nullable": True},
        {"anyOf": [STRING, {"type": "null"}]},
        {"oneOf": [{"type": "null"}, {"type": "string", "format": "uri"}]},
    ],
)
def test_what_may_be_null_may_be_absent(member: Any) -> None:
    schema = schema_of(object_of(["x"], x=member))
    assert not fits(schema, 'context.input.x == "a"')
    assert fits(schema, 'context.input has x && context.input.x == "a"')


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ({}, "its schema has no one type"),
        (True, "its schema says nothing of its type"),
        ({"type": ["string", "integer"]}, "its schema has no one type"),
        ({"oneOf": [STRING, INTEGER]}, "it can be of different types"),
        ({"anyOf": [{"type": "null"}]}, "it can only be null"),
        ({"allOf": [STRING, {"minLength": 1}]}, "its schema is put together from several"),
        ({"type": "object"}, "it is an object of unknown members"),
        ({"type": "array"}, "it is a list of what has no one type"),
        ({"type": "array", "items": [STRING, INTEGER]}, "it is a list of what has no one type"),
        (
            {"type": "array", "items": {"type": ["string", "null"]}},
            "it is a list that may hold null",
        ),
        ({"enum": ["a", 1]}, "its schema has no one type"),
        ({"$ref": "https://elsewhere.example/schema"}, "its schema refers to another document"),
        ({"$ref": "#/$defs/nowhere"}, "its schema refers to what is not there"),
        ({"$ref": "#/$defs/self"}, "its schema refers to itself"),
    ],
)
def test_what_has_no_one_type_is_left_out_and_said_so(member: Any, why: str) -> None:
    schema = schema_of(
        {**object_of(["x", "y"], x=member, y=STRING), "$defs": {"self": {"$ref": "#/$defs/self"}}}
    )
    assert schema.left_out == {"T___t": (LeftOut("input.x", why),)}
    assert fits(schema, 'context.input.y == "a"')
    assert not fits(schema, "context.input.x == context.input.x")


def test_a_schema_that_contains_itself_is_spoken_of_once() -> None:
    tree = object_of(["name"], name=STRING, child={"$ref": "#/$defs/tree"})
    schema = schema_of(
        {**object_of(["root"], root={"$ref": "#/$defs/tree"}), "$defs": {"tree": tree}}
    )
    assert schema.left_out["T___t"] == (LeftOut("input.root.child", "its schema refers to itself"),)
    assert fits(schema, 'context.input.root.name == "a"')


def test_what_lies_deeper_than_eight_levels_is_left_out() -> None:
    deep: Any = STRING
    for _ in range(9):
        deep = object_of(["x"], x=deep)
    (left,) = schema_of(deep).left_out["T___t"]
    assert left.path.count(".x") == 9
    assert "8 levels" in left.why


@pytest.mark.parametrize("name", ["__entity", "__extn", "__expr"])
def test_a_member_whose_name_means_something_in_cedars_json_is_left_out(name: str) -> None:
    schema = schema_of(object_of([name, "y"], **{name: STRING, "y": STRING}))
    assert schema.left_out["T___t"][0].path == f"input.{name}"
    assert fits(schema, 'context.input.y == "a"')


def test_a_name_of_any_characters_can_be_spoken_of() -> None:
    schema = schema_of(object_of(["a b", 'q"\\', "\n\t\u200b", "é"], **{
        "a b": STRING, 'q"\\': STRING, "\n\t\u200b": STRING, "é": INTEGER,
    }))  # fmt: skip
    assert schema.left_out == {}
    assert fits(schema, 'context.input["a b"] == context.input["q\\"\\\\"]')
    assert fits(schema, 'context.input["\\n\\t\\u{200b}"] == "" && context.input["é"] == 1')


@pytest.mark.parametrize(
    ("authorizer", "types"),
    [
        ("CUSTOM_JWT", {"OAuthUser"}),
        ("AWS_IAM", {"IamEntity"}),
        ("AUTHENTICATE_ONLY", {"OAuthUser", "IamEntity"}),
        ("NONE", {"Anonymous"}),
    ],
)
def test_who_can_come_in_is_who_policies_can_speak_of(authorizer: str, types: set[str]) -> None:
    schema = schema_of(object_of(), authorizer=authorizer)
    for type in ("OAuthUser", "IamEntity", "Anonymous"):
        statement = f"permit(principal is AgentCore::{type}, action, resource);"
        compiled = CedarEngine().compile_rules([Rule(id="p", statement=statement)], schema.document)
        assert bool(compiled.problems) is (type not in types)


def test_a_token_user_has_tags_and_nobody_else() -> None:
    both = schema_of(object_of(), authorizer="AUTHENTICATE_ONLY")
    assert fits(both, 'principal is AgentCore::OAuthUser && principal.hasTag("role")')
    assert not fits(both, 'principal is AgentCore::IamEntity && principal.getTag("role") == ""')
    assert fits(both, 'principal.id like "arn:*" && resource.name == "bank"')


@pytest.mark.parametrize("group", ["T", "CallTool", "Mcp"])
def test_a_tool_is_in_its_targets_group_and_that_in_all_calls(group: str) -> None:
    assert fits(schema_of(object_of()), "true", f'action in A::"{group}"')
    assert not fits(schema_of(object_of()), "true", 'action in A::"Other"')


def test_time_source_and_session_can_be_spoken_of_as_aws_says_and_as_we_do() -> None:
    schema = schema_of(object_of())
    assert fits(schema, 'context.system.now < datetime("2027-01-01")')
    assert fits(schema, 'context.time.toTime() > duration("9h")')
    assert fits(schema, 'context has source && context.source.isInRange(ip("10.0.0.0/8"))')
    assert fits(schema, 'context has session.agent && context.session.agent like "arn:*"')
    assert not fits(schema, 'context.source.isInRange(ip("10.0.0.0/8"))')


def test_a_target_whose_name_is_a_groups_does_no_harm() -> None:
    named = [tool("Mcp___a"), tool("CallTool___b"), tool("Mcp"), tool("CallTool")]
    schema = gateway_schema(gateway(*named))
    assert sorted(schema.tools) == ["CallTool___b", "Mcp___a"]
    assert schema.left_out["Mcp"] == (LeftOut("", "its name is taken"),)
    assert fits(schema, "true", 'action in A::"CallTool"')


def test_a_gateway_whose_tools_say_too_much_is_an_error_in_plain_words() -> None:
    wide = object_of((), **{f"attribute_{n}": STRING for n in range(500)})
    with pytest.raises(SchemaTooLarge, match="400000 bytes"):
        gateway_schema(gateway(*(tool(f"T___t{n}", wide) for n in range(40))))


def test_a_schema_that_multiplies_by_references_ends_soon() -> None:
    defs = {
        f"d{n}": object_of((), **{f"m{k}": {"$ref": f"#/$defs/d{n + 1}"} for k in range(20)})
        for n in range(8)
    }
    started = time.process_time()
    schema = schema_of({**object_of((), x={"$ref": "#/$defs/d0"}), "$defs": {**defs, "d8": STRING}})
    assert any("more than 2000 members" in left.why for left in schema.left_out["T___t"])
    assert time.process_time() - started < 5


def test_the_schema_is_made_once_for_a_state_of_a_gateway() -> None:
    first, second = gateway(), gateway()
    assert gateway_schema(first) is gateway_schema(first)
    assert gateway_schema(first) is not gateway_schema(second)
    assert gateway_schema(first).version == gateway_schema(second).version
    assert gateway_schema(gateway(TOOLS[0])).version != gateway_schema(first).version


def test_a_tool_that_is_known_at_its_call_only_stands_beside_the_others() -> None:
    late = tool("Late___tool", object_of(["x"], x=STRING))
    plain, more = gateway_schema(gateway()), gateway_schema(gateway(), late)
    assert set(more.tools) - set(plain.tools) == {"Late___tool"}
    assert gateway_schema(gateway(late), tool("Late___tool")).inputs["Late___tool"].attributes == {}


def test_a_restricted_schema_has_the_groups_and_the_tools_asked_for() -> None:
    schema = gateway_schema(gateway())
    assert set(restricted(schema, {"Bank___balance"})["AgentCore"]["actions"]) == {
        "Mcp", "CallTool", "Bank", "Money", "Bank___balance",
    }  # fmt: skip
    cedarpy.Schema.from_json_str(msgspec.json.encode(restricted(schema, ())).decode())


WORDS = st.sampled_from(
    ["type", "properties", "items", "$ref", "anyOf", "allOf", "enum", "required"]
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=4),
    st.sampled_from(["string", "integer", "object", "array", "null", "#", "#/properties/x"]),
)  # fmt: skip
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(WORDS, st.text(max_size=3)), inner, max_size=4),
    ),
    max_leaves=20,
)


@settings(deadline=None, max_examples=300)
@given(SCHEMAS)
def test_whatever_a_server_calls_a_schema_cedar_reads_what_is_made_of_it(input_schema: Any) -> None:
    schema = schema_of({"properties": {"x": input_schema}} if input_schema else input_schema)
    cedarpy.Schema.from_json_str(msgspec.json.encode(schema.document).decode())
    cedarpy.Schema.from_str(schema_text(schema))
