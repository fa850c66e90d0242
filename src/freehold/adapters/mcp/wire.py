"""MCP's JSON-RPC over HTTP, as a client puts it together, in both eras."""

import base64
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from freehold.ports.targets import Json

MODERN = ("2026-07-28",)
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")

_META = "io.modelcontextprotocol/"
VERSION_KEY, CLIENT_KEY = f"{_META}protocolVersion", f"{_META}clientInfo"
CAPABILITIES_KEY, LOG_LEVEL_KEY = f"{_META}clientCapabilities", f"{_META}logLevel"
SUBSCRIPTION_KEY = f"{_META}subscriptionId"
_MODERN_KEYS = frozenset({VERSION_KEY, CLIENT_KEY, CAPABILITIES_KEY, LOG_LEVEL_KEY})

METHOD_NOT_FOUND, INTERNAL_ERROR, UNSUPPORTED_VERSION = -32601, -32603, -32022

_NAMED_BY = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
_PLAIN_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# What the client of a gateway may have sent and no target ever gets, whatever is allow-listed:
# the tokens of this request, and what only this client's own request can mean.
_NEVER_PASSED = frozenset(
    {
        "accept", "accept-encoding", "authorization", "connection", "content-encoding",
        "content-length", "content-type", "cookie", "expect", "forwarded", "host", "keep-alive",
        "last-event-id", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


class Message(msgspec.Struct):
    """Any JSON-RPC message: a request, a notification, a result or an error."""

    id: str | int | None = None
    method: str | None = None
    params: Json | None = None
    result: Json | None = None
    error: Json | None = None


decode_message = msgspec.json.Decoder(Message).decode
encode = msgspec.json.Encoder().encode


class Numbers:
    """Ids of requests. Several workers may use one session, so each starts somewhere else."""

    def __init__(self) -> None:
        self._next = random.getrandbits(30) << 20  # no secret; exact as a double

    def next(self) -> int:
        self._next += 1
        return self._next


def request_body(id: int, method: str, params: Json) -> bytes:
    return encode({"jsonrpc": "2.0", "id": id, "method": method, "params": params})


def notification_body(method: str, params: Json | None = None) -> bytes:
    document: Json = {"jsonrpc": "2.0", "method": method}
    return encode({**document, "params": params} if params is not None else document)


def answer_body(id: str | int, result: Json | None, error: Json | None = None) -> bytes:
    document: Json = {"jsonrpc": "2.0", "id": id}
    return encode(
        {**document, "error": error} if error is not None else {**document, "result": result}
    )


def modern_meta(meta: Json, version: str, client: Json, capabilities: Json) -> Json:
    return {**meta, VERSION_KEY: version, CLIENT_KEY: client, CAPABILITIES_KEY: capabilities}


def legacy_meta(meta: Json) -> Json:
    """Without what only the modern era has."""
    if _MODERN_KEYS.isdisjoint(meta):
        return meta
    return {key: value for key, value in meta.items() if key not in _MODERN_KEYS}


def modern_headers(version: str, method: str, params: Json) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": version,
        "mcp-method": method,
    }
    named_by = _NAMED_BY.get(method)
    if named_by is not None and isinstance(name := params.get(named_by), str):
        headers["mcp-name"] = header_value(name)
    return headers


def legacy_headers(version: str, session_id: str) -> dict[str, str]:
    """`version` is "" before there is one."""
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    if version:
        headers["mcp-protocol-version"] = version
    if session_id:
        headers["mcp-session-id"] = session_id
    return headers


def passed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    passed: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        if key not in _NEVER_PASSED and not key.startswith("mcp-"):
            passed[key] = value
    return passed


def header_value(value: str) -> str:
    """MCP's way to have any text in a header."""
    if not value or (_PLAIN_VALUE.fullmatch(value) and not value.startswith("=?base64?")):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def argument_headers(places: Sequence[Any], arguments: Json) -> dict[str, str]:
    """`places` as `header_places` found them: [[path, ...], name]."""
    headers: dict[str, str] = {}
    for path, name in places:
        value: Any = arguments
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, bool):
            value = "true" if value else "false"
        if isinstance(value, str | int | float):
            headers[f"mcp-param-{name.lower()}"] = header_value(str(value))
    return headers


def header_places(schema: Any) -> list[Any]:
    """Arguments that also go as headers (`x-mcp-header`), as [[path, ...], name].

    Raises ValueError where an annotation is not as MCP wants it: a client must not use such a tool.
    """
    found: list[Any] = []
    names: set[str] = set()
    for path, node in _nodes(schema):
        name = node.get("x-mcp-header")
        if name is None:
            continue
        if not path:
            raise ValueError("x-mcp-header is somewhere else than at a property")
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ValueError(f"x-mcp-header of {'.'.join(path)} is no name of a header")
        if node.get("type") not in ("string", "integer", "boolean"):
            raise ValueError(f"x-mcp-header is at {'.'.join(path)}, which is no plain value")
        if name.lower() in names:
            raise ValueError(f"x-mcp-header {name} is there twice")
        names.add(name.lower())
        found.append([list(path), name])
    return found


_DATA = frozenset({"default", "examples", "const", "enum", "properties", "x-mcp-header"})


def _nodes(schema: Any) -> Iterator[tuple[tuple[str, ...] | None, Json]]:
    """Every schema within, with the names of the properties that lead to it; None where anything
    else than properties does, from where no header can be taken."""
    waiting: list[tuple[tuple[str, ...] | None, Any]] = [((), schema)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, list):
            waiting.extend((None, item) for item in node)
        if not isinstance(node, dict):
            continue
        yield path, node
        properties = node.get("properties")
        if isinstance(properties, dict):
            waiting.extend(
                (None if path is None else (*path, name), item) for name, item in properties.items()
            )
        waiting.extend((None, item) for key, item in node.items() if key not in _DATA)


Era = Literal["modern", "legacy"]
