"""What `$ref` leads to: within a document, and in others that were fetched for it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from freehold.adapters.targets.openapi.reading import read
from freehold.kernel.errors import ValidationFailed

DOCUMENTS_MAX = 60
FETCHED_BYTES_MAX = 16 << 20
HOPS_MAX = 40

Fetch = Callable[[str], str | bytes]
"""An external document by its URL. Raises CannotFetch, which says why."""


class Unconvertible(Exception):
    """A part of the document that no tool can be made of. The message is for its author."""


class CannotFetch(Exception):
    pass


class Node(NamedTuple):
    """A value and where it stands: relative references are relative to `document`."""

    document: str
    pointer: str
    value: Any

    def at(self, *names: str | int) -> "Node":
        value = self.value
        for name in names:
            value = value[name]
        return Node(self.document, self.pointer + "".join(map(_token, names)), value)

    def get(self, name: str) -> "Node | None":
        found = self.value.get(name) if isinstance(self.value, dict) else None
        return None if found is None else Node(self.document, self.pointer + _token(name), found)

    def members(self, name: str) -> "Iterator[tuple[str, Node]]":
        """Of the object under `name`; nothing where it is none."""
        inner = self.get(name)
        if inner is not None and isinstance(inner.value, dict):
            for key in inner.value:
                yield key, inner.at(key)

    def elements(self, name: str) -> "Iterator[Node]":
        inner = self.get(name)
        if inner is not None and isinstance(inner.value, list):
            for index in range(len(inner.value)):
                yield inner.at(index)

    def text(self, name: str) -> str:
        found = self.value.get(name) if isinstance(self.value, dict) else None
        return found if isinstance(found, str) else ""

    def flag(self, name: str) -> bool | None:
        found = self.value.get(name) if isinstance(self.value, dict) else None
        return found if isinstance(found, bool) else None


class Library:
    """One document and all that it refers to. `url`: where it came from, "" if nobody said."""

    def __init__(self, document: dict[str, Any], url: str) -> None:
        self._documents: dict[str, Any] = {url: document}
        self._failures: dict[str, str] = {}
        self._scanned: set[str] = set()
        self._wanted: dict[str, None] = {}
        self._anchors: dict[str, dict[str, Node]] = {}
        self._found: dict[tuple[str, str], Node] = {}
        self._fetched = 0
        self.root = Node(url, "", document)
        self._scan()

    def missing(self) -> list[str]:
        """URLs that are referred to and neither here nor known to fail."""
        known = self._documents.keys() | self._failures.keys()
        return [url for url in self._wanted if url not in known]

    def add(self, url: str, text: str | bytes) -> None:
        self._fetched += len(text)
        if self._fetched > FETCHED_BYTES_MAX:
            self.fail(url, f"what it refers to is more than {FETCHED_BYTES_MAX >> 20} MiB in all")
            return
        try:
            self._documents[url] = read(text)
        except ValidationFailed as error:
            self.fail(url, error.message)
            return
        self._scan()

    def fail(self, url: str, why: str) -> None:
        self._failures[url] = why

    def room(self) -> bool:
        return len(self._documents) + len(self._failures) <= DOCUMENTS_MAX

    def follow(self, node: Node) -> Node:
        """What stands behind the reference that `node` is, or `node`. Raises Unconvertible."""
        for _ in range(HOPS_MAX):
            if not isinstance(node.value, dict) or not isinstance(node.value.get("$ref"), str):
                return node
            node = self.find(node.document, node.value["$ref"])
        raise Unconvertible(f"{node.pointer} refers to itself.")

    def find(self, base: str, reference: str, hops: int = 0) -> Node:
        """Raises Unconvertible. Kept: the same few are referred to again and again."""
        found = self._found.get((base, reference))
        if found is None:
            found = self._found[base, reference] = self._find(base, reference, hops)
        return found

    def _find(self, base: str, reference: str, hops: int) -> Node:
        url, fragment = self._place(base, reference)
        if url not in self._documents:
            why = self._failures.get(url, "it was not fetched")
            raise Unconvertible(f"$ref {reference[:200]!r} cannot be followed: {why}.")
        if fragment and not fragment.startswith("/"):
            return self._anchored(url, fragment, reference)
        node = Node(url, "", self._documents[url])
        for token in fragment.split("/")[1:]:
            node = self._inner(node, token.replace("~1", "/").replace("~0", "~"), reference, hops)
        return node

    def _inner(self, node: Node, name: str, reference: str, hops: int) -> Node:
        value = node.value
        if isinstance(value, dict) and name not in value and isinstance(value.get("$ref"), str):
            # All schemas may stand in a file of their own: `schemas: {$ref: schemas.yaml}`.
            if hops >= HOPS_MAX:
                raise Unconvertible(f"$ref {reference[:200]!r} refers to itself.")
            node = self.find(node.document, value["$ref"], hops + 1)
            value = node.value
        if isinstance(value, dict) and name in value:
            return node.at(name)
        if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            return node.at(int(name))
        raise Unconvertible(f"$ref {reference[:200]!r} leads to nothing.")

    def _place(self, base: str, reference: str) -> tuple[str, str]:
        location, fragment = urldefrag(reference)
        if not location:
            return base, unquote(fragment)
        try:
            url = urljoin(base, location)
            scheme = urlsplit(url).scheme
        except ValueError:
            return location, unquote(fragment)
        return url if scheme else location, unquote(fragment)

    def _scan(self) -> None:
        """Every `$ref` of the documents that came since the last time."""
        for url in [u for u in self._documents if u not in self._scanned]:
            self._scanned.add(url)
            stack = [self._documents[url]]
            while stack:
                value = stack.pop()
                if isinstance(value, list):
                    stack.extend(value)
                elif isinstance(value, dict):
                    reference = value.get("$ref")
                    if isinstance(reference, str) and not reference.startswith("#"):
                        self._want(url, reference)
                    stack.extend(value.values())

    def _want(self, base: str, reference: str) -> None:
        url, _ = self._place(base, reference)
        if url in self._wanted or url in self._documents:
            return
        self._wanted[url] = None
        try:
            here, there = urlsplit(base).scheme, urlsplit(url).scheme
        except ValueError:
            self.fail(url, "it is no URL")
            return
        if not there:
            self.fail(url, "it is relative, and where this document comes from is not known")
        elif there not in ("http", "https") and here != there:
            self.fail(url, f"{there}: addresses are not followed")

    def _anchored(self, url: str, name: str, reference: str) -> Node:
        if url not in self._anchors:
            found: dict[str, Node] = {}
            for node in _everything(Node(url, "", self._documents[url])):
                for word in ("$anchor", "$dynamicAnchor") if isinstance(node.value, dict) else ():
                    if isinstance(node.value.get(word), str):
                        found.setdefault(node.value[word], node)
            self._anchors[url] = found
        if name not in self._anchors[url]:
            raise Unconvertible(f"$ref {reference[:200]!r} leads to nothing.")
        return self._anchors[url][name]


def _everything(node: Node) -> Iterator[Node]:
    stack = [iter([node])]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        yield found
        value = found.value
        names = (
            value
            if isinstance(value, dict)
            else range(len(value))
            if isinstance(value, list)
            else ()
        )
        stack.append(map(found.at, names))


def _token(name: str | int) -> str:
    return "/" + str(name).replace("~", "~0").replace("/", "~1")
