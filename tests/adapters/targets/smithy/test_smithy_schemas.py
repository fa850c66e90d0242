"""What a tool's schemas say of an operation's input and output."""

from typing import Any

import jsonschema_rs
import pytest
from smithy_models import full, member, operation, structure, text, trait

from freehold.adapters.targets.smithy import convert

Json = dict[str, Any]


def document(shapes: Json, **more: Any) -> Json:
    (definition,) = convert(text(shapes, **more)).definitions
    return definition.document


def taken(shapes: Json, **members: Json) -> Json:
    shapes = {
        **shapes,
        "GetInput": structure(**members),
        "Get": operation("GetInput", http=("POST", "/get")),
    }
    schema: Json = document(shapes)["inputSchema"]
    return schema


@pytest.mark.parametrize(
    ("given", "schema"),
    [
        (member("String"), {"type": "string"}),
        (
            member("String", length={"min": 1, "max": 9}, pattern="^a+$"),
            {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^a+$"},
        ),
        (member("Integer", default=5), {"type": "integer", "default": 5}),
        (
            member("Integer", range={"min": -5, "max": 5}),
            {"type": "integer", "minimum": -5, "maximum": 5},
        ),
        (member("Double", range={"max": "0.5"}), {"type": "number", "maximum": 0.5}),
        (member("BigInteger"), {"type": "integer"}),
        (member("BigDecimal"), {"type": "number"}),
        (member("Timestamp"), {"type": "string", "format": "date-time"}),
        (member("Blob"), {"type": "string", "contentEncoding": "base64"}),
        (
            member("Blob", mediaType="image/png"),
            {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
        ),
        (member("Document"), {}),
        (member("String", sensitive=True), {"type": "string", "format": "password"}),
        (member("String", deprecated=True), {"type": "string", "deprecated": True}),
        (
            member("String", documentation="<p>One &amp; <b>only</b>.</p><ul><li>a</li></ul>"),
            {"type": "string", "description": "One & only.\n- a"},
        ),
        # Patterns that nobody can compile would make the tool one that cannot be called.
        (member("String", pattern="[\\uD800-\\uDFFF]("), {"type": "string"}),
    ],
)
def test_traits_are_keywords(given: Json, schema: Json) -> None:
    assert taken({}, it=given)["properties"]["it"] == schema


def test_enums_of_both_kinds_lists_maps_and_unions() -> None:
    shapes = {
        "Colour": {
            "type": "enum",
            "members": {
                "RED": {"target": full("Unit"), "traits": trait("enumValue", "red")},
                "BLUE": {"target": full("Unit")},
            },
        },
        "Size": {
            "type": "intEnum",
            "members": {"S": {"target": full("Unit"), "traits": trait("enumValue", 1)}},
        },
        "Colours": {
            "type": "list",
            "member": member("Colour"),
            "traits": {**trait("length", {"min": 1, "max": 3}), **trait("uniqueItems")},
        },
        "Sizes": {
            "type": "map",
            "key": member("Colour"),
            "value": member("Size"),
            "traits": trait("sparse"),
        },
        "Either": {"type": "union", "members": {"a": member("String"), "b": member("Size")}},
    }
    properties = taken(
        shapes, colours=member("Colours"), sizes=member("Sizes"), either=member("Either")
    )["properties"]
    assert properties["colours"] == {
        "type": "array",
        "items": {"type": "string", "enum": ["red", "BLUE"]},
        "minItems": 1,
        "maxItems": 3,
        "uniqueItems": True,
    }
    assert properties["sizes"] == {
        "type": "object",
        "additionalProperties": {
            "anyOf": [{"type": "integer", "enum": [1]}, {"type": "null"}],
        },
        "propertyNames": {"enum": ["red", "BLUE"]},
    }
    assert (properties["either"]["minProperties"], properties["either"]["maxProperties"]) == (1, 1)


def test_recursive_and_shared_structures_are_definitions() -> None:
    shapes = {
        "Tree": structure(left=member("Tree"), right=member("Trees"), leaf=member("Leaf")),
        "Trees": {"type": "list", "member": member("Tree")},
        "Leaf": structure(colour=member("String", required=True)),
    }
    schema = taken(shapes, tree=member("Tree", documentation="It."), leaf=member("Leaf"))
    assert schema["properties"]["tree"] == {"$ref": "#/$defs/Tree", "description": "It."}
    assert set(schema["$defs"]) == {"Tree", "Leaf"}
    validator = jsonschema_rs.validator_for(schema)
    leaf = {"leaf": {"colour": "red"}}
    assert validator.is_valid({"tree": {"left": {"right": [leaf]}}})
    assert not validator.is_valid({"tree": {"left": {"right": [{"leaf": {}}]}}})
    assert not validator.is_valid({"tree": {"unknown": 1}})


def test_a_structure_that_meets_itself_in_a_shared_list_is_a_definition() -> None:
    shapes = {
        "Node": structure(nodes=member("Nodes"), byName=member("ByName")),
        "Nodes": {"type": "list", "member": member("Node")},
        "ByName": {"type": "map", "key": member("String"), "value": member("Nodes")},
    }
    schema = taken(shapes, nodes=member("Nodes"))
    assert schema["properties"]["nodes"] == {"type": "array", "items": {"$ref": "#/$defs/Node"}}
    assert set(schema["$defs"]) == {"Node"}


def test_a_list_of_itself_ends_the_operation_and_not_the_rest() -> None:
    shapes = {
        "L": {"type": "list", "member": member("L")},
        "GetInput": structure(l=member("L")),
        "Get": operation("GetInput", http=("POST", "/get")),
    }
    (problem,) = convert(text(shapes)).problems
    assert "nested deeper" in problem.why


def test_a_long_schema_says_a_sentence_of_each_member() -> None:
    said = "The first sentence. " + "And more of it. " * 30
    members = {f"m{i}": member("String", documentation=said) for i in range(150)}
    few = taken({}, m=member("String", documentation=said))["properties"]["m"]["description"]
    many = taken({}, **members)["properties"]["m0"]["description"]
    assert len(few) > 400
    assert many == "The first sentence."


def test_structures_may_be_nested_without_an_end_to_it() -> None:
    shapes = {f"S{i}": structure(next=member(f"S{i + 1}"), b=member("Integer")) for i in range(40)}
    shapes |= {"S40": structure()}
    assert taken(shapes, it=member("S0"))["properties"]["it"]["type"] == "object"
    for i in range(40, 200):
        shapes[f"S{i}"] = structure(next=member(f"S{i + 1}"))
    shapes["S200"] = structure()
    (problem,) = convert(text({**shapes, "Get": operation("S0", http=("POST", "/get"))})).problems
    assert "nested deeper" in problem.why
    # Those that meet themselves are definitions, side by side.
    for i in range(200):
        shapes[f"S{i}"] = structure(next=member(f"S{i + 1}"), again=member(f"S{i}"))
    assert len(taken(shapes, it=member("S0"))["$defs"]) == 200


def test_a_token_or_a_default_is_not_asked_for() -> None:
    schema = taken(
        {},
        token=member("String", required=True, idempotencyToken=True),
        size=member("Integer", required=True, default=5),
        secret=member("String", internal=True),
        name=member("String", required=True),
    )
    assert schema["required"] == ["name"]
    assert set(schema["properties"]) == {"token", "size", "name"}


def test_an_output_allows_what_services_say_beyond_their_model() -> None:
    shapes = {
        "Out": structure(
            kind=member("Colour", required=True),
            share=member("Double", required=True, documentation="First. Second."),
        ),
        "Colour": {"type": "enum", "members": {"RED": {"target": full("Unit")}}},
        "Get": operation("Unit", "Out", http=("GET", "/get")),
    }
    schema = document(shapes)["outputSchema"]
    assert jsonschema_rs.validator_for(schema).is_valid({"kind": "NEW", "more": 1, "share": "NaN"})
    assert schema["properties"]["share"]["description"] == "First."


@pytest.mark.parametrize(
    ("given", "hints"),
    [
        (operation(http=("POST", "/a"), readonly=True), {"readOnlyHint": True}),
        (operation(http=("GET", "/a")), {"readOnlyHint": True}),
        (operation(http=("POST", "/a")), {"readOnlyHint": False}),
        (operation(http=("PUT", "/a")), {"readOnlyHint": False, "idempotentHint": True}),
        (
            operation(http=("DELETE", "/a"), idempotent=True),
            {"readOnlyHint": False, "idempotentHint": True, "destructiveHint": True},
        ),
    ],
)
def test_hints_follow_the_model(given: Json, hints: Json) -> None:
    assert document({"Get": given})["annotations"] == {**hints, "openWorldHint": True}


def test_a_description_says_what_is_deprecated_and_how_pages_go_on() -> None:
    shapes = {
        "ListAllPets": operation(
            http=("GET", "/pets"),
            documentation="<p>Lists pets.</p>\n  <p>All of them.</p>",
            deprecated={"message": "Use ListThem."},
            paginated={"items": "pets"},
        )
    }
    pages = trait("paginated", {"inputToken": "nextToken", "outputToken": "token"})
    made = document(shapes, traits=pages)["description"]
    assert made == (
        "Deprecated: Use ListThem.\nLists pets.\nAll of them.\n"
        "It answers in pages: where the result has token, call again with it as nextToken for the"
        " next one."
    )
    assert document({"ListAllPets": operation(http=("GET", "/p"))})["description"] == (
        "List All Pets"
    )
