"""The filters of a list: they live in the page's address, so that a view can be shared."""

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlencode

import msgspec

from freehold.console.visit import Visit
from freehold.kernel.errors import ValidationFailed

SINCE = ("1h", "24h", "7d", "30d")
_CHARS_MAX = 500


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """One field of the bar. `choices` are pairs of value and what is shown; the first is what
    holds when nothing is chosen. `more`: folded away until it is used."""

    name: str
    label: str
    kind: Literal["text", "choice", "number", "hidden"] = "text"
    choices: tuple[tuple[str, str], ...] = ()
    placeholder: str = ""
    more: bool = False
    default: str = ""


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A filter with its value, as the template takes it."""

    filter: Filter
    value: str

    @property
    def used(self) -> bool:
        return bool(self.value) and self.value != self.filter.default


def since(default: str = "24h", choices: Sequence[str] = SINCE) -> Filter:
    words = {"1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days"}
    pairs = tuple((one, words.get(one, one)) for one in choices)
    return Filter(name="since", label="Time", kind="choice", choices=pairs, default=default)


def read(visit: Visit, filters: Sequence[Filter]) -> list[Field]:
    """Raises ValidationFailed for what is no choice or no number."""
    return [Field(filter=one, value=_value(visit, one)) for one in filters]


def values(fields: Sequence[Field]) -> dict[str, str]:
    """As parameters of an operation that has the same names; what is empty is left out."""
    return {field.filter.name: field.value for field in fields if field.value}


def _value(visit: Visit, asked: Filter) -> str:
    value = visit.query.get(asked.name, "").strip() or asked.default
    if len(value) > _CHARS_MAX:
        raise ValidationFailed(f"{asked.label} is longer than {_CHARS_MAX} characters")
    if not value:
        return ""
    if asked.kind == "choice" and value not in {choice for choice, _ in asked.choices}:
        known = ", ".join(choice for choice, _ in asked.choices if choice)
        raise ValidationFailed(f"{asked.label} is one of {known}")
    if asked.kind == "number":
        try:
            float(value)
        except ValueError:
            raise ValidationFailed(f"{asked.label} is a number") from None
    return value


def with_query(path: str, query: Mapping[str, str], /, **changes: str | int | None) -> str:
    """An address within the console; a change to None or "" takes a parameter out."""
    whole = {**query, **{name: str(v) if v is not None else "" for name, v in changes.items()}}
    said = urlencode([(name, value) for name, value in whole.items() if value])
    return f"{path}?{said}" if said else path
