"""Values for botocore's shapes, in botocore's own types and as a tool's caller writes them."""

import base64
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape

_TEXTS = ("plain", "two words", "a/b?c=d&e", "über £5 €", "<tag attr='x'>&amp;", '"quoted", too')
_DEPTH_MAX = 5
# Checksums that neither side computes alone.
_ENUM_FAVOURITES = ("SHA256",)


@dataclass(frozen=True)
class Pair:
    """The same value twice."""

    theirs: Any
    ours: Any


class Samples:
    """`cut_short`: something required was left out, where a shape met itself too often."""

    def __init__(self, seed: int, *, chance: float = 0.8) -> None:
        self._random, self._chance = Random(seed), chance
        self.cut_short = False

    def of(self, shape: Shape, *, depth: int = 0) -> Pair:
        if isinstance(shape, StructureShape):
            return self.structure(shape, depth=depth)
        if isinstance(shape, ListShape):
            entries = [self.of(shape.member, depth=depth + 1) for _ in range(self._count(depth))]
            return Pair([e.theirs for e in entries], [e.ours for e in entries])
        if isinstance(shape, MapShape):
            keys = [self._key(shape.key, i) for i in range(self._count(depth))]
            values = [self.of(shape.value, depth=depth + 1) for _ in keys]
            return Pair(
                dict(zip(keys, (v.theirs for v in values), strict=True)),
                dict(zip(keys, (v.ours for v in values), strict=True)),
            )
        return self._simple(shape)

    def structure(self, shape: StructureShape, *, depth: int = 0) -> Pair:
        if getattr(shape, "is_document_type", False):
            return _same({"any": [1, "two", None]})
        names = list(shape.members)
        if getattr(shape, "is_tagged_union", False):
            ends = [n for n in names if not _has_members(shape.members[n])]
            names = [self._random.choice(names if depth < _DEPTH_MAX else ends or names)]
        elif depth >= _DEPTH_MAX:
            self.cut_short |= depth >= 12
            names = [n for n in names if n in shape.required_members] if depth < 12 else []
        theirs, ours = {}, {}
        for name in names:
            member = shape.members[name]
            if not self._wanted(shape, name):
                continue
            pair = self._member(member, depth)
            theirs[name], ours[name] = pair.theirs, pair.ours
        return Pair(theirs, ours)

    def _wanted(self, shape: StructureShape, name: str) -> bool:
        member = shape.members[name]
        needed = (
            name in shape.required_members
            or member.serialization.get("location") == "uri"
            or member.serialization.get("idempotencyToken")
            or member.metadata.get("idempotencyToken")
            or getattr(shape, "is_tagged_union", False)
        )
        return bool(needed) or self._random.random() < self._chance

    def _member(self, member: Shape, depth: int) -> Pair:
        location = member.serialization.get("location")
        if location == "uri" or member.serialization.get("hostLabel"):
            is_text = isinstance(member, StringShape) and not member.enum
            return _same(self._random.choice(("abc", "a-1"))) if is_text else self.of(member)
        if location in ("header", "headers"):
            return self._in_header(member)
        return self.of(member, depth=depth + 1)

    def _in_header(self, member: Shape) -> Pair:
        """Latin letters without what separates: a header's text has no escapes of its own."""
        if isinstance(member, StringShape) and not member.enum:
            return _same(self._random.choice(("plain", "two words", "W/etag-1")))
        if isinstance(member, MapShape):
            return _same({f"Name-{i}": f"value {i}" for i in range(2)})
        return self.of(member)

    def _simple(self, shape: Shape) -> Pair:
        kind = shape.type_name
        if kind in ("string", "character"):
            enum = getattr(shape, "enum", None)
            favourites = [v for v in _ENUM_FAVOURITES if enum and v in enum]
            return _same(self._random.choice(favourites or list(enum or _TEXTS)))
        if kind == "blob":
            content = bytes(self._random.randrange(256) for _ in range(5))
            return Pair(content, base64.b64encode(content).decode())
        if kind == "timestamp":
            moment = datetime(2020, 2, 29, 23, 59, 1, tzinfo=UTC)
            moment += timedelta(days=self._random.randrange(2000))
            return Pair(moment, moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
        if kind == "boolean":
            return _same(self._random.random() < 0.5)
        if kind in ("float", "double", "bigdecimal"):
            return _same(self._random.choice((0.5, 1.25, -3.75)))
        return _same(int(self._number(shape)))

    def _number(self, shape: Shape) -> float:
        low = shape.metadata.get("min", 1)
        high = shape.metadata.get("max", low + 100)
        return self._random.randint(
            math.ceil(low), max(math.ceil(low), min(math.floor(high), 2**40))
        )

    def _key(self, shape: Shape, index: int) -> str:
        enum = getattr(shape, "enum", None)
        return str(enum[index % len(enum)]) if enum else f"key {index}"

    def _count(self, depth: int) -> int:
        return 1 if depth >= 3 else 2


def _has_members(shape: Shape) -> bool:
    return isinstance(shape, StructureShape | ListShape | MapShape)


def _same(value: Any) -> Pair:
    return Pair(value, value)
