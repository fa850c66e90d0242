"""What the platform tells of sessions and cards, in shapes that the SDKs of today do not make."""

import json
from typing import Any

import pytest

from freehold.kernel.errors import RuntimeClientFailed, ValidationFailed
from freehold.services.runtime.cards import CARD_BYTES_MAX, parsed_card, public_card
from freehold.services.runtime.protocols import (
    McpSession,
    checked_protocol,
    mcp_session_shown,
    served_by,
)

OURS, SERVERS = "a" * 36, "b" * 32
URL = "https://agents.example.com/runtimes/arn/invocations/"


@pytest.mark.parametrize(
    ("protocol", "port", "path"),
    [
        ("HTTP", 8080, "/invocations"),
        ("MCP", 8000, "/mcp"),
        ("A2A", 9000, "/"),
        ("AGUI", 8080, "/invocations"),
    ],
)
def test_each_protocol_has_its_port_and_path(protocol: str, port: int, path: str) -> None:
    served = served_by({"protocolConfiguration": {"serverProtocol": protocol}})
    assert (served.port, served.path) == (port, path)
    moved = {"serverProtocol": protocol, "port": 8001, "path": "/x"}
    served = served_by({"protocolConfiguration": moved})
    assert (served.port, served.path) == (8001, "/x")


def test_a_reserved_port_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="8443"):
        checked_protocol({"serverProtocol": "MCP", "port": 8443})


# -- Mcp-Session-Id


def test_a_servers_own_session_comes_back_to_it_and_ours_to_us() -> None:
    shown = mcp_session_shown(OURS, SERVERS)
    assert McpSession.of(shown, None) == McpSession(session_id=OURS, inside=SERVERS)


def test_it_wins_over_a_session_header_that_an_sdk_made_up() -> None:
    shown = mcp_session_shown(OURS, SERVERS)
    assert McpSession.of(shown, "c" * 36) == McpSession(session_id=OURS, inside=SERVERS)


def test_the_clients_header_wins_over_a_session_that_is_not_ours() -> None:
    assert McpSession.of(SERVERS, OURS) == McpSession(session_id=OURS, inside=SERVERS)


@pytest.mark.parametrize("said", ["short", "x" * 257, "short~server", "short~"])
def test_what_cannot_be_a_session_of_ours_begins_a_new_one(said: str) -> None:
    assert McpSession.of(said, None) == McpSession(session_id=None, inside=said)


def test_a_client_with_a_session_id_that_looks_joint_keeps_both_apart() -> None:
    chosen = f"{OURS}~mine"
    assert mcp_session_shown(chosen, SERVERS) == SERVERS
    assert McpSession.of(SERVERS, chosen) == McpSession(session_id=chosen, inside=SERVERS)


# -- agent cards


def test_a_card_of_version_0_3_leads_to_us() -> None:
    card = {
        "name": "old",
        "url": "http://localhost:9000/",
        "preferredTransport": "JSONRPC",
        "additionalInterfaces": [{"url": "http://localhost:9001", "transport": "GRPC"}],
        "signatures": [{"protected": "x", "signature": "y"}],
    }
    assert public_card(card, URL) == {"name": "old", "url": URL, "preferredTransport": "JSONRPC"}


def test_a_0_3_card_that_prefers_what_we_do_not_carry_prefers_json_rpc() -> None:
    card = {
        "url": "localhost:9001",
        "preferredTransport": "GRPC",
        "additionalInterfaces": [{"url": "http://localhost:9000/", "transport": "JSONRPC"}],
    }
    assert public_card(card, URL) == {"url": URL, "preferredTransport": "JSONRPC"}


def test_a_card_of_version_1_0_leads_to_us_and_keeps_what_else_it_says() -> None:
    rpc = {"protocolBinding": "JSONRPC", "protocolVersion": "1.0", "tenant": "t"}
    card = {
        "name": "new",
        "provider": {"url": "https://example.com"},
        "supportedInterfaces": [
            {**rpc, "url": "http://localhost:9000/"},
            {"protocolBinding": "HTTP+JSON", "url": "http://localhost:9000/rest"},
        ],
    }
    assert public_card(card, URL) == {
        "name": "new",
        "provider": {"url": "https://example.com"},
        "supportedInterfaces": [{**rpc, "url": URL}],
    }


@pytest.mark.parametrize(
    "card",
    [
        {},
        {"supportedInterfaces": None},
        {"supportedInterfaces": ["JSONRPC"]},
        {"supportedInterfaces": [{"protocolBinding": "GRPC", "url": "localhost:9001"}]},
        {"url": "localhost:9001", "preferredTransport": "GRPC"},
    ],
)
def test_a_card_without_json_rpc_is_the_agents_fault(card: dict[str, Any]) -> None:
    with pytest.raises(RuntimeClientFailed, match="JSON-RPC"):
        public_card(card, URL)


@pytest.mark.parametrize("data", [b"", b"[]", b"<html>", b'"card"'])
def test_what_is_no_json_object_is_no_card(data: bytes) -> None:
    with pytest.raises(RuntimeClientFailed, match="not a JSON object"):
        parsed_card(data)


def test_a_card_without_end_is_refused() -> None:
    data = json.dumps({"name": "x" * CARD_BYTES_MAX}).encode()
    with pytest.raises(RuntimeClientFailed, match="larger"):
        parsed_card(data[:CARD_BYTES_MAX])
