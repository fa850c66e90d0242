"""The facts of a vendor, and which operation a request is for."""

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from connector_vendors.shapes import Shape, from_text, judge

VENDORS = ("salesforce", "slack", "jira", "asana", "zendesk", "zoom", "github")
_FOLDER = Path(__file__).parent / "facts"
_MANY = {"path", "ref"}
"""Parameters at the end of a path that may have slashes of their own."""


@dataclass(frozen=True)
class Operation:
    id: str
    method: str
    path: str
    status: int
    source: str
    in_path: dict[str, Shape] = field(default_factory=dict)
    query: dict[str, Shape] = field(default_factory=dict)
    headers: dict[str, Shape] = field(default_factory=dict)
    arguments: dict[str, Shape] | None = None
    """Of a vendor whose methods take them in the query, in a form or in JSON alike."""
    content_types: tuple[str, ...] = ()
    body: dict[str, Any] | None = None
    needs: tuple[tuple[str, ...], ...] = ()
    scopes: Any = ()
    scopes_all: bool = False
    answer: Shape = None
    open: bool = False
    """No token is needed."""
    bounded_jql: bool = False
    tier: int = 0
    creates: str = ""

    @property
    def parts(self) -> list[str]:
        return self.path.strip("/").split("/")


@dataclass(frozen=True)
class Facts:
    vendor: str
    about: dict[str, Any]
    operations: tuple[Operation, ...]

    def find(self, method: str, parts: list[str]) -> tuple[Operation, dict[str, str]] | set[str]:
        """The operation and its path's parameters, decoded once; or the methods that there are."""
        methods: set[str] = set()
        found: list[tuple[tuple[int, int, int], Operation, dict[str, str]]] = []
        for operation in self.operations:
            values = _match(operation.parts, parts)
            if values is None:
                continue
            methods.add(operation.method)
            if operation.method == method:
                rank = (_misfits(operation, values), len(values), -len(operation.parts))
                found.append((rank, operation, values))
        if not found:
            return methods
        _, operation, values = min(found, key=lambda one: one[0])
        return operation, values


def _misfits(operation: Operation, values: dict[str, str]) -> int:
    """Two operations may have one path, and tell their requests apart by what stands in it."""
    shapes = operation.in_path
    return sum(bool(judge(from_text(v, shapes[n]), shapes[n], n)) for n, v in values.items())


def _match(template: list[str], parts: list[str]) -> dict[str, str] | None:
    name = template[-1].strip("{}")
    if template[-1].startswith("{") and name in _MANY and len(parts) > len(template):
        parts = [*parts[: len(template) - 1], "/".join(parts[len(template) - 1 :])]
    if len(template) != len(parts):
        return None
    values = {}
    for wanted, part in zip(template, parts, strict=True):
        if wanted.startswith("{") and part:
            values[wanted.strip("{}")] = unquote(part)
        elif wanted != unquote(part):
            return None
    return values


@cache
def facts_of(vendor: str) -> Facts:
    document = json.loads((_FOLDER / f"{vendor}.json").read_text())
    operations = []
    for one in document.pop("operations"):
        one["content_types"] = tuple(one.get("content_types", ()))
        one["needs"] = tuple(tuple(group) for group in one.get("needs", ()))
        operations.append(Operation(**one))
    return Facts(vendor, document, tuple(operations))
