"""Metadata of records: as the API has it, as Postgres keeps it, and what a filter asks of it.

Kept as jsonb, each value under a letter for its type, so that a date is never taken for a number:
`{"topic": {"s": "billing"}, "tags": {"l": ["a"]}, "cost": {"n": 1.5}, "due": {"d": 17326512}}`,
dates in microseconds since 1970. A value of another type than the filter's never matches, and only
NOT_EXISTS matches where the key is absent. Lists are equal when they hold the same texts; CONTAINS
asks whether a list holds a text or all of several, or a text another.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from freehold.kernel.errors import ValidationFailed

FILTERS_MAX = 5
RESERVED = "x-amz-agentcore-memory-"
CREATED_AT, UPDATED_AT = f"{RESERVED}createdAt", f"{RESERVED}updatedAt"
"""Kept beside the metadata of every record, for filters; clients neither set nor see them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_OWN_TYPES = dict.fromkeys((CREATED_AT, UPDATED_AT), "DATETIME")
_OF_TYPES = {"STRING": "s", "NUMBER": "n", "STRINGLIST": "l", "DATETIME": "d"}
_MEMBERS = {"s": "stringValue", "l": "stringListValue", "n": "numberValue", "d": "dateTimeValue"}
_LETTERS = {member: letter for letter, member in _MEMBERS.items()}
_TAKES = {
    "EQUALS_TO": "slnd",
    "CONTAINS": "sl",
    "BEFORE": "d",
    "AFTER": "d",
    "GREATER_THAN": "n",
    "GREATER_THAN_OR_EQUALS": "n",
    "LESS_THAN": "n",
    "LESS_THAN_OR_EQUALS": "n",
}
_COMPARISONS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "BEFORE": ("<", operator.lt),
    "AFTER": (">", operator.gt),
    "GREATER_THAN": (">", operator.gt),
    "GREATER_THAN_OR_EQUALS": (">=", operator.ge),
    "LESS_THAN": ("<", operator.lt),
    "LESS_THAN_OR_EQUALS": ("<=", operator.le),
}
_encode = msgspec.json.Encoder().encode


class Filter(msgspec.Struct, frozen=True):
    """`value` is str, list[str], float, datetime, or None for EXISTS and NOT_EXISTS."""

    key: str
    operator: str
    value: Any = None


# -- filters


def parsed(expressions: Sequence[Mapping[str, Any]] | None) -> tuple[Filter, ...]:
    """The API's filter expressions, all of which must hold. Raises ValidationFailed."""
    expressions = expressions or ()
    if len(expressions) > FILTERS_MAX:
        raise ValidationFailed(f"metadataFilters: {FILTERS_MAX} at most")
    return tuple(_filter(item, f"metadataFilters.{n}") for n, item in enumerate(expressions, 1))


def _filter(expression: Mapping[str, Any], where: str) -> Filter:
    key = (expression.get("left") or {}).get("metadataKey")
    asked, right = str(expression.get("operator")), expression.get("right")
    if not isinstance(key, str) or not key:
        raise ValidationFailed(f"{where}: left.metadataKey names what to compare")
    if asked in ("EXISTS", "NOT_EXISTS"):
        if right:
            raise ValidationFailed(f"{where}: {asked} compares with nothing: leave out right")
        return Filter(key, asked)
    takes = _TAKES.get(asked)
    if takes is None:
        known = ", ".join((*_TAKES, "EXISTS", "NOT_EXISTS"))
        raise ValidationFailed(f"{where}: the operator is one of {known}")
    expected = " or ".join(_MEMBERS[letter] for letter in takes)
    given = (right or {}).get("metadataValue")
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ValidationFailed(f"{where}: {asked} needs a right.metadataValue: {expected}")
    letter = _LETTERS.get(next(iter(given)))
    if letter is None or letter not in takes:
        raise ValidationFailed(f"{where}: {asked} compares with {expected}")
    return Filter(key, asked, _value(given, where))


def matches(filters: Sequence[Filter], metadata: Mapping[str, Any]) -> bool:
    return all(_matches(item, metadata.get(item.key)) for item in filters)


def _matches(wanted: Filter, found: Any) -> bool:
    if wanted.operator in ("EXISTS", "NOT_EXISTS"):
        return (found is not None) == (wanted.operator == "EXISTS")
    if found is None:
        return False
    letter, value = _kept(found)
    wanted_letter, wanted_value = _kept(wanted.value)
    if wanted.operator == "CONTAINS":
        if letter == "s":
            return wanted_letter == "s" and wanted_value in value
        items = {wanted_value} if wanted_letter == "s" else set(wanted_value)
        return letter == "l" and items <= set(value)
    if letter == "l":
        value, wanted_value = set(value), set(wanted_value) if wanted_letter == "l" else None
    compare = operator.eq
    if wanted.operator != "EQUALS_TO":
        _, compare = _COMPARISONS[wanted.operator]
    return letter == wanted_letter and bool(compare(value, wanted_value))


