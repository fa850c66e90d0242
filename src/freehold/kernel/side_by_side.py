"""Two texts side by side, line by line, with what differs within a line told apart from what does
not."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import zip_longest

import msgspec

LINES_MAX = 400
WORDS_MAX = 400
"""Of one side. Beyond these lines are paired in their order, and a line differs as a whole: looking
for what is common takes the square of their number."""
_ALIKE_MIN = 0.3
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


class Piece(msgspec.Struct, frozen=True):
    text: str
    differs: bool


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """None: that side has no such line."""

    recorded: tuple[Piece, ...] | None
    fork: tuple[Piece, ...] | None

    @property
    def same(self) -> bool:
        return self.recorded == self.fork


def side_by_side(recorded: str, fork: str) -> list[Line]:
    """An empty text has no line."""
    left, right = recorded.splitlines(), fork.splitlines()
    begin = _common(left, right)
    end = _common(left[begin:][::-1], right[begin:][::-1])
    between = left[begin : len(left) - end], right[begin : len(right) - end]
    return [
        *(_equal(line) for line in left[:begin]),
        *_between(*between),
        *(_equal(line) for line in left[len(left) - end :]),
    ]


def around_differences(lines: Sequence[Line], *, around: int = 2) -> list[Line | int]:
    """What differs and so many lines around it; a number where so many of the same are left out."""
    near: set[int] = set()
    for at, line in enumerate(lines):
        if not line.same:
            near.update(range(at - around, at + around + 1))
    found: list[Line | int] = []
    for at, line in enumerate(lines):
        if at in near:
            found.append(line)
        elif found and isinstance(found[-1], int):
            found[-1] += 1
        else:
            found.append(1)
    return found


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    for at, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return at
    return min(len(left), len(right))


def _between(left: list[str], right: list[str]) -> list[Line]:
    if max(len(left), len(right)) > LINES_MAX:
        return [_paired(one, other) for one, other in zip_longest(left, right)]
    found: list[Line] = []
    for tag, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "equal":
            found += [_equal(line) for line in left[a:b]]
        else:
            found += [_paired(one, other) for one, other in zip_longest(left[a:b], right[c:d])]
    return found


def _equal(line: str) -> Line:
    pieces = (Piece(line, False),)
    return Line(recorded=pieces, fork=pieces)


def _paired(left: str | None, right: str | None) -> Line:
    if left == right and left is not None:
        return _equal(left)
    if left is None or right is None:
        return Line(recorded=_whole(left), fork=_whole(right))
    one, other = _WORD.findall(left), _WORD.findall(right)
    if max(len(one), len(other)) > WORDS_MAX:
        return Line(recorded=_whole(left), fork=_whole(right))
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    if matcher.ratio() < _ALIKE_MIN:
        return Line(recorded=_whole(left), fork=_whole(right))
    recorded, fork = [], []
    for tag, a, b, c, d in matcher.get_opcodes():
        differs = tag != "equal"
        if a < b:
            recorded.append(Piece("".join(one[a:b]), differs))
        if c < d:
            fork.append(Piece("".join(other[c:d]), differs))
    return Line(recorded=tuple(recorded), fork=tuple(fork))


def _whole(line: str | None) -> tuple[Piece, ...] | None:
    return None if line is None else (Piece(line, True),)
