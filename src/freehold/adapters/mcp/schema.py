"""What an MCP server lists, and a list that is given instead (`mcpToolSchema`), as definitions."""

from typing import Any

import msgspec

from freehold.adapters.mcp.wire import encode, header_places
from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import Definition, Json, Kind, Problem

_NAME_MAX = 2048
_DOCUMENT_BYTES_MAX = 512 << 10

NAMED_BY: dict[Kind, str] = {
    "tool": "name",
    "resource": "uri",
    "resource_template": "uriTemplate",
    "prompt": "name",
}


class Taken:
    """Collects what can be taken over, and why something cannot."""

    def __init__(self) -> None:
        self.definitions: list[Definition] = []
        self.problems: list[Problem] = []
        self.bytes = 0
        self._seen: set[tuple[Kind, str]] = set()

    def take(self, kind: Kind, document: Any, where: str) -> None:
        try:
            self._take(kind, document)
        except ValueError as error:
            self.problems.append(Problem(where=where, why=str(error)))

    def _take(self, kind: Kind, document: Any) -> None:
        """Raises ValueError, with the reason why not."""
        if not isinstance(document, dict):
            raise ValueError(f"It is no {kind}: an object was expected.")
        name = document.get(NAMED_BY[kind])
        if not isinstance(name, str) or not 0 < len(name) <= _NAME_MAX:
            raise ValueError(f"It has no {NAMED_BY[kind]} of 1 to {_NAME_MAX} characters.")
        if (kind, name) in self._seen:
            raise ValueError(f"There is another {kind} called {name}; the first one is used.")
        size = len(encode(document))
        if size > _DOCUMENT_BYTES_MAX:
            raise ValueError(f"The {kind} {name} is longer than {_DOCUMENT_BYTES_MAX >> 10} KB.")
        plan = _plan(name, document) if kind == "tool" else {}
        self._seen.add((kind, name))
        self.bytes += size
        self.definitions.append(Definition(kind=kind, name=name, document=document, plan=plan))


def _plan(name: str, tool: Json) -> Json:
    schema = tool.get("inputSchema")
    if not isinstance(schema, dict):
        raise ValueError(f"The tool {name} has no inputSchema; give it a JSON schema of an object.")
    try:
        places = header_places(schema)
    except ValueError as error:
        raise ValueError(f"The tool {name} cannot be called: {error}.") from None
    return {"headers": places} if places else {}


def static_tools(schema: Any) -> Taken:
    """AgentCore's McpToolSchemaConfiguration, resolved to its `inlinePayload`: a list of tools, or
    the result of a tools/list."""
    payload = schema.get("inlinePayload") if isinstance(schema, dict) else None
    if isinstance(payload, str):
        try:
            payload = msgspec.json.decode(payload)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValidationFailed(f"The mcpToolSchema is no JSON: {error}.") from None
    if isinstance(payload, dict):
        payload = payload.get("tools")
    if not isinstance(payload, list):
        raise ValidationFailed(
            'The mcpToolSchema must be {"tools": [...]} or the list itself, of MCP tools.'
        )
    taken = Taken()
    for index, tool in enumerate(payload):
        taken.take("tool", tool, f"/{index}")
    if payload and not taken.definitions:
        raise ValidationFailed(f"The mcpToolSchema has no tool: {taken.problems[0].why}")
    return taken
