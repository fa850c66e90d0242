"""Cedar's types as the encoding knows them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec


class Kind(StrEnum):
    BOOL = "Bool"
    LONG = "Long"
    STRING = "String"
    DECIMAL = "decimal"
    DATETIME = "datetime"
    DURATION = "duration"
    ADDRESS = "ipaddr"
    ENTITY = "entity"
    SET = "set"
    RECORD = "record"


class Type(msgspec.Struct, frozen=True):
    """`name` is an entity's type; `element` a set's, absent for the empty literal."""

    kind: Kind
    name: str = ""
    element: "Type | None" = None
    attributes: "Mapping[str, Attribute]" = msgspec.field(default_factory=dict)


class Attribute(NamedTuple):
    type: Type
    required: bool


BOOL = Type(Kind.BOOL)
LONG = Type(Kind.LONG)
STRING = Type(Kind.STRING)
DECIMAL = Type(Kind.DECIMAL)
DATETIME = Type(Kind.DATETIME)
DURATION = Type(Kind.DURATION)
ADDRESS = Type(Kind.ADDRESS)
EMPTY_RECORD = Type(Kind.RECORD)

PRIMITIVES = {"Bool": BOOL, "Boolean": BOOL, "Long": LONG, "String": STRING}
EXTENSIONS = {
    "decimal": DECIMAL,
    "datetime": DATETIME,
    "duration": DURATION,
    "ipaddr": ADDRESS,
}
COUNTED = frozenset({Kind.LONG, Kind.DECIMAL, Kind.DATETIME, Kind.DURATION})
"""Those that are whole numbers to the solver: of units, of 1/10000, of milliseconds."""


def entity(name: str) -> Type:
    return Type(Kind.ENTITY, name=name)


def shape(type: Type) -> tuple[str, str]:
    """Values of other shapes are never equal."""
    return type.kind.value, type.name
