"""What a search looks at more closely: the best units and their neighbours, side by side."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from freehold.services.memory.index import fusion, views
from freehold.services.memory.index.bm25 import Numbers, Postings
from freehold.services.memory.index.nearest import Cosines
from freehold.services.memory.index.queries import Query
from freehold.services.memory.index.store import Around, Booleans
from freehold.services.memory.index.views import Floats, Table

_APART = 2 * views.REACH + 1


class Candidates(NamedTuple):
    """In the order of their groups, each once, though it may be in several namespaces. `meant`:
    those that may be hits. `places` differ by 1 for two that follow each other."""

    numbers: Numbers
    ids: Sequence[str]
    speakers: Sequence[str]
    groups: Sequence[str]
    places: Numbers
    lengths: Numbers
    meant: Booleans

    @classmethod
    def of(cls, around: Around) -> "Candidates":
        first: dict[str, int] = {}
        same = [first.setdefault(id, row) for row, id in enumerate(around.ids)]
        keys = list(zip(around.groups, around.orders, around.numbers.tolist(), strict=True))
        chosen = sorted(first.values(), key=keys.__getitem__)
        at = np.empty(len(same), np.int64)
        at[chosen] = np.arange(len(chosen))
        follow, meant = _windows(around, at[same], len(chosen))
        return cls(
            around.numbers[chosen],
            [around.ids[row] for row in chosen],
            [around.speakers[row] for row in chosen],
            [around.groups[row] for row in chosen],
            np.cumsum(np.where(follow, 1, _APART)),
            around.lengths[chosen],
            meant,
        )

    def best(
        self, query: Query, read: Postings, cosines: Cosines, limit: int
    ) -> list[tuple[str, float]]:
        """Ids and scores of those that are meant, best first, equal ones by id."""
        counts = read.counts(self.numbers, query.terms)
        codes: dict[str, int] = {}
        groups = [
            codes.setdefault(group, len(codes)) if group else -row
            for row, group in enumerate(self.groups, 1)
        ]
        table = Table(
            np.array(groups, np.int64),
            self.places,
            self.lengths.astype(np.float64),
            counts,
            cosines.at(self.numbers),
        )
        scores = fusion.scored(query, table, self._about(query, counts), read.statistics)
        scores, rows = scores[self.meant], np.flatnonzero(self.meant)
        if len(scores) > limit:
            # Those that equal the last one stay, to be cut by id.
            least = np.partition(scores, len(scores) - limit)[len(scores) - limit]
            scores, rows = scores[scores >= least], rows[scores >= least]
        found = [
            (self.ids[row], score)
            for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
        ]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:limit]

    def _about(self, query: Query, counts: Floats) -> Floats:
        if not query.speakers:
            return np.zeros(len(self.ids))
        speakers = set(query.speakers)
        said = np.array([speaker in speakers for speaker in self.speakers], np.bool_)
        unsaid = np.array([not speaker for speaker in self.speakers], np.bool_)
        named = np.zeros(len(self.ids), np.bool_)
        columns = {term: column for column, term in enumerate(query.terms)}
        for name in fusion.names_of(query):
            if name and name <= columns.keys():
                named |= (counts[:, [columns[term] for term in name]] > 0).all(axis=1)
        return np.asarray(said | (unsaid & named), np.float64)


def _windows(around: Around, at: Numbers, count: int) -> tuple[Booleans, Booleans]:
    """Of the `count` units in their order (`at`: which of them each row is): which follow the one
    before without a gap, and which are near enough to one that was asked for, and meant."""
    follow, meant = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    rows = np.lexsort((at, around.seeds))
    seeds, at, is_meant = around.seeds[rows], at[rows], around.meant[rows]
    follow[at[1:][(seeds[1:] == seeds[:-1]) & (at[1:] == at[:-1] + 1)]] = True
    # Each seed stands once in its own window.
    middles = np.flatnonzero(around.numbers[rows] == seeds)
    _, window = np.unique(seeds, return_inverse=True)
    close = np.abs(np.arange(len(rows)) - middles[window]) <= views.REACH
    meant[at[close & is_meant]] = True
    return follow, meant