def condition(filters: Sequence[Filter], column: str) -> tuple[str, list[Any]]:
    """SQL of the same, with its parameters: what is true for just the rows that match. `column` is
    jsonb as `dumped` makes it, and may be NULL. A GIN index (jsonb_path_ops) on it helps EQUALS_TO
    and CONTAINS of a list."""
    clauses, parameters = [], []
    for item in filters:
        clause, more = _condition(item, column)
        clauses.append(f"({clause})")
        parameters += more
    return " AND ".join(clauses) or "TRUE", parameters


def _condition(wanted: Filter, column: str) -> tuple[str, list[Any]]:
    if wanted.operator == "EXISTS":
        return f"jsonb_exists({column}, %s) IS TRUE", [wanted.key]
    if wanted.operator == "NOT_EXISTS":
        return f"jsonb_exists({column}, %s) IS NOT TRUE", [wanted.key]
    letter, value = _kept(wanted.value)
    if wanted.operator == "CONTAINS":
        items = [value] if letter == "s" else value
        clause, parameters = f"{column} @> %s::jsonb", [_json({wanted.key: {"l": items}})]
        if letter == "s":
            clause += f" OR position(%s IN {column} -> %s ->> 's') > 0"
            parameters += [value, wanted.key]
        return clause, parameters
    if wanted.operator == "EQUALS_TO":
        clause, parameters = f"{column} @> %s::jsonb", [_json({wanted.key: {letter: value}})]
        if letter == "l":
            clause += f" AND {column} -> %s -> 'l' <@ %s::jsonb"
            parameters += [wanted.key, _json(value)]
        return clause, parameters
    comparison, _ = _COMPARISONS[wanted.operator]
    return f"{column} -> %s -> '{letter}' {comparison} %s::jsonb", [wanted.key, _json(value)]


# -- metadata


def dumped(metadata: Mapping[str, Any]) -> str:
    """For a parameter of type jsonb."""
    kept = {}
    for key, value in metadata.items():
        letter, plain = _kept(value)
        kept[key] = {letter: plain}
    return _json(kept)


def loaded(column: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    """Without what is RESERVED."""
    return {
        key: _plain(*next(iter(value.items())))
        for key, value in (column or {}).items()
        if not key.startswith(RESERVED)
    }


def from_api(metadata: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    """Raises ValidationFailed."""
    found = {}
    for key, value in (metadata or {}).items():
        if key.startswith(RESERVED):
            raise ValidationFailed(f"metadata: {key} is the platform's own key")
        found[key] = _value(value, f"metadata: {key}")
    return found


def to_api(metadata: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    shown = {}
    for key, value in metadata.items():
        letter, _ = _kept(value)
        shown[key] = {_MEMBERS[letter]: value}
    return shown


def check_types(
    values: Iterable[tuple[str, Any]], indexed_keys: Mapping[str, str], what: str
) -> None:
    """Of keys that a memory declares with a type. Another type would match nothing, silently."""
    for key, value in values:
        declared = _OWN_TYPES.get(key) or indexed_keys.get(key)
        if declared is None:
            continue
        letter, _ = _kept(value)
        # A single text is what CONTAINS looks for in a list.
        fits = _OF_TYPES.get(declared, letter)
        if letter not in fits and not (what == "metadataFilters" and (fits, letter) == ("l", "s")):
            raise ValidationFailed(f"{what}: {key} is of type {declared} in this memory")


def _value(given: Mapping[str, Any], where: str) -> Any:
    """Of a union that the edge has validated."""
    member, value = next(iter(given.items()))
    if member == "numberValue":
        value = float(value)
        if not math.isfinite(value):
            raise ValidationFailed(f"{where}: a numberValue is a finite number")
    return value


def _kept(value: Any) -> tuple[str, Any]:
    if isinstance(value, str):
        return "s", value
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return "d", (aware - _EPOCH) // _MICROSECOND
    if isinstance(value, list | tuple):
        return "l", list(value)
    assert isinstance(value, int | float), "metadata is text, a list of texts, a number or a date"
    return "n", value


def _plain(letter: str, kept: Any) -> Any:
    if letter == "d":
        return _EPOCH + kept * _MICROSECOND
    return float(kept) if letter == "n" else kept


def _json(value: Any) -> str:
    return _encode(value).decode()
