"""Shapes as JSON Schema 2020-12.

What is sent is described exactly. What is answered is described by types alone: a service may leave
out what its model requires and say what the model does not know, and a client that checks results
against the schema would throw the whole answer away.
"""

import functools
from typing import Any

import jsonschema_rs
import msgspec

from freehold.adapters.targets.smithy.model import Json, Member, Model, Shape, Unusable
from freehold.adapters.targets.smithy.service import first_sentence, plain

_DEPTH_MAX = 48
_FULL_BYTES_MAX = 48 * 1024
_INPUT_BYTES_MAX = 512 * 1024
_OUTPUT_BYTES_MAX = 64 * 1024
_SHAPES_MAX = 2000
_SIMPLE: dict[str, Json] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "byte": {"type": "integer"},
    "short": {"type": "integer"},
    "integer": {"type": "integer"},
    "long": {"type": "integer"},
    "bigInteger": {"type": "integer"},
    "float": {"type": "number"},
    "double": {"type": "number"},
    "bigDecimal": {"type": "number"},
    "blob": {"type": "string", "contentEncoding": "base64"},
    "timestamp": {"type": "string", "format": "date-time"},
    "document": {},
}
_FRACTIONS = frozenset({"float", "double"})


def input_schema(model: Model, shape: Shape) -> Json:
    """Raises Unusable."""
    schema = _Writer(model, shape, sent=True, is_brief=False).document()
    size = len(msgspec.json.encode(schema))
    if size > _FULL_BYTES_MAX:
        # A model reads all of it with every conversation: a sentence for each member will do.
        schema = _Writer(model, shape, sent=True, is_brief=True).document()
        size = len(msgspec.json.encode(schema))
    if size > _INPUT_BYTES_MAX:
        raise Unusable(f"what it takes is described in more than {_INPUT_BYTES_MAX >> 10} KiB")
    return schema


def output_schema(model: Model, shape: Shape) -> Json | None:
    """None where it is longer than anybody wants to read. Raises Unusable."""
    schema = _Writer(model, shape, sent=False, is_brief=True).document()
    return schema if len(msgspec.json.encode(schema)) <= _OUTPUT_BYTES_MAX else None


class _Writer:
    def __init__(self, model: Model, root: Shape, *, sent: bool, is_brief: bool) -> None:
        self._model, self._root, self._sent, self._is_brief = model, root, sent, is_brief
        self._names = _shared(model, root)
        self._definitions: Json = {}
        self._waiting: list[tuple[str, Shape]] = []

    def document(self) -> Json:
        schema = self._structure(self._root, 0)
        while self._waiting:
            name, shape = self._waiting.pop()
            self._definitions[name] = self._structure(shape, 0)
        if self._definitions:
            schema["$defs"] = dict(sorted(self._definitions.items()))
        return schema

    def _member(self, member: Member, depth: int) -> Json:
        shape = self._model.shape(member.target)
        if depth > _DEPTH_MAX:
            raise Unusable(f"{shape.id} is nested deeper than {_DEPTH_MAX} levels")
        schema = self._reference(shape, depth)
        if self._sent:
            self._constrain(schema, member, shape)
        documentation = member.traits.text("documentation") or (
            "" if "$ref" in schema else shape.traits.text("documentation")
        )
        if documentation:
            schema["description"] = (
                first_sentence(documentation, characters_max=160)
                if self._is_brief
                else plain(documentation, characters_max=700)
            )
        if "deprecated" in member.traits:
            schema["deprecated"] = True
        if shape.type == "string" and ("sensitive" in shape.traits or "sensitive" in member.traits):
            schema["format"] = "password"
        return schema

    def _reference(self, shape: Shape, depth: int) -> Json:
        if shape.id not in self._names:
            return self._shape(shape, depth)
        name = self._names[shape.id]
        if name not in self._definitions:
            self._definitions[name] = {}
            self._waiting.append((name, shape))
        return {"$ref": f"#/$defs/{name}"}

    def _shape(self, shape: Shape, depth: int) -> Json:
        if shape.type in ("structure", "union"):
            return self._structure(shape, depth)
        if shape.type == "list":
            schema: Json = {"type": "array", "items": self._entries(shape, "member", depth)}
            if self._sent and ("uniqueItems" in shape.traits or shape.node.get("type") == "set"):
                schema["uniqueItems"] = True
            return schema
        if shape.type == "map":
            key = self._model.shape(shape.members["key"].target)
            schema = {
                "type": "object",
                "additionalProperties": self._entries(shape, "value", depth),
            }
            names = {k: v for k, v in self._simple(key).items() if k != "type"}
            if self._sent:
                self._constrain(names, shape.members["key"], key)
            if names and self._sent:
                schema["propertyNames"] = names
            return schema
        return self._simple(shape)

    def _entries(self, shape: Shape, member: str, depth: int) -> Json:
        schema = self._member(shape.members[member], depth + 1)
        if "sparse" in shape.traits:
            return {"anyOf": [schema, {"type": "null"}]}
        return schema

    def _simple(self, shape: Shape) -> Json:
        if shape.type in ("enum", "intEnum"):
            kind = {"type": "string" if shape.type == "enum" else "integer"}
            values = [
                m.traits.value("enumValue") if "enumValue" in m.traits else name
                for name, m in shape.members.items()
                if "internal" not in m.traits or not self._sent
            ]
            return {**kind, "enum": values} if self._sent and values else kind
        schema = _SIMPLE.get(shape.type)
        if schema is None:
            raise Unusable(f"{shape.id} is of type {shape.type[:40]}, which is no data")
        if shape.type in _FRACTIONS and not self._sent:
            return {"type": ["number", "string"]}  # "NaN", "Infinity"
        return dict(schema)

    def _structure(self, shape: Shape, depth: int) -> Json:
        if shape.type not in ("structure", "union"):
            raise Unusable(f"{shape.id} has to be a structure")
        properties: Json = {}
        for name, member in shape.members.items():
            is_needed = "required" in member.traits
            if "internal" in member.traits and not is_needed:
                continue
            properties[name] = self._member(member, depth + 1)
        schema: Json = {"type": "object", "properties": properties}
        if not self._sent:
            return schema
        if shape.type == "union":
            schema |= {"minProperties": 1, "maxProperties": 1}
        needed = [n for n, m in shape.members.items() if _is_needed(m)]
        if needed:
            schema["required"] = needed
        return schema | {"additionalProperties": False}

    def _constrain(self, schema: Json, member: Member, shape: Shape) -> None:
        for traits in (shape.traits, member.traits):
            lengths = _LENGTHS.get(shape.type)
            if lengths and "length" in traits:
                _bound(schema, traits.number("length", "min"), lengths[0])
                _bound(schema, traits.number("length", "max"), lengths[1])
            if "range" in traits:
                _bound(schema, traits.number("range", "min"), "minimum")
                _bound(schema, traits.number("range", "max"), "maximum")
            if "pattern" in traits and shape.type == "string":
                pattern = traits.text("pattern")
                if _compiles(pattern):
                    schema["pattern"] = pattern
            if "enum" in traits and shape.type == "string":
                schema["enum"] = _values(traits.value("enum"))
            if traits.text("mediaType") and shape.type in ("string", "blob"):
                schema["contentMediaType"] = traits.text("mediaType")
        default = member.traits.value("default")
        if default is not None and shape.type != "document":
            schema["default"] = default


