"""A rule's text and its parts: which words a proposed policy is for, and which got none."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\s*\n\s*")


class Span(NamedTuple):
    """Of characters, its end not included."""

    start: int
    end: int

    def touches(self, other: "Span") -> bool:
        return self.start < other.end and other.start < self.end


def find(text: str, quoted: str) -> Span | None:
    """Where the words stand in the text, in one piece. Case, spaces and punctuation are free: a
    model that quotes changes them. None for what nobody wrote."""
    wanted = [word[0].casefold() for word in _WORD.finditer(quoted)]
    words = list(_WORD.finditer(text))
    said = [word[0].casefold() for word in words]
    if not wanted:
        return None
    for first in range(len(said) - len(wanted) + 1):
        if said[first : first + len(wanted)] == wanted:
            last = words[first + len(wanted) - 1].end()
            # The full stop behind belongs to it.
            end = last + len(text[last:]) - len(text[last:].lstrip(".!?;)\"'"))
            return Span(words[first].start(), end)
    return None


def sentences(text: str) -> Sequence[Span]:
    """Those that have a word."""
    found: list[Span] = []
    start = 0
    for end in [*_SENTENCE_END.finditer(text), None]:
        stop = len(text) if end is None else end.start()
        if _WORD.search(text, start, stop):
            found.append(_trimmed(text, start, stop))
        start = len(text) if end is None else end.end()
    return found


def _trimmed(text: str, start: int, stop: int) -> Span:
    piece = text[start:stop]
    left = len(piece) - len(piece.lstrip())
    return Span(start + left, start + len(piece.rstrip()))
