"""What a request body is made of: which of its media types is sent, and from which members."""

import re
from typing import Any

import msgspec

from freehold.adapters.targets.openapi.plan import BodyKind, PartPlan
from freehold.adapters.targets.openapi.references import Node, Unconvertible
from freehold.adapters.targets.openapi.schemas import Schemas
from freehold.adapters.targets.openapi.versions import Body, Encoding, Media, Parameter
from freehold.ports.targets import Json

_PARTS_MAX = 50  # of `allOf`, within one another
_MEMBERS_MAX = 300
# An object with no other keywords is the sum of its members.
_PLAIN = frozenset(
    {
        "type", "properties", "required", "title", "description", "example", "examples", "xml",
        "externalDocs", "deprecated", "default", "readOnly", "writeOnly", "discriminator",
        "additionalProperties", "allOf", "$schema", "$id", "$anchor", "$comment", "$defs",
    }
)  # fmt: skip
_TEXT = re.compile(r"text/.*|application/(.*\+)?(yaml|x-yaml|graphql|sql|x-ndjson|jsonl)")
_KINDS: dict[str, BodyKind] = {
    "application/json": "json",
    "text/json": "json",
    "application/x-www-form-urlencoded": "form",
    "multipart/form-data": "multipart",
}
_XML = re.compile(r"application/xml|text/xml|.*\+xml")


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """`members`: schemas by name, where the body is a plain object that arguments can make up;
    `whole` is its schema as one argument."""

    kind: BodyKind
    media: str
    whole: Any
    members: dict[str, Any] | None = None
    required: frozenset[str] = frozenset()
    parts: dict[str, PartPlan] = {}
    note: str = ""
    """What its author should know."""


def payload_of(body: Body, schemas: Schemas) -> Payload | None:
    """Raises Unconvertible, naming what there was to choose from."""
    ranked = [(kind, media) for media in body.media if (kind := _kind(media, schemas)) is not None]
    order: list[BodyKind] = ["json", "multipart", "form", "text", "bytes"]
    ranked.sort(key=lambda each: (order.index(each[0]), each[1].type != "application/json"))
    if not ranked:
        if not body.media:
            return None
        types = ", ".join(media.type for media in body.media)[:300]
        raise Unconvertible(
            f"Its body is {types}, which is not made here, but JSON, form-data, text and bytes."
        )
    kind, media = ranked[0]
    if kind in ("text", "bytes"):
        return _opaque(kind, media, body, _followed(media.schema, schemas))
    if media.formdata:
        return _old_form(kind, media, schemas)
    return _structured(kind, media, schemas)


def _kind(media: Media, schemas: Schemas) -> BodyKind | None:
    type_ = media.type.split(";", 1)[0].strip().lower()
    if type_ in _KINDS:
        return _KINDS[type_]
    if type_.endswith("+json"):
        return "json"
    if type_.startswith("multipart/"):
        return None
    if type_ in ("*/*", "application/*", ""):
        schema = _followed(media.schema, schemas)
        return "bytes" if schema is not None and schema.text("type") == "string" else "json"
    return "text" if _TEXT.fullmatch(type_) or _XML.fullmatch(type_) else "bytes"


def _opaque(kind: BodyKind, media: Media, body: Body, schema: Node | None) -> Payload:
    """The media type counts, whatever the schema says."""
    about = body.description or f"The whole request body, {media.type}."
    whole: Json = {"type": "string", "description": about}
    type_ = media.type
    if kind == "bytes":
        whole |= {"contentEncoding": "base64", "description": f"{about} As base64."}
        type_ = "application/octet-stream" if "*" in type_ or not type_ else type_
    elif "*" in type_:
        type_ = "text/plain"
    if "*" not in media.type:
        whole["contentMediaType"] = media.type
    note = ""
    if schema is not None and schema.value.get("properties"):
        note = f"Its body is {media.type}, and not made of arguments: the caller writes all of it."
    return Payload(kind=kind, media=type_, whole=whole, note=note)


def _structured(kind: BodyKind, media: Media, schemas: Schemas) -> Payload:
    node = _followed(media.schema, schemas)
    flat: _Flat | None = _Flat(schemas)
    if node is None or flat is None or not flat.takes(node) or not flat.done():
        flat = None
    nodes = flat.members if flat is not None else dict(node.members("properties")) if node else {}
    parts: dict[str, PartPlan] = {}
    if kind != "json":
        for name, each in nodes.items():
            part = _part(kind, each, media.encoding.get(name), schemas)
            if part is not None:
                parts[name] = part
    type_ = media.type if media.type and "*" not in media.type else "application/json"
    whole = schemas.converted(media.schema, "in")
    if kind != "json" and node is not None:
        whole = _with_files(schemas.converted(node, "in"), parts)
        if node.text("type") not in ("", "object"):
            whole = {"type": "object", "description": "The members of the form."}
    if flat is None:
        return Payload(kind=kind, media=type_, whole=whole, parts=parts)
    members = {name: schemas.converted(each, "in") for name, each in nodes.items()}
    for name, part in parts.items():
        if part.binary:
            members[name] = _file(members[name])
    return Payload(
        kind=kind, media=type_, whole=whole, members=members, required=frozenset(flat.required),
        parts=parts,
    )  # fmt: skip


