"""From a method and a raw path to an operation: a trie with one step per path segment."""

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from freehold.edges.aws.model import Operation
from freehold.kernel.errors import ValidationFailed

_LABEL = re.compile(r"\{(\w+)(\+?)\}")


class Route(NamedTuple):
    operation: Operation
    label_names: tuple[str, ...]


class _Node:
    """`greedy` are the routes of a label that takes all that is left of the path."""

    __slots__ = ("greedy", "label", "literals", "routes")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.label: _Node | None = None
        self.greedy: dict[str, Route] = {}
        self.routes: dict[str, Route] = {}


class Router:
    """Of services that share no (method, path): anything else raises TypeError."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._root = _Node()
        for operation in operations:
            self._add(operation)

    def match(self, method: str, raw_path: bytes) -> tuple[Operation, dict[str, str]] | None:
        """The operation and its decoded labels. Raises ValidationFailed for a broken escape.

        Segments are compared undecoded: an ARN's %2F stays inside its label. One trailing slash
        means nothing; an empty segment matches no label.
        """
        segments = raw_path.decode("latin-1").removesuffix("/").split("/")
        values: list[str] = []
        route = _find(self._root, method, segments, 1, values)
        if route is None:
            return None
        labels = zip(route.label_names, values, strict=True)
        return route.operation, {name: _decoded(value) for name, value in labels}

    def _add(self, operation: Operation) -> None:
        path = operation.uri.partition("?")[0].removesuffix("/")
        node, names = self._root, []
        routes = node.routes
        for segment in path.split("/")[1:]:
            label = _LABEL.fullmatch(segment)
            if label is None:
                node = node.literals.setdefault(segment, _Node())
            else:
                names.append(label[1])
                if label[2]:
                    routes = node.greedy
                    break
                node.label = node.label or _Node()
                node = node.label
            routes = node.routes
        known = routes.get(operation.method)
        if known is not None:
            raise TypeError(f"{operation.id} and {known.operation.id} have the same route")
        routes[operation.method] = Route(operation, tuple(names))


def _find(
    node: _Node, method: str, segments: list[str], depth: int, values: list[str]
) -> Route | None:
    """A literal wins over a label, and a label over a greedy one; `values` collects labels."""
    if depth == len(segments):
        return node.routes.get(method)
    segment = segments[depth]
    child = node.literals.get(segment)
    if child is not None:
        found = _find(child, method, segments, depth + 1, values)
        if found is not None:
            return found
    if not segment:
        return None
    if node.label is not None:
        values.append(segment)
        found = _find(node.label, method, segments, depth + 1, values)
        if found is not None:
            return found
        values.pop()
    greedy = node.greedy.get(method)
    if greedy is not None:
        values.append("/".join(segments[depth:]))
    return greedy


def _decoded(label: str) -> str:
    if "%" not in label and label.isascii():
        return label
    try:
        return unquote_to_bytes(label.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise ValidationFailed("The path is not valid UTF-8.", reason="CannotParse") from None