_LENGTHS = {
    "string": ("minLength", "maxLength"),
    "list": ("minItems", "maxItems"),
    "map": ("minProperties", "maxProperties"),
}


def _is_needed(member: Member) -> bool:
    traits = member.traits
    return (
        "required" in traits
        and "idempotencyToken" not in traits
        and traits.value("default") is None
    )


def _bound(schema: Json, value: int | float | None, keyword: str) -> None:
    if value is not None and (value >= 0 or keyword in ("minimum", "maximum")):
        schema[keyword] = value


def _values(trait: Any) -> list[str]:
    """Of the `enum` trait of 1.0."""
    if not isinstance(trait, list) or not all(isinstance(entry, dict) for entry in trait):
        raise Unusable("a trait enum is no list of objects")
    return [str(entry.get("value", "")) for entry in trait]


@functools.lru_cache(maxsize=4096)
def _compiles(pattern: str) -> bool:
    """Whether those who check arguments can read it: some name halves of surrogate pairs."""
    try:
        jsonschema_rs.validator_for({"type": "string", "pattern": pattern})
    except (jsonschema_rs.ValidationError, ValueError):
        return False
    return True


def _shared(model: Model, root: Shape) -> dict[str, str]:
    """The structures that stand in more than one place, or in themselves, and their names."""
    uses: dict[str, int] = {root.id: 1}
    waiting = [root]
    while waiting:
        shape = waiting.pop()
        for member in shape.members.values():
            inner = _innermost(model, member)
            if inner.type not in ("structure", "union"):
                continue
            if inner.id not in uses:
                waiting.append(inner)
            uses[inner.id] = uses.get(inner.id, 0) + 1
        if len(uses) > _SHAPES_MAX:
            raise Unusable(f"it is made of more than {_SHAPES_MAX} structures")
    names: dict[str, str] = {}
    taken: set[str] = set()
    for shape_id in sorted(uses):
        shape = model.shape(shape_id)
        if uses[shape_id] > 1 and shape.members:
            name = shape.name
            while name in taken:
                name += "_"
            taken.add(name)
            names[shape_id] = name
    return names


def _innermost(model: Model, member: Member) -> Shape:
    """Of a list of maps of structures, the structure: lists and maps are written where they stand,
    each time anew."""
    for _ in range(_DEPTH_MAX):
        shape = model.shape(member.target)
        if shape.type not in ("list", "map"):
            return shape
        member = shape.members["member" if shape.type == "list" else "value"]
    raise Unusable(f"{member.target} is nested deeper than {_DEPTH_MAX} levels")
