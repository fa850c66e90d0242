"""What an operation is, whichever version describes it: Swagger 2.0, OpenAPI 3.0, 3.1 (and 3.2)."""

import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from freehold.adapters.targets.openapi.references import Library, Node, Unconvertible
from freehold.kernel.errors import ValidationFailed

Dialect = Literal["2.0", "3.0", "3.1"]
"""Of the schemas: from 3.1 on they are JSON Schema 2020-12."""
In = Literal["path", "query", "header", "cookie"]

METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "query"})
_PLACES: tuple[In, ...] = ("path", "query", "header", "cookie")
_STYLES: dict[str, str] = {"path": "simple", "header": "simple", "query": "form", "cookie": "form"}
_COLLECTIONS = {
    "csv": "", "ssv": "spaceDelimited", "tsv": "tabDelimited", "pipes": "pipeDelimited",
    "multi": "form",
}  # fmt: skip
STYLES: dict[str, frozenset[str]] = {
    "path": frozenset({"simple", "label", "matrix"}),
    "query": frozenset({"form", "spaceDelimited", "pipeDelimited", "tabDelimited", "deepObject"}),
    "header": frozenset({"simple"}),
    "cookie": frozenset({"form", "cookie"}),
}


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """`media` is the type of a parameter described by `content`, "" for one with a style."""

    name: str
    place: In
    required: bool
    schema: Node | None
    style: str = "form"
    explode: bool = False
    reserved: bool = False
    media: str = ""
    description: str = ""
    deprecated: bool = False
    example: Any = None


class Encoding(msgspec.Struct, frozen=True, kw_only=True):
    media: str = ""
    style: str = ""
    explode: bool = False
    reserved: bool = False


