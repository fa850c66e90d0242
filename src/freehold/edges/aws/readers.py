"""From values on the wire to values of the model: decoded and validated in one walk.

Readers are compiled for a shape when its first value comes. Each takes a decoded JSON value (or
the text of a header, a query parameter or a label), notes what is wrong with it, and goes on.
"""

import base64
import binascii
import functools
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from freehold.edges.aws.model import Member, Shape
from freehold.edges.aws.validate import Check, Path, Problems, check_of

Reader = Callable[[Any, Path, Problems], Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO_8601 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_INTEGER_BITS = {"integer": 31, "long": 63}
_INTEGER_TEXT = re.compile(r"-?\d{1,19}", re.ASCII)
_FLOAT_TEXT = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,3})?", re.ASCII)


@functools.cache
def reader_of(shape: Shape) -> Reader:
    """For a value in a JSON document."""
    if shape.kind == "document":
        return _anything
    if shape.kind == "structure":
        return _structure_reader(shape, shape.required)
    if shape.kind == "list":
        return _list_reader(shape)
    if shape.kind == "map":
        return _map_reader(shape)
    return _SCALARS[shape.kind](shape, check_of(shape))


@functools.cache
def body_reader_of(shape: Shape) -> Reader:
    """For an operation's input: a structure, but what is missing is its caller's to say."""
    return _structure_reader(shape, required=())


@functools.cache
def text_reader_of(member: Member) -> Reader:
    """For a value that travels as text: in a header, the query or the path."""
    shape = member.shape
    check = check_of(shape)
    if shape.kind == "string":
        return _string_reader(shape, check)
    if shape.kind == "timestamp":
        default = "rfc822" if member.location == "header" else "iso8601"
        return _timestamp_reader(shape, check, default)
    from_text = _FROM_TEXT[shape.kind]
    typed = reader_of(shape)

    def read(text: Any, path: Path, problems: Problems) -> Any:
        value = from_text(text)
        if value is None:
            problems.add(path, f"Member must be of type {shape.kind}")
            return None
        return typed(value, path, problems)

    return read


def _integer_from_text(text: str) -> int | None:
    return int(text) if _INTEGER_TEXT.fullmatch(text) else None


def _float_from_text(text: str) -> float | None:
    return float(text) if _FLOAT_TEXT.fullmatch(text) else None


_FROM_TEXT: Mapping[str, Callable[[str], Any]] = {
    "boolean": {"true": True, "false": False}.get,
    "integer": _integer_from_text,
    "long": _integer_from_text,
    "float": _float_from_text,
    "double": _float_from_text,
}


def _anything(value: Any, path: Path, problems: Problems) -> Any:
    return value


def _structure_reader(shape: Shape, required: tuple[str, ...]) -> Reader:
    """Of members that travel in the body. An unknown key is ignored, as AWS does, but not one
    that differs from a known one by case alone: another reader might take it for that one.
    """
    in_body = [member for member in shape.members.values() if member.location is None]
    wire_names = {member.wire_name: member for member in in_body}
    folded = {name.casefold(): name for name in wire_names}
    demanded = frozenset(required)
    # Readers of members are made when used, or a shape that holds itself would never end.
    readers: dict[str, Reader] = {}

    def read(value: Any, path: Path, problems: Problems) -> Any:
        if type(value) is not dict:
            problems.add(path, "Member must be of type structure")
            return None
        parsed = {}
        for key, item in value.items():
            member = wire_names.get(key)
            if member is None:
                known = folded.get(key.casefold())
                if known is not None:
                    problems.add((path, known), "Member must be spelled with the right case")
                continue
            if item is None:
                continue
            reader = readers.get(key)
            if reader is None:
                reader = readers[key] = reader_of(member.shape)
            parsed[member.name] = reader(item, (path, member.name), problems)
        if not demanded <= parsed.keys():
            for name in required:
                if name not in parsed:
                    problems.add((path, name), "Member must not be null")
        if shape.is_union and len(parsed) != 1:
            problems.add(path, "Member must have exactly one of its fields set")
        return parsed

    return read


