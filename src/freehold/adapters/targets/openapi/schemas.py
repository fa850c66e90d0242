"""Schemas of every version as JSON Schema 2020-12, for what goes in and what comes out."""

import re
from typing import Any

import msgspec

from freehold.adapters.targets.openapi import keywords
from freehold.adapters.targets.openapi.definitions import Definitions, Direction
from freehold.adapters.targets.openapi.keywords import ANNOTATIONS, Json
from freehold.adapters.targets.openapi.references import Library, Node, Unconvertible
from freehold.adapters.targets.openapi.versions import Dialect
from freehold.ports.targets import Problem

# An inline schema of more is a definition of its own, so that it is converted once, and bounded.
_INLINE_BYTES_MAX = 8 << 10


class Schemas:
    """Each schema of the document is converted once for each direction. What comes in loses
    `readOnly` members. What goes out is loosened until it only describes: an answer that differs
    a little from its document must not fail at the client, which checks it."""

    def __init__(self, library: Library, dialect: Dialect) -> None:
        self._library, self._dialect = library, dialect
        self._definitions = Definitions(self._schema)
        self._inline: dict[tuple[Direction, str, str], Any] = {}
        self.problems: dict[str, Problem] = {}

    def converted(self, node: Node | None, direction: Direction) -> Any:
        """With references to definitions; `whole` adds those."""
        if node is None:
            return {}
        key = (direction, node.document, node.pointer)
        if not node.pointer or key not in self._inline:
            found = self._schema(node, direction)
            if node.pointer and len(msgspec.json.encode(found)) > _INLINE_BYTES_MAX:
                found = self._definitions.reference(node)
            self._inline[key] = found
        return self._inline[key]

    def whole(self, schema: Json, direction: Direction, *, bytes_max: int) -> tuple[Json, bool]:
        """With `$defs`. False where not all found room: what is left out is then anything."""
        return self._definitions.whole(schema, direction, bytes_max)

    def followed(self, node: Node) -> Node:
        return self._library.follow(node)

    # From the document's form to ours

    def _schema(self, node: Node, direction: Direction) -> Any:
        value = node.value
        if isinstance(value, bool):
            return value
        if not isinstance(value, dict):
            return {}
        if isinstance(value.get("$ref") or value.get("$dynamicRef"), str):
            return self._reference(node, direction)
        found = keywords.plain(value)
        allowed = keywords.types(value)
        if allowed:
            found["type"] = allowed[0] if len(allowed) == 1 else allowed
        choices = keywords.choices(value, allowed)
        if choices is not None:
            found["enum"] = choices
        self._members(node, found, direction)
        self._parts(node, found, direction)
        if keywords.is_nullable(value) and not allowed and found:
            found = _or_null(found)
        return _loosened(found) if direction == "out" else found

    def _reference(self, node: Node, direction: Direction) -> Any:
        reference = node.value.get("$ref") or node.value["$dynamicRef"]
        try:
            target = self._library.follow(self._library.find(node.document, reference))
        except Unconvertible as error:
            self.problems.setdefault(
                node.pointer,
                Problem(where=node.pointer, why=f"{error} Anything is taken here.", skipped=False),
            )
            return {}
        found = self._definitions.reference(target)
        beside = {k: v for k, v in node.value.items() if k not in ("$ref", "$dynamicRef")}
        if not beside:
            return found
        if self._dialect != "3.1":
            nullable = keywords.is_nullable(beside)
            beside = {k: v for k, v in beside.items() if k in ANNOTATIONS | {"example"}}
            found |= keywords.plain(beside)
            return _or_null(found) if nullable else found
        rest = self._schema(Node(node.document, node.pointer, beside), direction)
        return {**rest, **found} if isinstance(rest, dict) else found

    def _members(self, node: Node, found: Json, direction: Direction) -> None:
        """Of objects."""
        dropped = self._hidden(node, direction)
        for group in keywords.NAMED:
            inner = {
                name: self._schema(each, direction)
                for name, each in node.members(group)
                if not (group == "properties" and name in dropped)
                and (group != "patternProperties" or keywords.compiles(name))
            }
            if inner:
                found[group] = inner
        for part in node.elements("allOf"):
            dropped |= self._hidden(part, direction)
        required = [n for n in keywords.names(node.value.get("required")) if n not in dropped]
        if required:
            found["required"] = required
        more = node.get("additionalProperties")
        if more is not None and isinstance(more.value, bool | dict):
            found["additionalProperties"] = self._schema(more, direction)
        dependent = node.value.get("dependentRequired")
        if isinstance(dependent, dict) and direction == "in":
            found["dependentRequired"] = {k: keywords.names(v) for k, v in dependent.items()}

    def _hidden(self, node: Node, direction: Direction) -> set[str]:
        """Members that this direction does not have."""
        word = "readOnly" if direction == "in" else "writeOnly"
        hidden: set[str] = set()
        try:
            for name, each in self._library.follow(node).members("properties"):
                if each.flag(word) or self._library.follow(each).flag(word):
                    hidden.add(name)
        except Unconvertible:
            pass  # named where the schema itself is converted
        return hidden

    def _parts(self, node: Node, found: Json, direction: Direction) -> None:
        for name in keywords.ONE:
            inner = node.get(name)
            if inner is not None and isinstance(inner.value, bool | dict):
                found[name] = self._schema(inner, direction)
        items = node.get("items")
        if items is not None and isinstance(items.value, list):  # the tuple of older drafts
            found["prefixItems"] = [self._schema(n, direction) for n in node.elements("items")]
        elif items is not None:
            found["items"] = self._schema(items, direction)
        for name in keywords.MANY:
            inner_all = [self._schema(each, direction) for each in node.elements(name)]
            if not inner_all:
                continue
            if name == "oneOf" and direction == "in":
                self._mark(node, inner_all)
            # Alternatives of real documents overlap: which one is meant is the API's to judge.
            found["anyOf" if name == "oneOf" and "anyOf" not in found else name] = inner_all
        only = found.get("allOf")
        if only is not None and len(only) == 1 and not found.keys() - ANNOTATIONS - {"allOf"}:
            del found["allOf"]
            if isinstance(only[0], dict):
                found |= {k: v for k, v in only[0].items() if k not in found}

    def _mark(self, node: Node, alternatives: list[Any]) -> None:
        """With a `discriminator`'s mapping, each alternative says by which value it is chosen."""
        discriminator = node.get("discriminator")
        if discriminator is None or not discriminator.text("propertyName"):
            return
        member = discriminator.text("propertyName")
        by_target: dict[str, list[str]] = {}
        for value, target in discriminator.members("mapping"):
            if isinstance(target.value, str):
                reference = target.value
                if re.fullmatch(r"[A-Za-z0-9._-]+", reference) and "." not in reference:
                    reference = f"#/components/schemas/{reference}"
                by_target.setdefault(reference, []).append(value)
        for index, each in enumerate(node.elements("oneOf")):
            values = by_target.get(each.text("$ref"))
            if values and isinstance(alternatives[index], dict):
                alternatives[index] = {
                    "allOf": [alternatives[index]],
                    "properties": {member: {"enum": values}},
                    "required": [member],
                }


_DESCRIPTIVE = ANNOTATIONS | {
    "properties", "items", "allOf", "anyOf", "prefixItems", "format", "contentEncoding",
    "contentMediaType",
}  # fmt: skip


def _or_null(schema: Json) -> Json:
    outer = {k: schema.pop(k) for k in tuple(schema) if k in ANNOTATIONS}
    return {"anyOf": [schema, {"type": "null"}], **outer}


def _loosened(schema: Json) -> Json:
    found: Json = {}
    for name, value in schema.items():
        if name in _DESCRIPTIVE or (name == "additionalProperties" and isinstance(value, dict)):
            found[name] = value
        elif name == "type":
            several = value if isinstance(value, list) else [value]
            found["type"] = several if "null" in several else [*several, "null"]
        elif name == "oneOf":
            found.setdefault("anyOf", value)
        elif name == "enum" and "examples" not in schema:
            found["examples"] = value[:20]
    return found
