"""One order from several views of the same units."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from freehold.services.memory.index import views
from freehold.services.memory.index.analysis import speaker_terms
from freehold.services.memory.index.queries import Query
from freehold.services.memory.index.views import Floats, Found, Scores, Statistics, Table

SPEAKER_BOOST = 1 / 6
"""Who is named usually said it: that counts as one view more. What the other said of it still wins
where it fits better by more than a view."""


def fused(seen: Scores) -> dict[str, float]:
    """Scores 0..1 by unit id, from what `views.scores` gave."""
    ids = list(dict.fromkeys(id for column in seen.values() for id in column))
    columns = {
        name: np.array([column.get(id, math.nan) for id in ids], np.float64)
        for name, column in seen.items()
    }
    return dict(zip(ids, of_columns(columns).tolist(), strict=True)) if ids else {}


def of_columns(seen: Mapping[str, Floats]) -> Floats:
    """Each view is divided by its best score, so that none wins by its scale; zero stays zero, so
    that the order of two units does not change with a third that matches nothing. One of words is
    divided by no less than 1, a whole match: where a question's words are hardly there, the best of
    them says little, and meaning decides. A unit that a view says nothing of (NaN) is weighed by
    the others alone: while vectors are made, those who have one already are not the better for it.
    """
    weights = {view.name: view.weight for view in views.VIEWS if view.name in seen}
    least = {view.name: 1.0 for view in views.WORDS}
    total = np.zeros(len(next(iter(seen.values()))), np.float64)
    whole = total.copy()
    for name, weight in weights.items():
        known = ~np.isnan(seen[name])
        shares = np.where(known, np.maximum(seen[name], 0.0), 0.0)
        best = max(shares.max(initial=0.0), least.get(name, 0.0))
        total += weight * shares / (best or 1.0)
        whole += weight * known
    return total / whole


def scored(query: Query, table: Table, about: Floats, statistics: Statistics) -> Floats:
    """0..1 for each row. `about`: 1 for those `said_by` or `naming` one of the query's speakers."""
    total = of_columns(table.columns(query, statistics))
    if query.speakers:
        total = (total + SPEAKER_BOOST * about) / (1 + SPEAKER_BOOST)
    return total


def ranked(query: Query, found: Sequence[Found], statistics: Statistics) -> list[tuple[str, float]]:
    """All that was given with a score 0..1, best first, equal ones by id."""
    if not found:
        return []
    some = Table.in_order(found)
    names = names_of(query)
    about = np.array([is_about(f.speaker, f.counts, query, names) for f in some], np.float64)
    scores = scored(query, Table.of(query.terms, some), about, statistics)
    ids = [f.id for f in some]
    return sorted(zip(ids, scores.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))


def names_of(query: Query) -> list[set[str]]:
    return [set(speaker_terms(speaker)) for speaker in query.speakers]


def is_about(
    speaker: str, counts: Mapping[str, int], query: Query, names: Sequence[set[str]]
) -> bool:
    """Said by who is named; or a record, which nobody said, that names them."""
    if speaker:
        return speaker in query.speakers
    return any(name and name <= counts.keys() for name in names)
