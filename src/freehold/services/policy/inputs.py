"""A tool's JSON Schema as Cedar types: what policies can speak of, and why not of the rest."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

DEPTH_MAX = 8
ATTRIBUTES_MAX = 2000
"""Of one tool, nested ones counted: local references may multiply."""

Name = Literal["String", "Long", "Bool", "decimal"]

NOT_DATA = frozenset({"__entity", "__extn", "__expr"})
"""Cedar's JSON reads an object with such a member as something else than data."""


class Scalar(msgspec.Struct, frozen=True):
    name: Name


class SetOf(msgspec.Struct, frozen=True):
    of: "InputType"


class Attribute(msgspec.Struct, frozen=True):
    type: "InputType"
    required: bool


class RecordOf(msgspec.Struct, frozen=True):
    attributes: Mapping[str, Attribute]


InputType = Scalar | SetOf | RecordOf


class LeftOut(msgspec.Struct, frozen=True):
    """`path` is dotted, "" for the whole tool. `why` is for people."""

    path: str
    why: str


class _Found(msgspec.Struct, frozen=True):
    type: InputType
    nullable: bool = False


class _Unspeakable(Exception):
    """A part of a schema that has no one Cedar type; the text says why."""


_SCALARS: Mapping[str, Name] = {
    "string": "String", "integer": "Long", "boolean": "Bool", "number": "decimal",
}  # fmt: skip


def input_type(schema: Mapping[str, Any]) -> tuple[RecordOf, Sequence[LeftOut]]:
    """The arguments' type, and what of them policies cannot speak of. Never raises: of a schema
    that is none, nothing can be spoken of."""
    reading = _Reading(schema)
    try:
        found = reading.type(schema, "", (), top=True)
    except _Unspeakable as error:
        return RecordOf({}), (LeftOut("input", str(error)),)
    if not isinstance(found.type, RecordOf):
        return RecordOf({}), (LeftOut("input", "the arguments are no object"),)
    return found.type, reading.left_out


class _Reading:
    """Of one tool's schema. Each reference on the way to a part is in `refs`: one that comes again
    is a cycle."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._attributes = 0
        self.left_out: list[LeftOut] = []

    def type(
        self, schema: Any, path: str, refs: tuple[str, ...], *, depth: int = 0, top: bool = False
    ) -> _Found:
        if not isinstance(schema, Mapping):
            raise _Unspeakable("its schema says nothing of its type")
        if depth > DEPTH_MAX:
            raise _Unspeakable(f"it is more than {DEPTH_MAX} levels deep")
        if "$ref" in schema:
            ref = schema["$ref"]
            if ref in refs:
                raise _Unspeakable("its schema refers to itself")
            found = self.type(self._resolved(ref), path, (*refs, ref), depth=depth, top=top)
            return _Found(found.type, found.nullable or schema.get("nullable") is True)
        if "properties" not in schema and (parts := _alternatives(schema)) is not None:
            return self._one_of(schema, parts, path, refs, depth=depth, top=top)
        name, nullable = _type_name(schema, top)
        if name == "object":
            return _Found(self._record(schema, path, refs, depth, top), nullable)
        if name == "array":
            return _Found(self._set(schema, path, refs, depth), nullable)
        if name in _SCALARS:
            return _Found(Scalar(_SCALARS[name]), nullable)
        raise _Unspeakable("its schema has no one type")

    def _resolved(self, ref: Any) -> Any:
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise _Unspeakable("its schema refers to another document")
        found: Any = self._root
        for part in ref[2:].split("/") if ref != "#" else ():
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or key not in found:
                raise _Unspeakable("its schema refers to what is not there")
            found = found[key]
        return found

    def _one_of(
        self,
        schema: Mapping[str, Any],
        parts: Sequence[Any],
        path: str,
        refs: tuple[str, ...],
        *,
        depth: int,
        top: bool,
    ) -> _Found:
        """One type where all alternatives have the same; `null` among them makes it nullable."""
        nullable = schema.get("nullable") is True
        found: _Found | None = None
        for part in parts:
            if isinstance(part, Mapping) and part.get("type") == "null":
                nullable = True
                continue
            each = self.type(part, path, refs, depth=depth, top=top)
            nullable = nullable or each.nullable
            if found is not None and found.type != each.type:
                raise _Unspeakable("it can be of different types")
            found = each
        if found is None:
            raise _Unspeakable("it can only be null")
        return _Found(found.type, nullable)

    def _record(
        self, schema: Mapping[str, Any], path: str, refs: tuple[str, ...], depth: int, top: bool
    ) -> RecordOf:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            if top:
                return RecordOf({})
            raise _Unspeakable("it is an object of unknown members")
        asked = schema.get("required")
        required = asked if isinstance(asked, list | tuple) else ()
        attributes: dict[str, Attribute] = {}
        for name, part in properties.items():
            here = f"{path}.{name}" if path else f"input.{name}"
            self._attributes += 1
            try:
                _check_name(name)
                if self._attributes > ATTRIBUTES_MAX:
                    raise _Unspeakable(f"the tool has more than {ATTRIBUTES_MAX} members")
                found = self.type(part, here, refs, depth=depth + 1)
            except _Unspeakable as error:
                self.left_out.append(LeftOut(here, str(error)))
                continue
            attributes[name] = Attribute(found.type, name in required and not found.nullable)
        return RecordOf(attributes)

    def _set(
        self, schema: Mapping[str, Any], path: str, refs: tuple[str, ...], depth: int
    ) -> SetOf:
        if not isinstance(schema.get("items"), Mapping) or "prefixItems" in schema:
            raise _Unspeakable("it is a list of what has no one type")
        found = self.type(schema["items"], f"{path}[]", refs, depth=depth + 1)
        if found.nullable:
            raise _Unspeakable("it is a list that may hold null")
        return SetOf(found.type)


def _alternatives(schema: Mapping[str, Any]) -> Sequence[Any] | None:
    """None for a schema that has none. Of one that must be several at once, nothing is told."""
    parts = schema.get("anyOf") or schema.get("oneOf")
    if parts is None and "allOf" in schema:
        parts = schema["allOf"]
        if isinstance(parts, Sequence) and len(parts) > 1:
            raise _Unspeakable("its schema is put together from several")
    if parts is None:
        return None
    if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
        raise _Unspeakable("its schema has no one type")
    return parts


def _type_name(schema: Mapping[str, Any], top: bool) -> tuple[str, bool]:
    """JSON Schema's name of the one type, "" where there is none; and whether it may be null."""
    said = schema.get("type")
    names = [said] if isinstance(said, str) else list(said) if isinstance(said, Sequence) else []
    nullable = schema.get("nullable") is True or "null" in names
    kinds = {name for name in names if isinstance(name, str) and name != "null"}
    if kinds == {"integer", "number"}:
        return "number", nullable
    if len(kinds) == 1:
        return kinds.pop(), nullable
    if not names:
        if "properties" in schema or top:
            return "object", nullable
        values = _values(schema)
        return _type_of_values(values), nullable or None in values
    return "", nullable


def _values(schema: Mapping[str, Any]) -> Sequence[Any]:
    values = schema.get("enum", [schema["const"]] if "const" in schema else ())
    return values if isinstance(values, list | tuple) else ()


def _type_of_values(values: Sequence[Any]) -> str:
    types = {type(value) for value in values if value is not None}
    named = {str: "string", bool: "boolean", int: "integer"}
    return named.get(types.pop(), "") if len(types) == 1 else ""


def _check_name(name: str) -> None:
    if name in NOT_DATA:
        raise _Unspeakable("its name means something else in Cedar")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _Unspeakable("its name is no text") from None
