"""JSON documents from strangers: decoded strictly and within bounds, or refused."""

import re
from typing import Any

import msgspec

from freehold.kernel.errors import ValidationFailed

DEPTH_MAX = 100
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')


def decode(raw: bytes) -> Any:
    """One JSON value. Raises ValidationFailed for anything that two readers could read in two ways.

    msgspec refuses what is not strict JSON: NaN, invalid UTF-8, lone surrogates, numbers beyond a
    float, trailing bytes. Here follow repeated keys, U+0000 (no text column can hold it), integers
    beyond 64 bits (no encoder can write them back) and deep nesting.

    Of a repeated key msgspec keeps the last, so a document without one has as many members in the
    decoded value as colons outside its strings. Colons are counted at memory speed; only where
    strings hold some too, the strings are cut out first.
    """
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _unparsable(f"The request body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise _too_deep() from error
    if type(value) is dict or type(value) is list:
        members = _survey(value, DEPTH_MAX)
        if raw.count(b":") != members and _STRING.sub(b"", raw).count(b":") != members:
            raise _unparsable("The request body repeats a key within one JSON object.")
    if rb"\u0000" in raw and _holds_nul(value):
        raise _unparsable("The request body holds the character U+0000.")
    return value


def _survey(value: Any, depth_left: int) -> int:
    """How many members all objects in a list or an object have together."""
    if depth_left == 0:
        raise _too_deep()
    members = 0
    items = value
    if type(value) is dict:
        members, items = len(value), value.values()
    for item in items:
        kind = type(item)
        if kind is dict or kind is list:
            members += _survey(item, depth_left - 1)
        elif kind is int and not INTEGER_MIN <= item <= INTEGER_MAX:
            raise _unparsable("The request body holds an integer of more than 64 bits.")
    return members


def _holds_nul(value: Any) -> bool:
    if type(value) is str:
        return "\0" in value
    if type(value) is list:
        return any(map(_holds_nul, value))
    if type(value) is dict:
        return any(map(_holds_nul, value)) or any(map(_holds_nul, value.values()))
    return False


def _unparsable(message: str) -> ValidationFailed:
    return ValidationFailed(message, reason="CannotParse")


def _too_deep() -> ValidationFailed:
    return _unparsable(f"The request body is nested more than {DEPTH_MAX} levels deep.")
