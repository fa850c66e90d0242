"""Smithy's JSON AST, versions 1.0 and 2.0: each shape with its mixins and `apply` put in."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from freehold.kernel.errors import ValidationFailed

Json = dict[str, Any]

TEXT_BYTES_MAX = 10 << 20
_MIXIN_DEPTH_MAX = 32
_AGGREGATES = frozenset({"structure", "union", "enum", "intEnum", "list", "set", "map"})
_PRELUDE = {
    "String": "string", "Blob": "blob", "BigInteger": "bigInteger", "BigDecimal": "bigDecimal",
    "Timestamp": "timestamp", "Document": "document", "Boolean": "boolean", "Byte": "byte",
    "Short": "short", "Integer": "integer", "Long": "long", "Float": "float", "Double": "double",
    "PrimitiveBoolean": "boolean", "PrimitiveByte": "byte", "PrimitiveShort": "short",
    "PrimitiveInteger": "integer", "PrimitiveLong": "long", "PrimitiveFloat": "float",
    "PrimitiveDouble": "double", "Unit": "structure",
}  # fmt: skip
UNIT = "smithy.api#Unit"


class Unusable(Exception):
    """An operation cannot be a tool. Says why, and what to do about it."""


class Traits:
    """The traits of a shape or a member, those of `smithy.api` by their short names."""

    __slots__ = ("_given",)

    def __init__(self, given: Json) -> None:
        self._given = given

    def __contains__(self, name: str) -> bool:
        return self._name(name) in self._given

    def value(self, name: str) -> Any:
        return self._given.get(self._name(name))

    def text(self, name: str) -> str:
        """Empty where there is none. Raises Unusable where it is no text."""
        value = self.value(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Unusable(f"the trait {name} is no text")
        return value

    def members(self, name: str) -> Json:
        """Of a trait that is an object; empty where there is none."""
        value = self.value(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise Unusable(f"the trait {name} is no object")
        return value

    def number(self, name: str, member: str) -> int | float | None:
        value = self.members(name).get(member)
        if isinstance(value, str):  # a `range` of big numbers may be written so
            value = _number(value)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def protocols(self) -> list[str]:
        return [n for n in self._given if "#" in n and not n.startswith("smithy.api#")]

    @staticmethod
    def _name(name: str) -> str:
        return name if "#" in name else f"smithy.api#{name}"


def _number(text: str) -> int | float | None:
    try:
        return float(text) if "." in text or "e" in text.lower() else int(text)
    except ValueError:
        return None


@dataclass(slots=True)
class Member:
    name: str
    target: str
    traits: Traits


@dataclass(slots=True)
class Shape:
    """`members` of a list is "member", of a map "key" and "value". `node` is the shape as the
    document has it, its mixins in it."""

    id: str
    type: str
    traits: Traits
    members: dict[str, Member] = field(default_factory=dict)
    node: Json = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.id.partition("#")[2]


class Model:
    """Shapes are put together when they are first asked for."""

    def __init__(self, text: str) -> None:
        """Raises ValidationFailed where the text is no Smithy model."""
        self._nodes = _nodes(text)
        self._shapes: dict[str, Shape] = {}
        self._mixins: dict[str, Json] = {}

    def services(self) -> list[str]:
        """Without those that others mix in."""
        found = []
        for name, node in self._nodes.items():
            traits = node.get("traits")
            is_mixin = isinstance(traits, dict) and "smithy.api#mixin" in traits
            if node["type"] == "service" and not is_mixin:
                found.append(name)
        return found

    def shape(self, shape_id: str) -> Shape:
        """Raises Unusable where the model has no such shape."""
        shape = self._shapes.get(shape_id)
        if shape is None:
            shape = self._shapes[shape_id] = self._read(shape_id)
        return shape

    def _read(self, shape_id: str) -> Shape:
        if shape_id not in self._nodes:
            kind = _PRELUDE.get(shape_id.removeprefix("smithy.api#"))
            if kind is None or not shape_id.startswith("smithy.api#"):
                raise Unusable(f"the model has no shape {shape_id[:200]}: add it")
            return Shape(shape_id, kind, Traits({}))
        node = self._assembled(shape_id, 0)
        kind = node["type"]
        members: dict[str, Member] = {}
        if kind in _AGGREGATES:
            for name, member in node["members"].items():
                members[name] = Member(
                    name, _target(member, shape_id), Traits(_object(member, "traits"))
                )
        kind = "list" if kind == "set" else kind
        required = {"list": {"member"}, "map": {"key", "value"}}.get(kind, set())
        if not required <= members.keys():
            raise Unusable(f"{shape_id} has no {' and '.join(sorted(required))}: add them")
        return Shape(shape_id, kind, Traits(node["traits"]), members, node)

    def _assembled(self, shape_id: str, depth: int) -> Json:
        """The node with `members` and `traits` in every case, those of its mixins among them."""
        own = self._nodes.get(shape_id)
        if own is None or depth > _MIXIN_DEPTH_MAX:
            raise Unusable(f"the mixin {shape_id[:200]} is not there, or mixes in itself")
        made: Json = {**own, "members": {}, "traits": {}}
        for mixin in _targets(own, "mixins", shape_id):
            node = self._mixins.get(mixin)
            if node is None:
                node = self._mixins[mixin] = self._assembled(mixin, depth + 1)
            marked = node["traits"].get("smithy.api#mixin")
            local = marked.get("localTraits", []) if isinstance(marked, dict) else []
            left_out = {"smithy.api#mixin", *(n for n in local if isinstance(n, str))}
            made["traits"].update({n: t for n, t in node["traits"].items() if n not in left_out})
            made["members"].update(node["members"])
            for name, value in node.items():
                if name not in ("type", "members", "traits", "mixins"):
                    made[name] = _joined(value, own[name]) if name in own else value
        for name, member in _own_members(own, shape_id).items():
            inherited = _object(made["members"].get(name, {}), "traits")
            made["members"][name] = {**member, "traits": {**inherited, **_object(member, "traits")}}
        made["traits"].update(_object(own, "traits"))
        return self._applied(made, shape_id)

    def _applied(self, made: Json, shape_id: str) -> Json:
        made["traits"].update(_object(self._nodes.get(f"apply {shape_id}", {}), "traits"))
        for name, member in made["members"].items():
            applied = _object(self._nodes.get(f"apply {shape_id}${name}", {}), "traits")
            if applied:
                traits = {**_object(member, "traits"), **applied}
                made["members"][name] = {**member, "traits": traits}
        return made


def _nodes(text: str) -> dict[str, Json]:
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise ValidationFailed(f"A Smithy model may have {TEXT_BYTES_MAX >> 20} MiB at most.")
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValidationFailed(
            f"The Smithy model is no JSON ({error}). A model in Smithy's own language is turned"
            " into JSON by `smithy ast`."
        ) from None
    if not isinstance(document, dict) or not isinstance(document.get("smithy"), str):
        raise ValidationFailed('This is no Smithy model: its member "smithy" is the version.')
    if document["smithy"].partition(".")[0] not in ("1", "2"):
        raise ValidationFailed("Smithy models of version 1.0 and 2.0 are taken.")
    shapes = document.get("shapes")
    if not isinstance(shapes, dict) or not shapes:
        raise ValidationFailed("The Smithy model has no shapes.")
    nodes: dict[str, Json] = {}
    for name, node in shapes.items():
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            raise ValidationFailed(f"/shapes/{name[:200]} is no shape: it has no type.")
        # A statement may be about a shape that has a node of its own under the same name.
        nodes[f"apply {name}" if node["type"] == "apply" else name] = node
    return nodes


def _object(node: Any, name: str) -> Json:
    value = node.get(name) if isinstance(node, dict) else None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unusable(f"its {name} are no object")
    return value


def _own_members(node: Json, shape_id: str) -> Json:
    """Lists and maps name theirs in the node itself."""
    members = dict(_object(node, "members"))
    for name in ("member", "key", "value"):
        if name in node and node["type"] in ("list", "set", "map"):
            members[name] = node[name]
    for name, member in members.items():
        if not isinstance(member, dict):
            raise Unusable(f"{shape_id}${name} is no member")
    return members


def _joined(inherited: Any, own: Any) -> Any:
    if isinstance(inherited, list) and isinstance(own, list):
        return inherited + [entry for entry in own if entry not in inherited]
    if isinstance(inherited, dict) and isinstance(own, dict):
        return {**inherited, **own}
    return own


def _target(node: Any, where: str) -> str:
    target = node.get("target") if isinstance(node, dict) else None
    if not isinstance(target, str):
        raise Unusable(f"{where} refers to a shape without a target")
    return target


def _targets(node: Json, name: str, where: str) -> list[str]:
    value = node.get(name) or []
    if not isinstance(value, list):
        raise Unusable(f"{where} has {name} that are no list")
    return [_target(entry, where) for entry in value]


def targets(shape: Shape, name: str) -> list[str]:
    """The shapes that a member of the node, such as `operations`, refers to."""
    return _targets(shape.node, name, shape.id)


def target(shape: Shape, name: str) -> str:
    """The one shape that a member of the node refers to, or Unit."""
    return _target(shape.node[name], shape.id) if name in shape.node else UNIT