class Media(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    schema: Node | None = None
    encoding: dict[str, Encoding] = {}
    formdata: tuple[Parameter, ...] = ()
    """The members of a Swagger 2.0 form, in place of a schema."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    required: bool
    description: str
    media: tuple[Media, ...]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: str
    media: tuple[Media, ...]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """`servers`: its own, or its path's, or none."""

    method: str
    path: str
    node: Node
    parameters: tuple[Parameter, ...]
    body: Body | None
    answers: tuple[Answer, ...]
    servers: tuple[Node, ...]
    notes: tuple[str, ...] = ()
    """What of it is taken in another way than it is written."""

    @property
    def where(self) -> str:
        return f"{self.method.upper()} {self.path}"


def dialect_of(document: dict[str, Any]) -> Dialect:
    """Raises ValidationFailed for what is no OpenAPI document."""
    swagger, openapi = str(document.get("swagger", "")), str(document.get("openapi", ""))
    if swagger in ("2.0", "2"):
        found: Dialect = "2.0"
    elif re.fullmatch(r"3\.0(\..*)?|3", openapi):
        found = "3.0"
    elif re.fullmatch(r"3\.[12](\..*)?", openapi):
        found = "3.1"
    elif swagger or openapi:
        raise ValidationFailed(
            f"Version {(swagger or openapi)[:20]} is not known, but Swagger 2.0, OpenAPI 3.0, 3.1."
        )
    else:
        raise ValidationFailed(
            'This is no OpenAPI document: it has neither "openapi" nor "swagger" at its top.'
        )
    if not isinstance(document.get("paths", {}), dict):
        raise ValidationFailed('This is no OpenAPI document: "paths" is not an object.')
    return found


class Operations:
    """The operations of a document, one by one. What is wrong with one is raised for it alone."""

    def __init__(self, library: Library, dialect: Dialect) -> None:
        self._library, self._dialect = library, dialect
        self._shared = library.root
        self._notes: list[str] = []

    def places(self) -> Iterator[tuple[str, str, Node, Node] | tuple[str, Unconvertible]]:
        """(method, path, path item, operation), or where and why a path has none."""
        paths = self._library.root.get("paths")
        try:
            whole = self._library.follow(paths) if paths is not None else None
        except Unconvertible as error:
            yield "/paths", error
            return
        for path in whole.value if whole is not None and isinstance(whole.value, dict) else ():
            assert whole is not None
            raw = whole.at(path)
            if path.startswith("x-"):
                continue
            try:
                item = self._library.follow(raw)
            except Unconvertible as error:
                yield path, error
                continue
            for method in item.value if isinstance(item.value, dict) else ():
                if method in METHODS and item.value[method] is not None:
                    yield method, path, item, item.at(method)
            if item.get("trace") is not None:
                yield (
                    f"TRACE {path}",
                    Unconvertible("TRACE is for debugging: no tool is made of it."),
                )

    def operation(self, method: str, path: str, item: Node, node: Node) -> Operation:
        """Raises Unconvertible."""
        if not isinstance(node.value, dict):
            raise Unconvertible("It is not an object.")
        self._notes = []
        raw = self._merged(item, node)
        servers = tuple(node.elements("servers")) or tuple(item.elements("servers"))
        if self._dialect == "2.0":
            parameters, body = self._swagger(raw, node)
        else:
            parameters, body = [self._parameter(n) for n in raw], self._body(node)
        return Operation(
            method=method, path=path, node=node, parameters=tuple(parameters), body=body,
            answers=tuple(self._answers(node)), servers=servers, notes=tuple(self._notes),
        )  # fmt: skip

    def _merged(self, item: Node, node: Node) -> list[Node]:
        """An operation's parameters, and its path's that it does not override."""
        found: dict[tuple[str, str], Node] = {}
        for holder in (item, node):
            for element in holder.elements("parameters"):
                parameter = self._library.follow(element)
                if not isinstance(parameter.value, dict):
                    raise Unconvertible(f"{parameter.pointer} is not a parameter.")
                found[parameter.text("in"), parameter.text("name")] = parameter
        return list(found.values())

    def _parameter(self, node: Node) -> Parameter:
        name, place = node.text("name"), node.text("in")
        if not name:
            raise Unconvertible(f"A parameter ({node.pointer}) has no name.")
        if place not in _PLACES:
            raise Unconvertible(f'The parameter "{name}" is in {place or "nothing"!r}: not known.')
        style, explode = node.text("style") or _STYLES[place], node.flag("explode")
        if style not in STYLES[place]:
            self._notes.append(
                f'The parameter "{name}" has style {style!r}, which is none for {place}: it is sent'
                f" as {_STYLES[place]!r}."
            )
            style = _STYLES[place]
        media, schema = "", node.get("schema")
        for type_, inner in node.members("content"):
            media, schema = type_, self._library.follow(inner).get("schema")
            break
        return Parameter(
            name=name, place=_place(place), required=place == "path" or bool(node.flag("required")),
            schema=schema, style=style,
            explode=style in ("form", "cookie") if explode is None else explode,
            reserved=bool(node.flag("allowReserved")), media=media,
            description=node.text("description"), deprecated=bool(node.flag("deprecated")),
            example=_example(node),
        )  # fmt: skip

    def _body(self, node: Node) -> Body | None:
        raw = node.get("requestBody")
        if raw is None:
            return None
        body = self._library.follow(raw)
        media = tuple(self._media(type_, inner) for type_, inner in body.members("content"))
        return Body(
            required=bool(body.flag("required")), description=body.text("description"), media=media
        )

    def _media(self, type_: str, node: Node) -> Media:
        node = self._library.follow(node)
        encoding: dict[str, Encoding] = {}
        for name, raw in node.members("encoding"):
            style, explode = raw.text("style"), raw.flag("explode")
            reserved = raw.flag("allowReserved")
            if explode is not None or reserved is not None:
                style = style or "form"  # with any of the three, the others have their defaults
            encoding[name] = Encoding(
                media=raw.text("contentType"), style=style,
                explode=style == "form" if explode is None else explode, reserved=bool(reserved),
            )  # fmt: skip
        return Media(type=type_, schema=node.get("schema"), encoding=encoding)

    def _answers(self, node: Node) -> Iterator[Answer]:
        produces = self._types(node, "produces") if self._dialect == "2.0" else []
        for status, raw in node.members("responses"):
            if not status.startswith("2"):
                continue
            try:
                answer = self._library.follow(raw)
            except Unconvertible:
                continue  # what it answers is worth less than that it can be called
            if self._dialect == "2.0":
                schema = answer.get("schema")
                media = tuple(Media(type=t, schema=schema) for t in produces) if schema else ()
            else:
                media = tuple(
                    Media(type=t, schema=n.get("schema")) for t, n in self._contents(answer)
                )
            yield Answer(status=status, media=media)

    def _contents(self, answer: Node) -> Iterator[tuple[str, Node]]:
        for type_, inner in answer.members("content"):
            if isinstance(inner.value, dict):
                yield type_, inner

    # Swagger 2.0

    def _swagger(self, raw: list[Node], node: Node) -> tuple[list[Parameter], Body | None]:
        parameters: list[Parameter] = []
        form: list[Parameter] = []
        body: Body | None = None
        consumes = self._types(node, "consumes")
        for each in raw:
            match each.text("in"):
                case "body":
                    schema = each.get("schema")
                    body = Body(
                        required=bool(each.flag("required")),
                        description=each.text("description"),
                        media=tuple(Media(type=t, schema=schema) for t in consumes),
                    )
                case "formData":
                    form.append(self._old(each, "query"))
                case place:
                    parameters.append(self._old(each, place))
        if form:
            files = any(p.schema is not None and p.schema.text("type") == "file" for p in form)
            type_ = next((t for t in consumes if "form" in t), "application/x-www-form-urlencoded")
            media = Media(type="multipart/form-data" if files else type_, formdata=tuple(form))
            required = any(p.required for p in form)
            body = Body(required=required, description="", media=(media,))
        return parameters, body

    def _old(self, node: Node, place: str) -> Parameter:
        name = node.text("name")
        if not name:
            raise Unconvertible(f"A parameter ({node.pointer}) has no name.")
        if place not in _PLACES:
            raise Unconvertible(f'The parameter "{name}" is in {place or "nothing"!r}: not known.')
        collection = node.text("collectionFormat") or "csv"
        style = _COLLECTIONS.get(collection, "") or _STYLES[place]
        if style not in STYLES[place]:
            style = _STYLES[place]
        return Parameter(
            name=name, place=_place(place), required=place == "path" or bool(node.flag("required")),
            schema=Node(node.document, node.pointer, _schema_of(node.value)), style=style,
            explode=collection == "multi", description=node.text("description"),
        )  # fmt: skip

    def _types(self, node: Node, name: str) -> list[str]:
        for holder in (node, self._shared):
            found = [n.value for n in holder.elements(name) if isinstance(n.value, str)]
            if found:
                return found
        return ["application/json"]


def _schema_of(parameter: dict[str, Any]) -> dict[str, Any]:
    """A parameter of Swagger 2.0 is a schema with a few more members."""
    apart = ("name", "in", "required", "description", "collectionFormat", "allowEmptyValue")
    return {key: value for key, value in parameter.items() if key not in apart}


def _place(text: str) -> In:
    return next(place for place in _PLACES if place == text)


def _example(node: Node) -> Any:
    if "example" in node.value:
        return node.value["example"]
    for _, inner in node.members("examples"):
        if isinstance(inner.value, dict) and "value" in inner.value:
            return inner.value["value"]
    return None
