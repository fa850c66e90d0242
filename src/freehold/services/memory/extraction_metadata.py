"""Metadata of records by a strategy's schema: inferred by the model, or taken from the events.

An entry whose `extractionType` is STRICTLY_CONSISTENT has the value that the events of a record
carry, where they agree; any other is inferred and checked, and left out where it does not fit.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from freehold.services.memory.model import Event

STRING_CHARACTERS_MAX = 256
LIST_STRING_CHARACTERS_MAX = 64
LIST_ITEMS_MAX = 5
_STRING = re.compile(r"[a-zA-Z0-9\s._:/=+@-]+")
"""As the API's model has it."""

Value = str | float | list[str]


def entries(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(schema.get("metadataSchema") or ())


def strict_keys(schema: Mapping[str, Any]) -> list[str]:
    return [each["key"] for each in entries(schema) if _is_strict(each)]


def lines(schema: Mapping[str, Any]) -> list[str]:
    """For the prompt: one for each entry that the model infers."""
    return [_line(each) for each in entries(schema) if not _is_strict(each)]


def inferred(schema: Mapping[str, Any], said: object) -> dict[str, Value]:
    """Of what the model said, what the schema allows."""
    if not isinstance(said, Mapping):
        return {}
    found: dict[str, Value] = {}
    for entry in entries(schema):
        if _is_strict(entry):
            continue
        value = _checked(entry, said.get(entry["key"]))
        if value is not None:
            found[entry["key"]] = value
    return found


def strict(schema: Mapping[str, Any], events: Iterable[Event]) -> dict[str, Value]:
    """What all of these events have the same of."""
    found: dict[str, Value] = {}
    told = [event.metadata for event in events]
    for entry in entries(schema):
        if _is_strict(entry):
            values = {each.get(entry["key"]) for each in told}
            text = values.pop() if len(values) == 1 else None
            value = _converted(entry, text)
            if value is not None:
                found[entry["key"]] = value
    return found


def _is_strict(entry: Mapping[str, Any]) -> bool:
    """Without a word on how: consistent, as there is nothing to ask a model for."""
    how = entry.get("extractionType")
    return how == "STRICTLY_CONSISTENT" or (how is None and not entry.get("extractionConfig"))


def _config(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return (entry.get("extractionConfig") or {}).get("llmExtractionConfig") or {}


def _validation(entry: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return (_config(entry).get("validation") or {}).get(kind) or {}


def _line(entry: Mapping[str, Any]) -> str:
    config = _config(entry)
    parts = [f"{entry['key']!r} ({_TYPES[entry.get('type') or 'STRING']})"]
    parts += [str(config[name]) for name in ("definition", "llmExtractionInstruction")
              if config.get(name)]  # fmt: skip
    text, texts = _validation(entry, "stringValidation"), _validation(entry, "stringListValidation")
    if allowed := text.get("allowedValues") or texts.get("allowedValues"):
        parts.append(f"one of: {', '.join(allowed)}")
    number = _validation(entry, "numberValidation")
    bounds = {"from": number.get("minValue"), "to": number.get("maxValue")}
    parts += [f"{word} {value:g}" for word, value in bounds.items() if value is not None]
    return "- " + "; ".join(parts)


_TYPES = {"STRING": "a string", "STRINGLIST": "a list of strings", "NUMBER": "a number"}


def _checked(entry: Mapping[str, Any], said: object) -> Value | None:
    match entry.get("type") or "STRING":
        case "NUMBER":
            return _number(said, _validation(entry, "numberValidation"))
        case "STRINGLIST":
            return _strings(said, _validation(entry, "stringListValidation"))
    return _string(
        said, _validation(entry, "stringValidation").get("allowedValues"), STRING_CHARACTERS_MAX
    )


def _string(said: object, allowed: Sequence[str] | None, characters_max: int) -> str | None:
    if not isinstance(said, str) or len(said) > characters_max or not _STRING.fullmatch(said):
        return None
    return said if allowed is None or said in allowed else None


def _strings(said: object, validation: Mapping[str, Any]) -> list[str] | None:
    if not isinstance(said, list):
        return None
    allowed = validation.get("allowedValues")
    fit = [_string(each, allowed, LIST_STRING_CHARACTERS_MAX) for each in said]
    found = list(dict.fromkeys(each for each in fit if each is not None))
    return found[: validation.get("maxItems") or LIST_ITEMS_MAX] or None


def _number(said: object, validation: Mapping[str, Any]) -> float | None:
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    try:
        value = float(said)
    except OverflowError:
        return None
    least, most = validation.get("minValue"), validation.get("maxValue")
    fits = (least is None or value >= least) and (most is None or value <= most)
    return value if fits and abs(value) < float("inf") else None


def _converted(entry: Mapping[str, Any], text: str | None) -> Value | None:
    """An event's metadata are strings."""
    if not text:
        return None
    match entry.get("type") or "STRING":
        case "NUMBER":
            try:
                return _number(float(text), {})
            except ValueError:
                return None
        case "STRINGLIST":
            return _strings([text], {})
    return _string(text, None, STRING_CHARACTERS_MAX)
