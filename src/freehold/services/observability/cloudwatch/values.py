"""Values of queries: how they compare, and how an answer shows them."""

import math
from typing import Any

import msgspec

from freehold.services.observability.cloudwatch.rows import Moment


def number(value: Any) -> float | None:
    """None for what is no number, nor the text of one."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, str) and 0 < len(value) < 64:
        try:
            read = float(value)
        except ValueError:
            return None
        return read if math.isfinite(read) else None
    return None


def text(value: Any) -> str:
    """As an answer shows it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Moment):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, int):
        return str(value)
    return "" if value is None else msgspec.json.encode(value).decode()


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    one, other = number(left), number(right)
    if one is not None and other is not None:
        return one == other
    return text(left) == text(right)


def order(value: Any) -> tuple[int, float, str]:
    """For sorting: numbers, then texts, and what is absent first of all."""
    if value is None:
        return (0, 0.0, "")
    read = number(value)
    return (1, read, "") if read is not None else (2, 0.0, text(value))


def holds(value: Any) -> bool:
    """Whether a condition is met by it."""
    return value is not None and value is not False and value not in (0, "", "false")
