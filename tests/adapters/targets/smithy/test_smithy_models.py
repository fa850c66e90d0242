"""Reading models: what stands in them in many ways is one operation in the end."""

import json
from typing import Any

import pytest
from smithy_models import NS, full, member, model, operation, structure, text, trait

from freehold.adapters.targets.smithy import convert
from freehold.kernel.errors import ValidationFailed

Json = dict[str, Any]


def tool(described: str, name: str = "Get") -> Json:
    found = {d.name: d.document for d in convert(described).definitions}
    return found[name]


def test_members_and_traits_of_mixins_are_a_structures_own() -> None:
    shapes = {
        "Paged": {**structure(token=member("String"), size=member("Integer")),
                  "traits": trait("mixin")},
        "Listed": {
            **structure(filter=member("String")),
            "mixins": [{"target": full("Paged")}],
            "traits": trait("mixin"),
        },
        "GetInput": {
            **structure(name=member("String", required=True)),
            "mixins": [{"target": full("Listed")}],
        },
        # Said of a member that the structure only inherits.
        "GetInput$size": {"type": "apply", "traits": trait("range", {"min": 1, "max": 50})},
        "Get": operation("GetInput", http=("POST", "/get")),
    }  # fmt: skip
    schema = tool(text(shapes))["inputSchema"]
    assert list(schema["properties"]) == ["token", "size", "filter", "name"]
    assert schema["properties"]["size"] == {"type": "integer", "minimum": 1, "maximum": 50}
    assert schema["required"] == ["name"]


def test_a_mixin_may_be_an_operation_or_a_service() -> None:
    shapes = {
        "Readable": {"type": "operation", "traits": {**trait("mixin"), **trait("readonly")}},
        "Get": {
            **operation("Unit", http=("POST", "/get")),
            "mixins": [{"target": full("Readable")}],
        },
    }
    made = model(shapes, mixins=[{"target": full("Base")}])
    made["shapes"][full("Pets")]["operations"] = []
    made["shapes"][full("Base")] = {
        "type": "service",
        "operations": [{"target": full("Get")}],
        "traits": trait("mixin"),
    }
    found = tool(json.dumps(made))
    assert found["annotations"]["readOnlyHint"] is True


def test_local_traits_of_a_mixin_stay_with_it() -> None:
    shapes = {
        "Old": {
            **structure(a=member("String")),
            "traits": {
                **trait("mixin", {"localTraits": ["smithy.api#documentation"]}),
                **trait("documentation", "of the mixin"),
            },
        },
        "Inner": {**structure(), "mixins": [{"target": full("Old")}]},
        "GetInput": structure(inner=member("Inner")),
        "Get": operation("GetInput", http=("POST", "/get")),
    }
    assert "description" not in tool(text(shapes))["inputSchema"]["properties"]["inner"]


def test_what_is_applied_counts_as_written_at_the_shape() -> None:
    made = model({
        "GetInput": structure(kind=member("String")),
        "Get": operation("GetInput", http=("POST", "/get")),
    })  # fmt: skip
    made["shapes"][f"{NS}#GetInput$kind"] = {
        "type": "apply",
        "traits": {**trait("required"), **trait("documentation", "What it is.")},
    }
    schema = tool(json.dumps(made))["inputSchema"]
    assert schema["required"] == ["kind"]
    assert schema["properties"]["kind"]["description"] == "What it is."


def test_models_of_version_1_have_sets_and_enums_as_traits() -> None:
    shapes = {
        "Colour": {
            "type": "string",
            "traits": trait("enum", [{"value": "red", "name": "RED"}, {"value": "dark blue"}]),
        },
        "Colours": {"type": "set", "member": {"target": full("Colour")}},
        "GetInput": structure(colours=member("Colours"), age=member("smithy.api#PrimitiveInteger")),
        "Get": operation("GetInput", http=("POST", "/get")),
    }
    properties = tool(text(shapes, version="1.0"))["inputSchema"]["properties"]
    assert properties["colours"] == {
        "type": "array",
        "uniqueItems": True,
        "items": {"type": "string", "enum": ["red", "dark blue"]},
    }
    assert properties["age"] == {"type": "integer"}


