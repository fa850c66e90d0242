"""Headers that repeat arguments say the same, or the call is refused."""

from typing import Any

import pytest

from freehold.services.gateway.param_headers import declared, mismatch

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "where": {
            "type": "object",
            "properties": {"dry": {"type": "boolean", "x-mcp-header": "Dry"}},
        },
        "free": {"type": "string"},
    },
}


@pytest.mark.parametrize(
    ("arguments", "headers", "agrees"),
    [
        ({}, {}, True),
        ({"region": None}, {}, True),
        ({"region": "eu", "free": "x"}, {"mcp-param-region": "eu"}, True),
        ({"region": "eu"}, {}, False),
        ({}, {"mcp-param-region": "eu"}, False),
        ({"region": "eu"}, {"mcp-param-region": "us"}, False),
        ({"region": "eu"}, {"mcp-param-region": "EU"}, False),
        ({"region": "eu"}, {"mcp-param-region": "eu, eu"}, False),
        ({"region": "ü"}, {"mcp-param-region": "=?base64?w7w=?="}, True),
        ({"region": "ü"}, {"mcp-param-region": "=?base64?w7w?="}, False),
        ({"region": "=?base64?eA=="}, {"mcp-param-region": "=?base64?eA=="}, True),
        ({"count": 42}, {"mcp-param-count": "42"}, True),
        ({"count": 42}, {"mcp-param-count": "42.0"}, True),
        ({"count": 42}, {"mcp-param-count": "42.5"}, False),
        ({"count": 42}, {"mcp-param-count": "4e1"}, False),
        ({"count": 10**30}, {"mcp-param-count": "1" + "0" * 30}, True),
        ({"count": 1}, {"mcp-param-count": "1" * 5000}, False),
        ({"where": {"dry": True}}, {"mcp-param-dry": "true"}, True),
        ({"where": {"dry": True}}, {"mcp-param-dry": "1"}, False),
        ({"where": "x"}, {"mcp-param-dry": "true"}, False),
        ({"region": ["eu"]}, {"mcp-param-region": "['eu']"}, False),
    ],
)
def test_header_and_argument_agree(
    arguments: dict[str, Any], headers: dict[str, str], agrees: bool
) -> None:
    assert (mismatch(declared(SCHEMA), arguments, headers) is None) is agrees


@pytest.mark.parametrize(
    "properties",
    [
        {"a": {"type": "number", "x-mcp-header": "A"}},
        {"a": {"type": "string", "x-mcp-header": "not a token"}},
        {"a": {"type": "string", "x-mcp-header": ""}},
        {
            "a": {"type": "string", "x-mcp-header": "Same"},
            "b": {"type": "string", "x-mcp-header": "SAME"},
        },
    ],
)
def test_a_schema_that_declares_wrongly_declares_nothing(properties: dict[str, Any]) -> None:
    """Clients that keep to the specification leave such a tool out."""
    assert declared({"type": "object", "properties": properties}) == ()
