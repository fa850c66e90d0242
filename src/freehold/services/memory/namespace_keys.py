"""Variables of a memory's own in namespaces (`namespaceKeys`), and their values in events."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from freehold.kernel.errors import ValidationFailed
from freehold.services.memory.model import Memory

_QUANTIFIERS_MAX = 4


def check_keys(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As the document has them. ValidationFailed."""
    keys = [entry["key"] for entry in given]
    for entry in given:
        key, pattern = entry["key"], (entry.get("validation") or {}).get("regexPattern") or ""
        if keys.count(key) > 1:
            raise ValidationFailed(f"namespaceKeys: {key!r} stands there twice")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValidationFailed(
                f"namespaceKeys: {key!r}: regexPattern is no regular expression: {error}"
            ) from None
        if why := _costly(pattern):
            raise ValidationFailed(f"namespaceKeys: {key!r}: regexPattern: {why}")
    return [dict(entry) for entry in given]


def check_values(memory: Memory, given: Mapping[str, str]) -> None:
    """Of an event (`namespaceVariables`). ValidationFailed."""
    for key, value in given.items():
        rules = memory.namespace_keys.get(key)
        if rules is None:
            raise ValidationFailed(
                f"namespaceVariables: memory {memory.id} has no namespace key {key!r}"
            )
        allowed, pattern = rules.get("allowedValues"), rules.get("regexPattern")
        if allowed and value not in allowed:
            raise ValidationFailed(
                f"namespaceVariables: {key}: {value!r} is none of {', '.join(allowed)}"
            )
        if pattern and not re.fullmatch(pattern, value):
            raise ValidationFailed(f"namespaceVariables: {key}: {value!r} does not match {pattern}")


def _costly(pattern: str) -> str:
    """Why somebody's event could keep a worker busy for long with it: what backtracks without a
    bound. Values have at most 64 characters; a few repeats one after the other are cheap then."""
    quantifiers, at, grouped = 0, 0, False
    while at < len(pattern):
        character, rest, after_group = pattern[at], pattern[at + 1 :], grouped
        grouped = character == ")"
        if character == "\\":
            if rest[:1].isdigit() and rest[:1] != "0":
                return "references to groups cannot be used here"
            at += 2
        elif character == "[":
            # A "]" that comes first is one of the class.
            start = at + (2 if rest[:1] == "^" else 1)
            at = _class_end(pattern, start + (pattern[start : start + 1] == "]"))
        elif character == "(" and rest[:1] == "?":
            if rest[:2] != "?:":
                return "only plain groups and (?:...) can be used here"
            at += 3
        else:
            if after_group and character in "*+{":
                return "a group cannot be repeated here"
            quantifiers += character in "*+?{"
            at += 1
    if quantifiers > _QUANTIFIERS_MAX:
        return f"at most {_QUANTIFIERS_MAX} parts can be repeated or optional"
    return ""


def _class_end(pattern: str, at: int) -> int:
    while pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at + 1
