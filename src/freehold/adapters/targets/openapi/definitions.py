"""Schemas that others refer to: each in its final form once, and which of them a tool needs."""

import re
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from freehold.adapters.targets.openapi import keywords
from freehold.adapters.targets.openapi.keywords import ANNOTATIONS, Json
from freehold.adapters.targets.openapi.references import Node

Direction = Literal["in", "out"]

# A reference to what is short is replaced by it: to models, what stands there is clearer.
_SHORT_BYTES_MAX = 1500
_SHORT_BYTES_IN_ALL = 64 << 10
_DEFINITION_BYTES_MAX = 48 << 10
_DEPTHS = (10, 7, 5, 4, 3, 2, 1)
_CHAIN_MAX = 15  # of definitions within one another; what is longer stays a reference
_PREFIX = "#/$defs/"
_HOLDERS = frozenset({*keywords.ONE, *keywords.MANY, "items", "additionalProperties"})
_ANYTHING: Json = {"description": "Anything: the API's document is too large here."}


class _Final(msgspec.Struct, frozen=True):
    """A definition with the short ones put in. `needs`: those that it still refers to. `cut`:
    without what is deepest in it."""

    schema: Any
    needs: tuple[str, ...]
    size: int
    cut: bool


class _Filling:
    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.needs: dict[str, None] = {}
        self.room = _SHORT_BYTES_IN_ALL


class Definitions:
    """`convert` makes a schema of ours of the document's."""

    def __init__(self, convert: Callable[[Node, Direction], Any]) -> None:
        self._convert = convert
        self._names: dict[tuple[str, str], str] = {}
        self._count: dict[str, int] = {}
        self._sources: dict[str, Node] = {}
        self._final: dict[tuple[Direction, str], _Final] = {}
        self._open: set[tuple[Direction, str]] = set()

    def reference(self, target: Node) -> Json:
        key = (target.document, target.pointer)
        name = self._names.get(key)
        if name is None:
            last = target.pointer.rsplit("/", 1)[-1] or target.document.rsplit("/", 1)[-1]
            base = re.sub(r"[^A-Za-z0-9_.-]", "_", last)[:80] or "schema"
            self._count[base] = self._count.get(base, 0) + 1
            number = self._count[base]
            # No name ends like this by itself, so that none of these is another's.
            name = base if number == 1 else f"{base}__{number}"
            while name in self._sources:
                name += "_"
            self._names[key], self._sources[name] = name, target
        return {"$ref": _PREFIX + name}

    def whole(self, schema: Json, direction: Direction, bytes_max: int) -> tuple[Json, bool]:
        """Nearest first."""
        root = self._expanded(schema, direction)
        found: Json = {}
        complete, total = not root.cut, root.size
        queue = list(root.needs)
        for name in queue:
            if name in found:
                continue
            final = self._finished(name, direction)
            if total + final.size > bytes_max:
                found[name], complete = _ANYTHING, False
                continue
            complete = complete and not final.cut
            total += final.size
            found[name] = final.schema
            queue.extend(need for need in final.needs if need not in found)
        whole = dict(root.schema)
        if found:
            whole["$defs"] = found
        return whole, complete

    def _finished(self, name: str, direction: Direction) -> _Final:
        key = (direction, name)
        final = self._final.get(key)
        if final is None:
            self._open.add(key)
            try:
                converted = self._convert(self._sources[name], direction)
                final = self._expanded(converted, direction)
            finally:
                self._open.discard(key)
            self._final[key] = final
        return final

    def _expanded(self, schema: Any, direction: Direction) -> _Final:
        size = len(msgspec.json.encode(schema))
        cut = size > _DEFINITION_BYTES_MAX
        if cut:
            schema = _shallow(schema)
        filling = _Filling(direction)
        expanded = self._filled(schema, filling)
        size = len(msgspec.json.encode(expanded))
        return _Final(expanded, tuple(filling.needs), size, cut)

    def _filled(self, value: Any, filling: _Filling) -> Any:
        if isinstance(value, list):
            return [self._filled(v, filling) if isinstance(v, dict) else v for v in value]
        if not isinstance(value, dict):
            return value
        reference = value.get("$ref")
        found: Json = {}
        for key, inner in value.items():
            if key in keywords.NAMED and isinstance(inner, dict):
                found[key] = {n: self._filled(s, filling) for n, s in inner.items()}
            elif key in _HOLDERS:
                found[key] = self._filled(inner, filling)
            elif key != "$ref":
                found[key] = inner
        if isinstance(reference, str):
            return self._placed(reference[len(_PREFIX) :], found, filling)
        return found

    def _placed(self, name: str, beside: Json, filling: _Filling) -> Any:
        if (filling.direction, name) not in self._open and len(self._open) < _CHAIN_MAX:
            final = self._finished(name, filling.direction)
            short = final.size <= min(_SHORT_BYTES_MAX, filling.room)
            if short and name not in final.needs:
                filling.room -= final.size
                filling.needs.update(dict.fromkeys(final.needs))
                if not isinstance(final.schema, dict):
                    return beside or final.schema
                if beside.keys() <= ANNOTATIONS:
                    return {**final.schema, **beside}
                return {"allOf": [final.schema], **beside}
        filling.needs[name] = None
        return {"$ref": _PREFIX + name, **beside}


def _shallow(schema: Any) -> Any:
    """As deep as there is room for."""
    found = schema
    for depth in _DEPTHS:
        found = _to_depth(schema, depth)
        if len(msgspec.json.encode(found)) <= _DEFINITION_BYTES_MAX:
            return found
    return {"type": "object", **_ANYTHING} if _is_object(schema) else _ANYTHING


def _to_depth(value: Any, depth: int) -> Any:
    if isinstance(value, list):
        return [_to_depth(each, depth) for each in value]
    if not isinstance(value, dict):
        return value
    if depth == 0:
        return _ANYTHING
    found: Json = {}
    for key, inner in value.items():
        if key in keywords.NAMED and isinstance(inner, dict):
            found[key] = {name: _to_depth(each, depth - 1) for name, each in inner.items()}
        else:
            found[key] = _to_depth(inner, depth - 1) if key in _HOLDERS else inner
    return found


def _is_object(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "object"
