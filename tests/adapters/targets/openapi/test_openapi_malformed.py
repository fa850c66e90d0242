"""Documents with anything anywhere: a conversion ends with tools and problems, or is refused."""

import copy
import json
from typing import Any

import jsonschema_rs
import msgspec
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_openapi_documents import SWAGGER

from freehold.adapters.targets.openapi.conversion import convert
from freehold.adapters.targets.openapi.plan import loaded
from freehold.adapters.targets.openapi.requests import Requests
from freehold.kernel.errors import ValidationFailed

MODERN: Any = {
    "openapi": "3.1.0",
    "info": {"title": "All", "version": "1"},
    "servers": [
        {"url": "https://{r}.example/{v}", "variables": {"r": {"default": "a", "enum": ["a", "b"]},
                                                         "v": {"default": "v1"}}}],
    "security": [{"key": []}],
    "paths": {
        "/a/{id}": {
            "parameters": [{"$ref": "#/components/parameters/Id"}],
            "get": {
                "operationId": "one", "summary": "s", "description": "d", "deprecated": True,
                "parameters": [
                    {"name": "q", "in": "query", "style": "deepObject", "explode": True,
                     "schema": {"$ref": "#/components/schemas/Node"}},
                    {"name": "f", "in": "query",
                     "content": {"application/json": {"schema": {"type": "object"}}}}],
                "responses": {"200": {"$ref": "#/components/responses/Ok"}},
            },
            "post": {
                "servers": [{"url": "https://other.example"}],
                "requestBody": {"required": True, "content": {"multipart/form-data": {
                    "schema": {"type": "object", "required": ["x"], "properties": {
                        "x": {"type": "string", "format": "binary"},
                        "y": {"type": "array", "items": {"type": "string", "format": "binary"}}}},
                    "encoding": {"x": {"contentType": "image/png"}}}}},
                "responses": {"204": {"description": ""}},
            },
            "put": {
                "requestBody": {"content": {"application/json": {"schema": {
                    "oneOf": [{"$ref": "#/components/schemas/Node"}, {"type": "null"}],
                    "discriminator": {"propertyName": "t", "mapping": {
                        "n": "#/components/schemas/Node"}}}}}},
            },
        },
    },
    "components": {
        "parameters": {"Id": {"name": "id", "in": "path", "required": True,
                              "schema": {"type": "string", "pattern": "^a", "enum": ["a"]}}},
        "responses": {"Ok": {"content": {"application/json": {"schema": {
            "$ref": "#/components/schemas/Node"}}}}},
        "schemas": {"Node": {
            "type": "object", "required": ["n"], "minProperties": 0, "additionalProperties": False,
            "properties": {"n": {"type": ["integer", "null"], "minimum": 1, "readOnly": True},
                           "up": {"$ref": "#/components/schemas/Node"}},
            "allOf": [{"if": {"required": ["a"]}, "then": False}]}},
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "K"},
                            "o": {"type": "oauth2", "flows": {"implicit": {"scopes": {"a": ""}}}}},
    },
}  # fmt: skip
OLD: Any = yaml.safe_load(SWAGGER.replace("HOST", "old.example"))
JUNK = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "x", "object", "\ud83d\ude00", "#/components/schemas/Node", [],
     [None], [[]], {}, {"": None}, {"$ref": 7}, {"$ref": "#/paths"}, {"$ref": "#"}, {"type": 5},
     {"properties": []}, {"x": {"y": {}}}, ["a", "a"], {"a\r\nb": "c\r\nd"}]
)  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    for key in (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    ):
        found += places(value[key], (*at, key))
    return found


def spoiled(document: Any, at: tuple[Any, ...], junk: Any) -> Any:
    document = copy.deepcopy(document)
    inner = document
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = junk
    return document


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([MODERN, OLD]).flatmap(
        lambda d: st.tuples(st.just(d), st.sampled_from(places(d)), JUNK)
    )
)
def test_junk_anywhere_costs_no_more_than_what_it_touches(case: tuple[Any, Any, Any]) -> None:
    document = spoiled(*case)
    try:
        described = convert(json.dumps(document), url="https://docs.example/a.json")
    except ValidationFailed:
        return
    json.dumps(msgspec.to_builtins(described))
    for definition in described.definitions:
        jsonschema_rs.validator_for(definition.document["inputSchema"])
        jsonschema_rs.validator_for(definition.document.get("outputSchema", {}))
        Requests(loaded(definition.plan))


def test_the_documents_of_this_test_are_good_ones() -> None:
    for document, tools in ((MODERN, 3), (OLD, 4)):
        described = convert(json.dumps(document))
        assert described.problems == ()
        assert len(described.definitions) == tools
