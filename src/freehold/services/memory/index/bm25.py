"""BM25 over the postings of a query's terms."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from freehold.services.memory.index import views
from freehold.services.memory.index.views import K1, B, Floats, Statistics

POSTING = np.dtype([("no", "<i8"), ("frequency", "<u2"), ("length", "<u2")])

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Packed = np.ndarray[Any, np.dtype[np.void]]
"""Of `POSTING`."""


class Listed(NamedTuple):
    """Of one term: `numbers`, ascending, are those of `packed`."""

    numbers: Numbers
    packed: Packed

    def at(self, numbers: Numbers) -> tuple[Numbers, Packed]:
        """Which of these units have it (their places among those given), and their postings."""
        places = found_in(self.numbers, numbers)
        there = np.flatnonzero(places >= 0)
        return there, self.packed[places[there]]


def found_in(many: Numbers, wanted: Numbers) -> Numbers:
    """Where each is, or -1; `many` ascend."""
    if not len(many):
        return np.full(len(wanted), -1, np.int64)
    at = np.searchsorted(many, wanted)
    at[at == len(many)] = 0
    at[many[at] != wanted] = -1
    return at


class Postings(msgspec.Struct, frozen=True):
    """Of the terms of one query; of those that no unit has there are none."""

    statistics: Statistics
    lists: Mapping[str, Listed]

    @property
    def many(self) -> int:
        return sum(len(listed.numbers) for listed in self.lists.values())

    def best(self, limit: int, among: Sequence[int] | None = None) -> list[int]:
        """The units with the highest BM25, best first; equal ones by number.

        As `scored` would have it, but the lists of common terms, which are most of all postings,
        are read only where a unit may still be one of the best: a term adds less than its rarity.
        """
        lists = self._rarest_first()
        if among is not None:
            kept = np.array(sorted(among), np.int64)
            narrowed = [(rarity, listed.at(kept)) for rarity, listed in lists]
            lists = [(rarity, Listed(kept[at], some)) for rarity, (at, some) in narrowed]
        left = sum(rarity for rarity, _ in lists)
        numbers, sums = _NONE
        while lists:
            rarity, listed = lists[0]
            least = _least_of_best(sums, limit)
            if left < least:
                # Who has none of the terms until here is not among the best any more.
                promising = sums + left >= least
                numbers, sums = numbers[promising], sums[promising]
                break
            numbers, sums = _added_to(numbers, sums, listed.numbers, self._shares(rarity, listed))
            lists, left = lists[1:], left - rarity
        for rarity, listed in lists:
            there, packed = listed.at(numbers)
            sums[there] += self._shares(rarity, Listed(numbers[there], packed))
        chosen = sums >= _least_of_best(sums, limit)  # equal ones are cut by number
        numbers, sums = numbers[chosen], sums[chosen]
        best: list[int] = numbers[np.lexsort((numbers, -sums))][:limit].tolist()
        return best

    def scored(self) -> tuple[Numbers, Floats]:
        """Every unit with one of the terms, by number; its BM25."""
        numbers, sums = _NONE
        for rarity, listed in self._rarest_first():
            numbers, sums = _added_to(numbers, sums, listed.numbers, self._shares(rarity, listed))
        return numbers, sums

    def _rarest_first(self) -> list[tuple[float, Listed]]:
        """Sums of the same terms are equal to the last bit when they are added in one order."""
        weighed = [(views.rarity(term, self.statistics), term) for term in self.lists]
        return [(rarity, self.lists[term]) for rarity, term in sorted(weighed, reverse=True)]

    def _shares(self, rarity: float, listed: Listed) -> Floats:
        usual = max(1.0, self.statistics.terms / max(1, self.statistics.units))
        frequency = listed.packed["frequency"].astype(np.float64)
        length = listed.packed["length"].astype(np.float64)
        shares: Floats = rarity * frequency / (frequency + K1 * (1 - B + (B / usual) * length))
        return shares

    def counts(self, numbers: Numbers, terms: Sequence[str]) -> Floats:
        """How often each of these units (a row) has each of the terms (a column)."""
        found = np.zeros((len(numbers), len(terms)), np.float64)
        for column, term in enumerate(terms):
            if term in self.lists:
                there, packed = self.lists[term].at(numbers)
                found[there, column] = packed["frequency"]
        return found


_NONE: tuple[Numbers, Floats] = (np.empty(0, np.int64), np.empty(0, np.float64))


def _added_to(
    numbers: Numbers, sums: Floats, more: Numbers, weights: Floats
) -> tuple[Numbers, Floats]:
    """Both ascend."""
    if not len(numbers):
        return more, weights
    places = found_in(numbers, more)
    known = places >= 0
    sums = sums.copy()
    sums[places[known]] += weights[known]
    new = ~known
    numbers = np.concatenate([numbers, more[new]])
    sums = np.concatenate([sums, weights[new]])
    in_order = np.argsort(numbers, kind="stable")
    return numbers[in_order], sums[in_order]


def _least_of_best(sums: Floats, limit: int) -> float:
    """What the last of the best has; with fewer than `limit` any is enough."""
    if len(sums) < limit:
        return 0.0
    return float(np.partition(sums, len(sums) - limit)[len(sums) - limit])
