"""A form made from the JSON Schema of a tool's input, and the arguments that it was filled in with.

What a plain field cannot take (lists, objects, anything that may be one of several things) is
written as JSON in a field of its own."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from freehold.kernel.errors import ValidationFailed

_FIELDS_MAX = 30
_PREFIX = "arg."
Kind = Literal["text", "integer", "number", "boolean", "choice", "json"]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is the argument's, `form_name` the input's. `choices` are JSON texts of what may be
    said; `value` is what the input shows."""

    name: str
    form_name: str
    kind: Kind
    label: str
    description: str
    required: bool
    value: str
    choices: list[tuple[str, str]] = []
    example: Any = None


def fields(schema: Mapping[str, Any], given: Mapping[str, str]) -> list[Field]:
    """Those that must be filled in come first."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return []
    wanted = schema.get("required")
    required = set(wanted) if isinstance(wanted, list) else set()
    made = [
        _field(name, each if isinstance(each, dict) else {}, name in required, given)
        for name, each in properties.items()
    ]
    return sorted(made, key=lambda field: not field.required)


def fits(fields: Sequence[Field]) -> bool:
    """Whether a form would do; else the arguments are written as JSON."""
    return len(fields) <= _FIELDS_MAX


def arguments(fields: Sequence[Field], given: Mapping[str, str]) -> dict[str, Any]:
    """Raises ValidationFailed. What is left empty is left out."""
    return {
        field.name: _value(field, text)
        for field in fields
        if (text := given.get(field.form_name, "")) != ""
    }


def example(fields: Sequence[Field]) -> str:
    """Arguments to begin with: what must be there."""
    return json.dumps({f.name: f.example for f in fields if f.required}, indent=2)


def _field(name: str, schema: Mapping[str, Any], required: bool, given: Mapping[str, str]) -> Field:
    kind, choices, example = _kind(schema)
    form_name = _PREFIX + name
    default = schema.get("default")
    shown = "" if default is None else default if isinstance(default, str) else json.dumps(default)
    return Field(
        name=name, form_name=form_name, kind=kind, choices=choices, example=example,
        label=str(schema.get("title") or name), required=required,
        description=str(schema.get("description") or ""),
        value=given.get(form_name, shown if kind != "choice" else json.dumps(default)),
    )  # fmt: skip


def _kind(schema: Mapping[str, Any]) -> tuple[Kind, list[tuple[str, str]], Any]:
    listed = schema.get("enum")
    if isinstance(listed, list) and listed:
        pairs = [(json.dumps(each), each if isinstance(each, str) else json.dumps(each))
                 for each in listed]  # fmt: skip
        return "choice", pairs, listed[0]
    kind = schema.get("type")
    if kind == "boolean":
        return "boolean", [("true", "true"), ("false", "false")], False
    plain: dict[str, tuple[Kind, Any]] = {
        "string": ("text", ""), "integer": ("integer", 0), "number": ("number", 0),
        "array": ("json", []), "object": ("json", {}),
    }  # fmt: skip
    # A list of types is one of several: JSON can say any of them.
    anything: tuple[Kind, Any] = ("json", None)
    known, example = plain.get(kind, anything) if isinstance(kind, str) else anything
    return known, [], example


def _value(field: Field, text: str) -> Any:
    match field.kind:
        case "text":
            return text
        case "integer" | "number":
            try:
                return int(text) if field.kind == "integer" else float(text)
            except ValueError:
                raise ValidationFailed(f"{field.label} is a number") from None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValidationFailed(f"{field.label} is no JSON: {error}") from None
    known = {choice for choice, _ in field.choices}
    if known and text not in known:
        raise ValidationFailed(f"{field.label} is none of its choices")
    return value