def _list_reader(shape: Shape) -> Reader:
    check, element = check_of(shape), reader_of(shape.element)

    def read(value: Any, path: Path, problems: Problems) -> Any:
        if type(value) is not list:
            problems.add(path, "Member must be of type list")
            return None
        if check is not None:
            check(value, path, problems)
        parsed = []
        for index, item in enumerate(value, 1):
            here = ((path, str(index)), "member")
            if item is None:
                problems.add(here, "Member must not be null")
            else:
                parsed.append(element(item, here, problems))
        return parsed

    return read


def _map_reader(shape: Shape) -> Reader:
    check, key_reader = check_of(shape), reader_of(shape.key)
    of_value: list[Reader] = []  # made when used, as a structure's

    def read(value: Any, path: Path, problems: Problems) -> Any:
        if type(value) is not dict:
            problems.add(path, "Member must be of type map")
            return None
        if check is not None:
            check(value, path, problems)
        if not of_value:
            of_value.append(reader_of(shape.value))
        parsed = {}
        for key, item in value.items():
            key_reader(key, (path, "key"), problems)
            here = ((path, key[:100]), "value")
            if item is None:
                problems.add(here, "Member must not be null")
            else:
                parsed[key] = of_value[0](item, here, problems)
        return parsed

    return read


def _string_reader(shape: Shape, check: Check | None) -> Reader:
    def read(value: Any, path: Path, problems: Problems) -> Any:
        if type(value) is not str:
            problems.add(path, "Member must be of type string")
        elif check is not None:
            check(value, path, problems)
        return value

    return read


def _boolean_reader(shape: Shape, check: Check | None) -> Reader:
    def read(value: Any, path: Path, problems: Problems) -> Any:
        if type(value) is not bool:
            problems.add(path, "Member must be of type boolean")
        return value

    return read


def _integer_reader(shape: Shape, check: Check | None) -> Reader:
    limit = 2 ** _INTEGER_BITS[shape.kind]

    def read(value: Any, path: Path, problems: Problems) -> Any:
        if type(value) is not int or not -limit <= value < limit:
            problems.add(path, f"Member must be of type {shape.kind}")
        elif check is not None:
            check(value, path, problems)
        return value

    return read


def _float_reader(shape: Shape, check: Check | None) -> Reader:
    """Finite numbers only: a NaN would pass every range check."""

    def read(value: Any, path: Path, problems: Problems) -> Any:
        if type(value) is not float and type(value) is not int:
            problems.add(path, f"Member must be of type {shape.kind}")
            return value
        if check is not None:
            check(value, path, problems)
        return float(value)

    return read


def _blob_reader(shape: Shape, check: Check | None) -> Reader:
    def read(value: Any, path: Path, problems: Problems) -> Any:
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            problems.add(path, "Member must be base64 text")
            return None
        if check is not None:
            check(data, path, problems)
        return data

    return read


def _timestamp_reader(shape: Shape, check: Check | None, default: str = "unixTimestamp") -> Reader:
    wire_format = shape.traits.get("timestampFormat", default)
    from_wire = _TIMESTAMPS[wire_format.lower()]

    def read(value: Any, path: Path, problems: Problems) -> Any:
        try:
            return from_wire(value)
        except (ValueError, TypeError, OverflowError):
            problems.add(path, f"Member must be a timestamp of the form {wire_format}")
            return None

    return read


def _from_iso_8601(value: Any) -> datetime:
    if not _ISO_8601.fullmatch(value):
        raise ValueError
    return datetime.fromisoformat(value.upper()).astimezone(UTC)


def _from_rfc_822(value: Any) -> datetime:
    return parsedate_to_datetime(value).astimezone(UTC)


def _from_unix(value: Any) -> datetime:
    if type(value) is str and _FLOAT_TEXT.fullmatch(value):
        value = float(value)
    if type(value) is not int and type(value) is not float:
        raise TypeError
    return _EPOCH + timedelta(seconds=value)


_TIMESTAMPS: Mapping[str, Callable[[Any], datetime]] = {
    "iso8601": _from_iso_8601,
    "rfc822": _from_rfc_822,
    "unixtimestamp": _from_unix,
}
_SCALARS: Mapping[str, Callable[[Shape, Check | None], Reader]] = {
    "string": _string_reader,
    "boolean": _boolean_reader,
    "integer": _integer_reader,
    "long": _integer_reader,
    "float": _float_reader,
    "double": _float_reader,
    "blob": _blob_reader,
    "timestamp": _timestamp_reader,
}
