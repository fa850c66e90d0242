"""A document's text, JSON or YAML, as plain dicts and lists of bounded size and depth."""

import math
import re
from typing import Any

import msgspec
import yaml

from freehold.kernel.errors import ValidationFailed

DOCUMENT_BYTES_MAX = 16 << 20
DEPTH_MAX = 120
NODES_MAX = 2_000_000

# YAML 1.2's core schema, which OpenAPI asks for: to YAML 1.1, `no` is false and a date no text.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE, _FALSE = frozenset({"true", "True", "TRUE"}), frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,100}|0x[0-9a-fA-F]{1,100}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SCALAR_TAGS = {
    f"tag:yaml.org,2002:{kind}": kind for kind in ("str", "int", "float", "bool", "null")
}
_COLLECTION_TAGS = frozenset({None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


def read(text: str | bytes) -> dict[str, Any]:
    """Raises ValidationFailed."""
    data = text.encode() if isinstance(text, str) else text
    if len(data) > DOCUMENT_BYTES_MAX:
        raise ValidationFailed(f"The document is longer than {DOCUMENT_BYTES_MAX >> 20} MiB.")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.lstrip()[:1] == b"{":
        try:
            document = msgspec.json.decode(data)
        except RecursionError:
            raise _too_deep() from None
        except msgspec.DecodeError as error:
            # Flow style of YAML begins like JSON.
            document = _yaml(data, f"The document is not JSON: {error}.")
        else:
            _check_bounds(document)
    else:
        document = _yaml(data, "")
    if not isinstance(document, dict):
        raise ValidationFailed("The document is not an object in JSON or YAML.")
    return document


def _too_deep() -> ValidationFailed:
    return ValidationFailed(f"The document is nested deeper than {DEPTH_MAX} levels.")


def _check_bounds(document: Any) -> None:
    level, nodes, depth = [document], 0, 0
    while level:
        nodes, depth = nodes + len(level), depth + 1
        if depth > DEPTH_MAX:
            raise _too_deep()
        if nodes > NODES_MAX:
            raise ValidationFailed(f"The document has more than {NODES_MAX} values.")
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        level = below


def _yaml(data: bytes, else_why: str) -> Any:
    try:
        return _Builder().built(data)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark is not None else ""
        why = getattr(error, "problem", None) or "it cannot be read"
        raise ValidationFailed(else_why or f"The document is not YAML: {why}{line}.") from None


class _Open:
    """A collection that is not closed yet. `weight` counts values, those behind aliases too."""

    def __init__(self, value: dict[str, Any] | list[Any], anchor: str | None) -> None:
        self.value, self.anchor = value, anchor
        self.weight, self.height = 1, 1
        self.key: str | None = None
        self.merges: list[Any] = []


class _Builder:
    """From the parser's events, with a stack of its own: PyYAML's composer recurses, and an alias
    within what it names makes a value that has no end."""

    def __init__(self) -> None:
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._root: Any = None

    def built(self, data: bytes) -> Any:
        documents = 0
        for event in yaml.parse(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            match event:
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._begin(event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._end()
                case yaml.AliasEvent():
                    self._alias(event)
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        raise ValidationFailed("The text has more than one YAML document.")
                case _:
                    pass
        return self._root

    def _begin(self, event: Any) -> None:
        if event.tag not in _COLLECTION_TAGS:
            raise ValidationFailed(f"YAML tags such as {event.tag[:80]!r} are not taken.")
        if len(self._stack) >= DEPTH_MAX:
            raise _too_deep()
        empty: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Open(empty, event.anchor))

    def _end(self) -> None:
        done = self._stack.pop()
        if isinstance(done.value, dict):
            for merged in done.merges:
                for source in merged if isinstance(merged, list) else [merged]:
                    for key, value in source.items() if isinstance(source, dict) else ():
                        done.value.setdefault(key, value)
        if done.anchor is not None:
            self._anchors[done.anchor] = (done.value, done.weight, done.height)
        self._put(done.value, done.weight, done.height)

    def _scalar(self, event: Any) -> None:
        value: Any = event.value
        if self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None:
            self._stack[-1].key = str(value)  # `200:` is a name too
            if event.anchor is not None:
                self._anchors[event.anchor] = (value, 1, 1)
            return
        if event.tag not in (None, "!") and event.tag not in _SCALAR_TAGS:
            raise ValidationFailed(f"YAML tags such as {event.tag[:80]!r} are not taken.")
        plain = event.tag is None and event.implicit[0]
        if plain or _SCALAR_TAGS.get(event.tag, "str") != "str":
            value = _resolved(value)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1, 1)
        self._put(value, 1, 1)

    def _alias(self, event: Any) -> None:
        found = self._anchors.get(event.anchor)
        if found is None:
            raise ValidationFailed(
                f"The YAML alias *{event.anchor[:80]} names nothing that ends before it."
            )
        value, weight, height = found
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            top.key = str(value)
            return
        self._put(value, weight, height)

    def _put(self, value: Any, weight: int, height: int) -> None:
        if not self._stack:
            self._root = value
            return
        top = self._stack[-1]
        top.weight += weight
        top.height = max(top.height, height + 1)
        if top.weight > NODES_MAX:
            raise ValidationFailed(f"The document has more than {NODES_MAX} values.")
        if top.height + len(self._stack) > DEPTH_MAX:
            raise _too_deep()
        if isinstance(top.value, list):
            top.value.append(value)
            return
        assert top.key is not None
        if top.key == "<<":
            top.merges.append(value)
        else:
            top.value[top.key] = value
        top.key = None


def _resolved(text: str) -> Any:
    first = text[:1]
    if first.isalpha() and first not in "nNtTfF":
        return text
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _NUMBER.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text
