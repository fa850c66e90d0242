"""Values that a model allows, made from the model: for every operation, full or minimal."""

import math
import random
import re
import string
from datetime import UTC, datetime
from re import _parser as regex_parser
from typing import Any

from freehold.edges.aws.model import Shape
from freehold.edges.aws.validate import compiled

_TEXT = string.ascii_letters + string.digits + " /+%&=?#:;.,-_~!*'()[]{}\"\\éß漢😀"
_ANY_CHARACTER = string.ascii_letters + string.digits


class Samples:
    """`full` fills every member; otherwise only what is required."""

    def __init__(self, seed: int, *, full: bool) -> None:
        self._random = random.Random(seed)
        self._full = full

    def of(self, shape: Shape, depth: int = 0) -> Any:
        return getattr(self, f"_{shape.kind}")(shape, depth)

    def structure(self, shape: Shape, depth: int = 0) -> dict[str, Any]:
        return self._structure(shape, depth)

    def _structure(self, shape: Shape, depth: int) -> dict[str, Any]:
        members = list(shape.members.values())
        if shape.is_union:
            members = [self._random.choice(members)]
        elif not self._full or depth > 5:
            members = [
                member
                for member in members
                if member.name in shape.required or member.location == "statusCode"
            ]
        made = {}
        for member in members:
            if member.location in {"uri", "header", "querystring"}:
                made[member.name] = self._in_text(member.shape)
            elif member.location == "statusCode":
                made[member.name] = 200
            else:
                made[member.name] = self.of(member.shape, depth + 1)
        return made

    def _in_text(self, shape: Shape) -> Any:
        """What a header, a label or a query parameter can carry."""
        if shape.kind == "list":  # an empty one would not be there at all
            return [self._in_text(shape.element)]
        if shape.kind != "string":
            return self.of(shape)
        for _ in range(300):
            text = self.of(shape)
            if text and text.isascii() and text.isprintable() and text.strip() == text:
                return text
        raise AssertionError(f"no sample of {shape}")

    def _document(self, shape: Shape, depth: int) -> Any:
        return {"a": [1, 2.5, 'x:"y"', {"b": True, ":": []}], "ü": {}, "n": None}

    def _list(self, shape: Shape, depth: int) -> list[Any]:
        low = shape.traits.get("min", 0)
        count = max(low, min(shape.traits.get("max", 2), 2 if self._full and depth < 4 else low))
        return [self.of(shape.element, depth + 1) for _ in range(count)]

    def _map(self, shape: Shape, depth: int) -> dict[str, Any]:
        low = shape.traits.get("min", 0)
        count = max(low, min(shape.traits.get("max", 2), 2 if self._full and depth < 4 else low))
        made: dict[str, Any] = {}
        for _ in range(100):
            if len(made) >= count:
                break
            made[self.of(shape.key, depth + 1)] = self.of(shape.value, depth + 1)
        return made

    def _string(self, shape: Shape, depth: int = 0) -> str:
        if shape.traits.get("enum"):
            return self._random.choice(shape.traits["enum"])
        low, high = shape.traits.get("min", 0), shape.traits.get("max", math.inf)
        pattern = shape.traits.get("pattern")
        if pattern is None:
            length = int(min(max(low, self._random.randint(1, 12)), high))
            return "".join(self._random.choices(_TEXT, k=length))
        parsed = regex_parser.parse(compiled(pattern).pattern, re.ASCII)
        for attempt in range(2000):
            text = self._matching(parsed, repeats=1 + attempt % 40)
            if low <= len(text) <= high and compiled(pattern).fullmatch(text):
                return text
        raise AssertionError(f"no sample of {shape}: {pattern}")

    def _integer(self, shape: Shape, depth: int) -> int:
        low, high = shape.traits.get("min", -5), shape.traits.get("max", 2**31 - 1)
        return self._random.choice([low, high, self._random.randint(low, high)])

    def _long(self, shape: Shape, depth: int) -> int:
        return self._random.randint(shape.traits.get("min", -(2**63)), 2**63 - 1)

    def _float(self, shape: Shape, depth: int) -> float:
        return self._random.uniform(shape.traits.get("min", -9.0), shape.traits.get("max", 9.0))

    _double = _float

    def _boolean(self, shape: Shape, depth: int) -> bool:
        return self._random.random() < 0.5

    def _blob(self, shape: Shape, depth: int) -> bytes:
        return self._random.randbytes(self._random.randint(1, 40))

    def _timestamp(self, shape: Shape, depth: int) -> datetime:
        return datetime.fromtimestamp(self._random.randint(0, 2**32), UTC)

    def _matching(self, parsed: Any, repeats: int) -> str:
        return "".join(self._node(str(op), value, repeats) for op, value in parsed)

    def _node(self, op: str, value: Any, repeats: int) -> str:
        if op == "LITERAL":
            return chr(value)
        if op == "NOT_LITERAL":
            return next(c for c in _ANY_CHARACTER if ord(c) != value)
        if op == "ANY":
            return self._random.choice(_ANY_CHARACTER)
        if op == "IN":
            return self._one_of(value)
        if op in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            low, high, inner = value
            count = self._random.randint(low, min(max(low, repeats), int(high)))
            return "".join(self._matching(inner, repeats) for _ in range(count))
        if op == "SUBPATTERN":
            return self._matching(value[3], repeats)
        if op == "BRANCH":
            return self._matching(self._random.choice(value[1]), repeats)
        assert op in {"AT", "ASSERT", "ASSERT_NOT"}, op
        return ""

    def _one_of(self, items: Any) -> str:
        source = "[" + "".join(map(_class_item, items)) + "]"
        allowed = re.compile(source, re.ASCII)
        candidates = [c for c in map(chr, range(32, 127)) if allowed.fullmatch(c)]
        return self._random.choice(candidates)


def _class_item(item: tuple[Any, Any]) -> str:
    op, value = str(item[0]), item[1]
    if op == "NEGATE":
        return "^"
    if op == "LITERAL":
        return f"\\U{value:08x}"
    if op == "RANGE":
        return f"\\U{value[0]:08x}-\\U{value[1]:08x}"
    letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[str(value).rsplit("_", 1)[-1]]
    return "\\" + (letter.upper() if "NOT" in str(value) else letter)
