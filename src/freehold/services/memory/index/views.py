"""A unit's words and meaning, alone and with its neighbours: several views of one text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from freehold.services.memory.index.queries import Query

K1, B = 1.2, 0.75
"""BM25's, as its authors recommend them: not chosen by any measurement of ours."""
REACH = 2
"""A turn is looked at with as many turns before and behind it: question and answer, or a remark and
what it was about. Whoever calls `scores` adds these neighbours of each candidate."""


class View(msgspec.Struct, frozen=True):
    """`reach` neighbours on each side count in. `weight` is its part of the whole."""

    name: str
    reach: int
    weight: float


# Words and meaning count alike: which of them finds more depends on how a question is worded.
# Words: a turn alone is the most exact, the widest finds the most, and none is preferred.
WORDS = (View("words", 0, 1 / 6), View("words±1", 1, 1 / 6), View("words±2", 2, 1 / 6))
# A mean over neighbours says what is talked about, its own vector what is said: twice as much.
MEANING = (View("meaning", 0, 2 / 6), View("meaning±1", 1, 1 / 6))
VIEWS = (*WORDS, *MEANING)

Floats = np.ndarray[Any, np.dtype[np.float64]]
Rows = np.ndarray[Any, np.dtype[np.int64]]
Scores = Mapping[str, Mapping[str, float]]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate, or the neighbour of one. `place` counts the turns of a `group`: neighbours
    differ by 1 (from any beginning); a record has no group. `length` is how many terms it has,
    `counts` how often those of the query. `cosine` is None where there is no vector (yet)."""

    id: str
    length: int
    counts: Mapping[str, int]
    cosine: float | None = None
    speaker: str = ""
    group: str = ""
    place: int = 0


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Of the namespace or path searched: `units` in number, `terms` all their lengths together,
    `having` how many units have a term of the query."""

    units: int
    terms: int
    having: Mapping[str, int]


def rarity(term: str, statistics: Statistics) -> float:
    """BM25's weight of a term (Robertson and Sparck Jones', never negative)."""
    having = statistics.having.get(term, 0)
    return math.log1p((max(0, statistics.units - having) + 0.5) / (having + 0.5))


def scores(query: Query, found: Sequence[Found], statistics: Statistics) -> Scores:
    """By view, by unit id. Views that say nothing (no vectors) are missing, and a unit in those
    that say nothing of it. Words: 1 is a whole match, a text of the usual length with every word of
    the query once. Meaning: a cosine."""
    if not found:
        return {}
    some = Table.in_order(found)
    ids = [f.id for f in some]
    return {
        name: {
            id: score
            for id, score in zip(ids, column.tolist(), strict=True)
            if not math.isnan(score)
        }
        for name, column in Table.of(query.terms, some).columns(query, statistics).items()
    }


def _whole_match(query: Query, statistics: Statistics) -> float:
    """Words that no unit has count as the rarest. Of several days that would do, the commonest is
    enough."""
    words = sum(rarity(term, statistics) for term in query.terms if term not in query.dates)
    days = min((rarity(term, statistics) for term in query.dates), default=0.0)
    return (words + days) / (1 + K1) or 1.0


class Table(NamedTuple):
    """Units in the order of their groups and places: neighbours stand side by side. `counts` has a
    column for each term of the query; a cosine that is not known is NaN. Hundreds of units are
    looked at for each query: as arrays they cost a tenth of what they do as objects."""

    groups: Rows
    places: Rows
    lengths: Floats
    counts: Floats
    cosines: Floats

    @staticmethod
    def in_order(found: Sequence[Found]) -> list[Found]:
        return sorted(found, key=lambda f: (f.group, f.place, f.id))

    @classmethod
    def of(cls, terms: Sequence[str], some: Sequence[Found]) -> "Table":
        """Of units in that order."""
        codes: dict[str, int] = {}
        # What has no group is one of its own.
        groups = [
            codes.setdefault(f.group, len(codes)) if f.group else -at
            for at, f in enumerate(some, 1)
        ]
        return cls(
            np.array(groups, np.int64),
            np.array([f.place for f in some], np.int64),
            np.array([f.length for f in some], np.float64),
            np.array([[f.counts.get(t, 0) for t in terms] for f in some], np.float64).reshape(
                len(some), len(terms)
            ),
            np.array([math.nan if f.cosine is None else f.cosine for f in some], np.float64),
        )

    def columns(self, query: Query, statistics: Statistics) -> dict[str, Floats]:
        """As `scores`, for each row; NaN where a view says nothing of it."""
        weights = np.array([rarity(term, statistics) for term in query.terms])
        usual = max(1.0, statistics.terms / max(1, statistics.units))
        whole = _whole_match(query, statistics)
        found = {view.name: _bm25(self, view.reach, weights, usual) / whole for view in WORDS}
        if np.isfinite(self.cosines).any():
            found |= {view.name: _mean(self, view.reach) for view in MEANING}
        return found

    def with_neighbours(self, values: Floats, reach: int) -> Floats:
        """Each row's value and those of its neighbours, added up."""
        total = values.copy()
        for step in range(1, min(reach, len(self.places) - 1) + 1):
            near = (self.groups[step:] == self.groups[:-step]) & (
                self.places[step:] - self.places[:-step] <= reach
            )
            near = near if values.ndim == 1 else near[:, None]
            total[:-step] += np.where(near, values[step:], 0.0)
            total[step:] += np.where(near, values[:-step], 0.0)
        return total


def _bm25(table: Table, reach: int, weights: Floats, usual: float) -> Floats:
    """Of a turn and its neighbours as if they were one text. How rare a word is, and how long a
    text is usually, stay those of single turns."""
    size = table.with_neighbours(np.ones(len(table.places)), reach)
    length = table.with_neighbours(table.lengths, reach) / (size * usual)
    counts = table.with_neighbours(table.counts, reach)
    share = counts / (counts + (K1 * (1 - B + B * length))[:, None])
    total: Floats = share @ weights
    return total


def _mean(table: Table, reach: int) -> Floats:
    """Of the cosines that are known; NaN where none is."""
    known = np.isfinite(table.cosines)
    total = table.with_neighbours(np.where(known, table.cosines, 0.0), reach)
    many = table.with_neighbours(known.astype(np.float64), reach)
    mean: Floats = np.where(many > 0, total / np.maximum(many, 1.0), np.nan)
    return mean