def test_operations_of_resources_are_the_services_as_well() -> None:
    shapes = {
        **{n: operation(http=("POST", f"/{n}"), readonly=True)
           for n in ("ReadPet", "ListPets", "FeedPet", "CountPets", "ReadToy")},
        "Toy": {"type": "resource", "read": {"target": full("ReadToy")}},
        "Pet": {
            "type": "resource",
            "identifiers": {"id": {"target": "smithy.api#String"}},
            "read": {"target": full("ReadPet")},
            "list": {"target": full("ListPets")},
            "operations": [{"target": full("FeedPet")}],
            "collectionOperations": [{"target": full("CountPets")}],
            "resources": [{"target": full("Toy")}, {"target": full("Pet")}],
        },
    }  # fmt: skip
    described = convert(text(shapes, operations=[], resources=[{"target": full("Pet")}]))
    assert [d.name for d in described.definitions] == [
        "ReadPet", "ListPets", "FeedPet", "CountPets", "ReadToy",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "no JSON"),
        ("$version: \"2\"\nnamespace x", "smithy ast"),
        ("[1]", "no Smithy model"),
        ('{"openapi": "3.1.0"}', "no Smithy model"),
        ('{"smithy": "3.0", "shapes": {"a#B": {"type": "service"}}}', "1.0 and 2.0"),
        ('{"smithy": "2.0", "shapes": {}}', "no shapes"),
        ('{"smithy": "2.0", "shapes": {"a#B": {"type": "structure"}}}', "one service"),
        ('{"smithy": "2.0", "shapes": {"a#B": 1}}', "/shapes/a#B"),
        ('{"smithy": "2.0", "shapes": {"a#B": {"type": "service", "operations": 1}}}', "no list"),
        ('{"smithy": "2.0", "shapes": {"a#B": {"type": "service"}, "a#C": {"type": "service"}}}',
         "a#B, a#C"),
        ("[" * 100_000, "no JSON"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused_with_its_reason(given: str, said: str) -> None:
    with pytest.raises(ValidationFailed, match=said):
        convert(given)


def test_a_model_has_a_size_that_it_may_have() -> None:
    with pytest.raises(ValidationFailed, match="10 MiB"):
        convert(" " * (10 << 20) + "{}")


def test_one_broken_operation_leaves_the_others_alone() -> None:
    described = convert(
        text(
            {
                "Good": operation(http=("GET", "/good")),
                "Unbound": operation(),
                "NoInput": {**operation(http=("GET", "/a")), "input": {"target": f"{NS}#Gone"}},
                "BadTrait": {
                    **operation(http=("GET", "/b")),
                    "traits": {"smithy.api#http": "GET /"},
                },
                "BadLabel": operation(http=("GET", "/c/{id}")),
                "BadList": operation("Listed", http=("POST", "/d")),
                "Listed": structure(l=member("L")),
                "L": {"type": "list"},
                "Events": operation("Unit", "Streamed", http=("GET", "/e")),
                "Streamed": structure(events=member("Stream", httpPayload=True)),
                "Stream": {
                    "type": "union",
                    "members": {"one": member("Listed")},
                    "traits": trait("streaming"),
                },
                "Hidden": operation(http=("GET", "/f"), internal=True),
                "Odd name": operation(http=("GET", "/g")),
                "OddPath": operation(http=("GET", "/g h#i")),
                "OddHost": operation(http=("GET", "/g"), endpoint={"hostPrefix": "evil.com/"}),
                "Mixed": operation("Loop", http=("POST", "/g")),
                "Loop": {**structure(), "mixins": [{"target": full("Loop")}]},
            }
        )
    )
    assert [d.name for d in described.definitions] == ["Good"]
    reasons = {p.where.rpartition("#")[2]: p.why for p in described.problems}
    assert all(p.skipped for p in described.problems)
    assert set(reasons) == {
        "Unbound", "NoInput", "BadTrait", "BadLabel", "BadList", "Events", "Hidden", "Mixed",
        "Odd name", "OddPath", "OddHost",
    }  # fmt: skip
    assert "smithy.api#http" in reasons["Unbound"]
    assert f"no shape {NS}#Gone" in reasons["NoInput"]
    assert "{id}" in reasons["BadLabel"]
    assert "no member" in reasons["BadList"]
    assert "stream of events" in reasons["Events"]
    assert "mixes in itself" in reasons["Mixed"]


def test_more_operations_than_a_target_has_tools_are_left_out_and_named() -> None:
    shapes = {f"Op{i}": operation(http=("GET", f"/{i}")) for i in range(5)}
    described = convert(text(shapes), tools_max=3)
    assert len(described.definitions) == 3
    (problem,) = described.problems
    assert problem.where.endswith("#Op3")
    assert "3 tools" in problem.why


def test_a_service_without_a_protocol_but_with_paths_is_taken_for_rest_with_json() -> None:
    described = convert(text({"Get": operation(http=("GET", "/get"))}, protocol=""))
    assert [d.name for d in described.definitions] == ["Get"]
    assert described.server["protocol"] == "restJson1"
    (problem,) = described.problems
    assert not problem.skipped


def test_a_stream_of_bytes_is_a_tool_that_says_it_is_not_streamed() -> None:
    described = convert(
        text(
            {
                "Get": operation("Unit", "Out", http=("GET", "/get")),
                "Out": structure(body=member("Bytes", httpPayload=True)),
                "Bytes": {"type": "blob", "traits": trait("streaming")},
            }
        )
    )
    assert len(described.definitions) == 1
    (problem,) = described.problems
    assert (problem.skipped, "body" in problem.why.lower()) == (False, True)


def test_plans_are_json_and_small_where_nothing_is_special() -> None:
    shapes = {
        "GetInput": structure(name=member("String"), tags=member("Tags")),
        "Tags": {"type": "map", "key": member("String"), "value": member("String")},
        "Get": operation("GetInput", "GetInput"),
    }
    (definition,) = convert(text(shapes, protocol="aws.protocols#awsJson1_1")).definitions
    assert json.loads(json.dumps(definition.plan)) == definition.plan
    assert definition.plan == {
        "protocol": "awsJson1_1", "operation": "Get", "target": "Pets.Get", "has_body": True,
    }  # fmt: skip


def test_a_shape_that_is_mixed_in_a_billion_times_over_is_read_once() -> None:
    shapes: Json = {"M0": {**structure(a=member("String")), "traits": trait("mixin")}}
    for i in range(1, 31):
        mixins = [{"target": full(f"M{i - 1}")}, {"target": full(f"M{i - 1}")}]
        shapes[f"M{i}"] = {**structure(), "traits": trait("mixin"), "mixins": mixins}
    shapes["Get"] = operation("M30", http=("POST", "/get"))
    assert list(tool(text(shapes))["inputSchema"]["properties"]) == ["a"]
