"""Tokens of lists that go by time."""

from collections.abc import Callable
from typing import TypeVar

from freehold.adapters.spans.copying import INT8_MAX, storable
from freehold.kernel.errors import ValidationFailed
from freehold.kernel.pages import Page, decode_token, encode_token

T = TypeVar("T")


def position(token: str, of_list: str) -> tuple[int, str]:
    """Of the last item seen: its time, and what tells it from others of that time."""
    match decode_token(token):
        case [kind, int(at_ns), str(place)] if kind == of_list and 0 <= at_ns <= INT8_MAX:
            return at_ns, storable(place)
    raise foreign_token()


def foreign_token() -> ValidationFailed:
    return ValidationFailed("nextToken is not a token that this list returned")


def page(
    found: list[T], limit: int, of_list: str, place: Callable[[T], tuple[int, str]]
) -> Page[T]:
    """`found` has one more than `limit`, if there are more."""
    if len(found) <= limit:
        return Page(found)
    return Page(found[:limit], encode_token(of_list, *place(found[limit - 1])))
