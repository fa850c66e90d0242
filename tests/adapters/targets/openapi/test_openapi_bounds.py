"""Documents made to cost more than they are worth: each ends soon, with tools of bounded size."""

import json
from typing import Any

import jsonschema_rs
import pytest
from openapi_ground import operation

from freehold.adapters.targets.openapi.conversion import convert
from freehold.ports.targets import Described

pytestmark = pytest.mark.timeout(30)

TOOL_BYTES_MAX = 200 << 10


def converted(document: Any) -> Described:
    described = convert(json.dumps(document))
    for definition in described.definitions:
        assert len(json.dumps(definition.document)) < TOOL_BYTES_MAX
        jsonschema_rs.validator_for(definition.document["inputSchema"])
    return described


def with_body(schema: Any, **schemas: Any) -> Any:
    content = {"application/json": {"schema": schema}}
    document = operation(
        "https://api.example.com", "post", requestBody={"content": content},
        responses={"200": {"content": content}},
    )  # fmt: skip
    document["components"] = {"schemas": schemas}
    return document


def ref(name: Any) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


@pytest.mark.parametrize("word", ["allOf", "oneOf", "anyOf"])
def test_alternatives_that_multiply(word: str) -> None:
    levels: dict[str, Any] = {f"L{n}": {word: [ref(f"L{n + 1}")] * 10} for n in range(30)}
    (tool,) = converted(with_body(ref("L0"), **levels, L30={})).definitions
    assert tool.name == "do"


def test_one_large_schema_in_many_operations() -> None:
    large = {"type": "object", "properties": {
        f"p{n}": {"type": "object", "properties": {"a": {"description": "x" * 60}}}
        for n in range(5000)}}  # fmt: skip
    document = operation("https://api.example.com")
    document["components"] = {"parameters": {"P": {"name": "p", "in": "query", "schema": large}}}
    document["paths"] = {
        f"/p{n}": {"get": {"parameters": [{"$ref": "#/components/parameters/P"}]}}
        for n in range(900)
    }
    assert len(converted(document).definitions) == 900


def test_a_short_schema_in_very_many_places() -> None:
    short = {"type": "string", "description": "x" * 1000}
    many = {"type": "object", "properties": {f"p{n}": ref("S") for n in range(20_000)}}
    assert len(converted(with_body(many, S=short)).definitions) == 1


def test_a_long_chain_of_schemas() -> None:
    chain = {
        f"C{n}": {"type": "object", "properties": {"next": {"type": "array", "items": {
            "allOf": [ref(f"C{n + 1}"), {"description": "d"}]}}}}
        for n in range(3000)
    }  # fmt: skip
    described = converted(with_body(ref("C0"), **chain, C3000={}))
    assert len(described.definitions) == 1
    assert not any(p.skipped for p in described.problems)


def test_a_long_chain_of_references() -> None:
    chain: dict[str, Any] = {f"C{n}": ref(f"C{n + 1}") for n in range(3000)}
    described = converted(with_body(ref("C0"), **chain, C3000={}))
    assert len(described.definitions) == 1
    assert described.problems


def test_schemas_that_all_refer_to_all() -> None:
    names = [f"N{n}" for n in range(60)]
    every = {"type": "object", "properties": {name: ref(name) for name in names}}
    document = with_body(ref("N0"), **dict.fromkeys(names, every))
    for n in range(60):
        document["paths"][f"/n{n}"] = {"put": {"requestBody": {
            "content": {"application/json": {"schema": ref(f"N{n}")}}}}}  # fmt: skip
    assert len(converted(document).definitions) == 61


def test_an_anchor_in_a_large_document() -> None:
    document = with_body({"$ref": "#it"}, it={"$anchor": "it", "type": "integer"})
    document["x-large"] = [[n] for n in range(200_000)]
    (tool,) = converted(document).definitions
    assert tool.document["inputSchema"]["properties"]["body"] == {"type": "integer"}


def test_very_many_parameters() -> None:
    several = [{"name": "é" * n, "in": "query", "schema": {}} for n in range(1, 1500)]
    document = operation("https://api.example.com", parameters=several)
    (problem,) = converted(document).problems
    assert "1000 parameters" in problem.why


def test_a_schema_deep_and_wide_loses_what_is_deepest() -> None:
    def tree(depth: int) -> Any:
        if depth == 0:
            return {"type": "string", "description": "x" * 100}
        return {"type": "object", "properties": {f"m{n}": tree(depth - 1) for n in range(5)}}

    described = converted(with_body({"type": "array", "items": tree(6)}))
    (tool,) = described.definitions
    assert "m0" in json.dumps(tool.document["inputSchema"])
    assert [p.skipped for p in described.problems] == [False]
