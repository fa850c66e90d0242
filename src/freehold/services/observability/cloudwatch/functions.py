"""Functions of a query: of one row, and over the rows of a group."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from freehold.services.observability.cloudwatch.rows import Moment
from freehold.services.observability.cloudwatch.values import holds, number, order, text

TEXT_CHARACTERS_MAX = 256 * 1024
"""Of what a function makes."""

MILLISECONDS = {
    "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000,
}  # fmt: skip


class Function(NamedTuple):
    least: int
    most: int
    act: Callable[..., Any]


def _numeric(act: Callable[..., float]) -> Callable[..., Any]:
    def of(*values: Any) -> Any:
        numbers = [number(value) for value in values]
        if any(n is None for n in numbers):
            return None
        try:
            return act(*numbers)
        except (ArithmeticError, ValueError):
            return None

    return of


def _substr(value: Any, start: Any, length: Any = None) -> Any:
    begin = number(start)
    if value is None or begin is None:
        return None
    rest = text(value)[max(0, int(begin)) :]
    return rest if length is None else rest[: max(0, int(number(length) or 0))]


def _concat(*values: Any) -> str:
    return "".join(text(value) for value in values)[:TEXT_CHARACTERS_MAX]


def _replace(value: Any, old: Any, new: Any) -> Any:
    if value is None or not text(old):
        return value
    return text(value)[:TEXT_CHARACTERS_MAX].replace(text(old), text(new))[:TEXT_CHARACTERS_MAX]


def _of_text(act: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else act(text(value))


def _moment(value: Any) -> Any:
    read = number(value)
    return None if read is None else Moment(int(read))


SCALARS: dict[str, Function] = {
    "ispresent": Function(1, 1, lambda value: value is not None),
    "isempty": Function(1, 1, lambda value: value is None or text(value) == ""),
    "isblank": Function(1, 1, lambda value: value is None or not text(value).strip()),
    "coalesce": Function(1, 20, lambda *values: next((v for v in values if v is not None), None)),
    "if": Function(3, 3, lambda test, yes, no: yes if holds(test) else no),
    "concat": Function(1, 20, _concat),
    "strlen": Function(1, 1, _of_text(len)),
    "tolower": Function(1, 1, _of_text(str.lower)),
    "lower": Function(1, 1, _of_text(str.lower)),
    "toupper": Function(1, 1, _of_text(str.upper)),
    "upper": Function(1, 1, _of_text(str.upper)),
    "trim": Function(1, 1, _of_text(str.strip)),
    "ltrim": Function(1, 1, _of_text(str.lstrip)),
    "rtrim": Function(1, 1, _of_text(str.rstrip)),
    "substr": Function(2, 3, _substr),
    "replace": Function(3, 3, _replace),
    "strcontains": Function(
        2, 2, lambda value, part: value is not None and text(part) in text(value)
    ),
    "abs": Function(1, 1, _numeric(abs)),
    "ceil": Function(1, 1, _numeric(math.ceil)),
    "floor": Function(1, 1, _numeric(math.floor)),
    "sqrt": Function(1, 1, _numeric(math.sqrt)),
    "log": Function(1, 1, _numeric(math.log)),
    "greatest": Function(1, 20, _numeric(max)),
    "least": Function(1, 20, _numeric(min)),
    "tomillis": Function(1, 1, lambda value: None if number(value) is None else int(value)),
    "frommillis": Function(1, 1, _moment),
}


def _plus(left: float, right: float) -> float:
    return left + right


ARITHMETIC: dict[str, Callable[..., Any]] = {
    "+": _numeric(_plus),
    "-": _numeric(lambda left, right: left - right),
    "*": _numeric(lambda left, right: left * right),
    "/": _numeric(lambda left, right: left / right),
    "%": _numeric(math.fmod),
    "^": _numeric(math.pow),
}


def binned(value: Any, width_ms: int) -> Any:
    """The beginning of the stretch of time that it is in."""
    read = number(value)
    return None if read is None else Moment(int(read) // width_ms * width_ms)


Aggregate = Callable[[Sequence[Any]], Any]
"""Over the values of a group, those that are absent among them."""


def _numbers(values: Sequence[Any]) -> list[float]:
    return [read for value in values if (read := number(value)) is not None]


def _average(values: Sequence[Any]) -> float | None:
    read = _numbers(values)
    return math.fsum(read) / len(read) if read else None


def _deviation(values: Sequence[Any]) -> float | None:
    read = _numbers(values)
    if len(read) < 2:
        return 0.0 if read else None
    mean = math.fsum(read) / len(read)
    return math.sqrt(math.fsum((n - mean) ** 2 for n in read) / (len(read) - 1))


def percentile(values: Sequence[Any], percent: float) -> float | None:
    """Between the two nearest values."""
    read = sorted(_numbers(values))
    if not read:
        return None
    at = (len(read) - 1) * percent / 100
    low = math.floor(at)
    high = min(low + 1, len(read) - 1)
    return read[low] + (read[high] - read[low]) * (at - low)


def _extreme(pick: Callable[..., Any]) -> Aggregate:
    def of(values: Sequence[Any]) -> Any:
        present = [value for value in values if value is not None]
        return pick(present, key=order) if present else None

    return of


AGGREGATES: dict[str, Aggregate] = {
    "count": lambda values: sum(value is not None for value in values),
    "count_distinct": lambda values: len({text(value) for value in values if value is not None}),
    "sum": lambda values: math.fsum(_numbers(values)),
    "avg": _average,
    "min": _extreme(min),
    "max": _extreme(max),
    "stddev": _deviation,
    "median": lambda values: percentile(values, 50),
}
"""`pct`, `earliest` and `latest` take more than values: see aggregates.py."""
