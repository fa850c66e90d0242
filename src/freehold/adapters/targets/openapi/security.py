"""Which credentials a document wants. They are the gateway's to give, never a tool's arguments."""

from collections.abc import Iterator
from typing import Any

from freehold.adapters.targets.openapi.references import Library, Node, Unconvertible

_SCHEMES_MAX = 20
_KEPT = ("type", "in", "name", "scheme", "bearerFormat", "openIdConnectUrl", "description")
_FLOW_KEPT = ("authorizationUrl", "tokenUrl", "refreshUrl")
_SCOPES_MAX = 200


class Security:
    """`schemes` and `required` (which together, one list for each alternative) are for the CLI:
    what a person needs to know to choose a credential provider."""

    def __init__(self, library: Library) -> None:
        self.schemes = list(_schemes(library))[:_SCHEMES_MAX]
        self.required = _required(library.root)
        self._keys = {
            (s.get("in"), str(s.get("name", "")).lower())
            for s in self.schemes
            if s.get("type") == "apiKey"
        }

    def is_credential(self, place: str, name: str) -> bool:
        if place == "header" and name.lower() == "authorization":
            return True
        return (place, name.lower()) in self._keys


def _required(root: Node) -> list[list[str]]:
    found = [n.value for n in root.elements("security") if isinstance(n.value, dict)]
    return [[str(key) for key in each] for each in found[:_SCHEMES_MAX]]


def _schemes(library: Library) -> Iterator[dict[str, Any]]:
    components = library.root.get("components")
    holders = [(library.root, "securityDefinitions")]
    if components is not None:
        holders.append((components, "securitySchemes"))
    for holder, name in holders:
        for key, raw in holder.members(name):
            try:
                node = library.follow(raw)
            except Unconvertible:
                continue
            if isinstance(node.value, dict):
                yield {"key": key, **_shown(node)}


def _shown(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = {k: node.text(k)[:500] for k in _KEPT if node.text(k)}
    if found.get("type") == "basic":
        found |= {"type": "http", "scheme": "basic"}
    flows = {name: flow for name, flow in node.members("flows") if isinstance(flow.value, dict)}
    if node.text("flow"):  # Swagger 2.0 has one
        names = {"accessCode": "authorizationCode", "application": "clientCredentials"}
        flows[names.get(node.text("flow"), node.text("flow"))] = node
    if flows:
        found["flows"] = {
            name: {k: flow.text(k) for k in _FLOW_KEPT if flow.text(k)}
            | {"scopes": [scope for scope, _ in flow.members("scopes")][:_SCOPES_MAX]}
            for name, flow in flows.items()
        }
    return found