class _Flat:
    """The members of an object that is nothing but them, `allOf` put together."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self.members: dict[str, Node] = {}
        self.required: set[str] = set()
        self._parts = 0

    def takes(self, node: Node) -> bool:
        """False where it is anything else."""
        self._parts += 1
        if self._parts > _PARTS_MAX or not _is_sum(node.value):
            return False
        for part in node.elements("allOf"):
            followed = _followed(part, self._schemas)
            if followed is None or not self.takes(followed):
                return False
        own = dict(node.members("properties"))
        if self.members.keys() & own.keys() or len(self.members) + len(own) > _MEMBERS_MAX:
            return False
        self.members |= own
        names = node.value.get("required")
        if isinstance(names, list):
            self.required |= {name for name in names if isinstance(name, str)}
        return True

    def done(self) -> bool:
        """Without what only comes out."""
        for name, each in tuple(self.members.items()):
            followed = _followed(each, self._schemas)
            if each.flag("readOnly") or (followed is not None and followed.flag("readOnly")):
                del self.members[name]
        self.required &= self.members.keys()
        return bool(self.members)


def _is_sum(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("type", "object") == "object"
        and all(key in _PLAIN or key.startswith("x-") for key in value)
        and value.get("additionalProperties", False) is False
    )


def _old_form(kind: BodyKind, media: Media, schemas: Schemas) -> Payload:
    members: dict[str, Any] = {}
    parts: dict[str, PartPlan] = {}
    for parameter in media.formdata:
        schema = schemas.converted(parameter.schema, "in")
        if parameter.schema is not None and parameter.schema.text("type") == "file":
            parts[parameter.name] = PartPlan(binary=True)
            schema = _file(schema)
        elif schema.get("type") == "array":
            parts[parameter.name] = PartPlan(style=parameter.style, explode=parameter.explode)
        members[parameter.name] = _named(schema, parameter)
    required = [p.name for p in media.formdata if p.required]
    whole = {"type": "object", "properties": members, "required": required}
    return Payload(
        kind=kind, media=media.type, whole=whole, members=members, required=frozenset(required),
        parts=parts,
    )  # fmt: skip


def _part(
    kind: BodyKind, node: Node, encoding: Encoding | None, schemas: Schemas
) -> PartPlan | None:
    encoding = encoding or Encoding()
    followed = _followed(node, schemas)
    if followed is None:
        return None
    several = followed.get("items") if followed.text("type") == "array" else None
    item = _followed(several, schemas) if several is not None else followed
    media = _one_type(encoding.media) or (item.text("contentMediaType") if item else "")
    structured = item is not None and (
        item.text("type") in ("object", "array") or bool(item.value.keys() & {"properties"})
    )
    binary = kind == "multipart" and item is not None and _is_binary(item, media, structured)
    if not media and not binary and not encoding.style:
        return None
    return PartPlan(
        media=media, binary=binary, style=encoding.style if kind == "form" else "",
        explode=encoding.explode, reserved=encoding.reserved,
    )  # fmt: skip


def _is_binary(item: Node, media: str, structured: bool) -> bool:
    if item.text("format") == "binary":
        return True
    if structured or item.text("type") not in ("", "string"):
        return False
    if item.text("contentEncoding") or item.text("format") == "byte":
        return False  # its text is what is sent
    return bool(media) and not _TEXT.fullmatch(media) and "json" not in media and "xml" not in media


def _one_type(several: str) -> str:
    """`contentType` may name more than one, and wildcards."""
    for each in several.split(","):
        if each.strip() and "*" not in each and each.isascii() and each.isprintable():
            return each.strip()
    return ""


def _file(schema: Any) -> Any:
    if isinstance(schema, dict) and schema.get("type") == "array":
        return {**schema, "items": _file({})}
    about = schema.get("description", "") if isinstance(schema, dict) else ""
    return {
        "type": "string", "contentEncoding": "base64",
        "description": f"{about} A file, as base64.".strip(),
    }  # fmt: skip


def _with_files(schema: Any, parts: dict[str, PartPlan]) -> Any:
    if not isinstance(schema, dict) or "properties" not in schema:
        return schema
    properties = dict(schema["properties"])
    for name, part in parts.items():
        if part.binary and name in properties:
            properties[name] = _file(properties[name])
    return {**schema, "properties": properties}


def _named(schema: Json, parameter: Parameter) -> Json:
    about = " ".join(t for t in (parameter.description, schema.get("description", "")) if t)
    return {**schema, "description": about} if about else schema


def _followed(node: Node | None, schemas: Schemas) -> Node | None:
    """None for what is missing, or no schema that could be looked into."""
    if node is None:
        return None
    try:
        found = schemas.followed(node)
    except Unconvertible:
        return None  # named where it is converted
    return found if isinstance(found.value, dict) else None
