"""The three outer levels of an OTLP request in protobuf, taken apart without decoding the rest.

Each span, record or metric is decoded alone: one that is broken takes no other with it, and a body
of millions of empty messages, which would decode to a hundred times its size, is refused by count.
All signals have the same numbers here. Source: protobuf.dev, "Encoding".
"""

from collections.abc import Iterator

from freehold.kernel.errors import ValidationFailed
from freehold.ports.exports import RequestTooLarge

ITEMS_MAX = 50_000
_GROUPS_MAX = 10_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ITEM = 0x12  # field 2, length-delimited
_FIRST, _SECOND = 1, 2


def scopes(body: bytes) -> Iterator[tuple[bytes, bytes, list[bytes]]]:
    """Resource, scope and items of each scope, encoded. Raises RequestTooLarge too."""
    items_left, groups_left = ITEMS_MAX, _GROUPS_MAX
    for number, start, end in _messages(body, 0, len(body)):
        if number != _FIRST:
            continue
        resource, groups = b"", []
        for inner, inner_start, inner_end in _messages(body, start, end):
            groups_left -= 1
            if groups_left < 0:
                raise RequestTooLarge(f"more than {_GROUPS_MAX} resources and scopes")
            if inner == _FIRST:
                resource = body[inner_start:inner_end]
            elif inner == _SECOND:
                groups.append((inner_start, inner_end))
        for group_start, group_end in groups:
            scope, items = _scope(body, group_start, group_end, items_left)
            items_left -= len(items)
            yield resource, scope, items


def _scope(body: bytes, start: int, end: int, items_max: int) -> tuple[bytes, list[bytes]]:
    scope, items = b"", list[bytes]()
    for number, item_start, item_end in _messages(body, start, end):
        if number == _SECOND:
            if len(items) >= items_max:
                raise RequestTooLarge(f"more than {ITEMS_MAX} items in one request")
            items.append(body[item_start:item_end])
        elif number == _FIRST:
            scope = body[item_start:item_end]
    return scope, items


def _messages(body: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each length-delimited field in body[at:end]; others are skipped."""
    while at < end:
        key, at = _varint(body, at, end)
        kind = key & 7
        if kind == _BYTES:
            length, at = _varint(body, at, end)
            if at + length > end:
                raise _broken()
            yield key >> 3, at, at + length
            at += length
        elif kind == _VARINT:
            _, at = _varint(body, at, end)
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        else:
            raise _broken()
    if at > end:
        raise _broken()


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    number = shift = 0
    while at < end and shift < 70:
        byte = body[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise _broken()


def _broken() -> ValidationFailed:
    return ValidationFailed("the body is no OTLP request in protobuf, or was cut off")
