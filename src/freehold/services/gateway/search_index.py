"""One gateway's tools in memory: an inverted index, and a matrix of vectors."""

import time
from collections.abc import Callable, Collection, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from freehold.services.gateway.model import SEPARATOR
from freehold.services.gateway.search_text import SearchText, in_words, terms, text_hash

_K1, _B = 1.2, 0.75
VECTOR_WEIGHT = 0.85
"""The part of the cosine in a score; the rest is BM25's. How it was chosen: docs/tool-search.md."""
_YIELD_EVERY = 16
_FIRST_CUT, _CUT_GROWTH = 4, 8
_FEW_ALLOWED = 4
"""With less than one tool in four allowed, the others are not looked at."""

Floats = np.ndarray[Any, np.dtype[np.float32]]
Rows = np.ndarray[Any, np.dtype[np.int64]]
Allowed = Callable[[str], bool] | Collection[str] | None
Hit = tuple[str, float]


class TextIndex:
    """BM25 whose frequencies are weighted by field. What a posting adds to a score is worked out
    once, so that a query only adds."""

    def __init__(self, texts: Sequence[SearchText]) -> None:
        """For a thread: it gives the interpreter's lock away often."""
        vocabulary: dict[str, int] = {}
        rows: list[int] = []
        columns: list[int] = []
        frequencies: list[float] = []
        for at, text in enumerate(texts):
            for term, frequency in text.terms().items():
                rows.append(vocabulary.setdefault(term, len(vocabulary)))
                columns.append(at)
                frequencies.append(frequency)
            if at % _YIELD_EVERY == 0:
                time.sleep(0)
        self._size = len(texts)
        self._vocabulary = vocabulary
        self._pack(np.array(rows, np.int64), np.array(columns, np.int32), np.array(frequencies))

    def _pack(self, rows: Any, columns: Any, frequencies: Any) -> None:
        order = np.argsort(rows, kind="stable")
        self._documents = columns[order]
        found = np.bincount(rows, minlength=len(self._vocabulary))
        self._starts = np.concatenate([[0], np.cumsum(found)])
        self._weights = np.log1p((self._size - found + 0.5) / (found + 0.5)).astype(np.float32)
        lengths = np.bincount(columns, weights=frequencies, minlength=self._size)
        usual = lengths.mean() if self._size else 1.0
        relative = _K1 * (1 - _B + _B * lengths / (usual or 1.0))
        frequency = frequencies[order]
        gain = frequency / (frequency + relative[self._documents])
        self._gains = (gain * self._weights[rows[order]]).astype(np.float32)

    @property
    def bytes(self) -> int:
        arrays = (self._documents, self._starts, self._weights, self._gains)
        return sum(array.nbytes for array in arrays) + 100 * len(self._vocabulary)

    def scores(self, query: str) -> Floats:
        """From 0 to 1: 1 would be a tool that consists of the query's words. A word that no tool
        has counts as the rarest: a query that text does not answer scores low."""
        scores = np.zeros(self._size, np.float32)
        unknown = float(np.log1p((self._size + 0.5) / 0.5))
        most = 0.0
        for term in dict.fromkeys(terms(query)):
            at = self._vocabulary.get(term)
            most += unknown if at is None else float(self._weights[at])
            if at is not None:
                start, end = self._starts[at], self._starts[at + 1]
                scores[self._documents[start:end]] += self._gains[start:end]
        return scores / np.float32(most) if most else scores


class Unembedded(NamedTuple):
    digest: str
    text: str


class ToolIndex:
    """Of one version of one gateway. Vectors that are still `missing`, by row, are filled in while
    the index is in use."""

    def __init__(self, tenant: str, texts: Sequence[SearchText]) -> None:
        self.tenant = tenant
        self.keys = [text.key for text in texts]
        self._rows = {key: row for row, key in enumerate(self.keys)}
        embedded = [text.embedded() for text in texts]
        self.missing = {at: Unembedded(text_hash(text), text) for at, text in enumerate(embedded)}
        self._named: dict[str, list[int]] = {}
        for at, text in enumerate(texts):
            for name in {text.name, text.name.rpartition(SEPARATOR)[2]}:
                self._named.setdefault(in_words(name), []).append(at)
        self._text = TextIndex(texts)
        self._vectors: Floats | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def bytes(self) -> int:
        vectors = 0 if self._vectors is None else self._vectors.nbytes
        waiting = sum(len(missing.text) + 300 for missing in self.missing.values())
        return self._text.bytes + 600 * len(self.keys) + waiting + vectors

    @property
    def dimensions(self) -> int:
        """0 while it has no vector."""
        return 0 if self._vectors is None else int(self._vectors.shape[1])

    def put(self, rows: Sequence[int], vectors: Floats) -> None:
        """All vectors of an index have one length."""
        if self._vectors is None:
            self._vectors = np.zeros((len(self.keys), vectors.shape[1]), np.float32)
        self._vectors[np.asarray(rows, np.int64)] = vectors
        for row in rows:
            self.missing.pop(row, None)

    def find(
        self, query: str, vector: Floats | None, limit: int, allowed: Allowed = None
    ) -> list[Hit]:
        """The best of those allowed. Scores do not depend on what else there is to see."""
        scores = self._text.scores(query)
        vectors = self._vectors
        if vector is not None and vectors is not None and vector.shape[0] == vectors.shape[1]:
            # Not `@`: its threads would fight for the cores with those of other searches.
            cosines = np.maximum(np.vecdot(vectors, vector), 0)
            scores = VECTOR_WEIGHT * cosines + (1 - VECTOR_WEIGHT) * scores
        # Who knows the name gets that tool first.
        scores[self._named.get(in_words(query), [])] = 1
        if isinstance(allowed, Set) and len(allowed) < len(self.keys) // _FEW_ALLOWED:
            rows = [self._rows[key] for key in allowed if key in self._rows]
            return self._best(scores, np.array(sorted(rows), np.int64), limit, None)
        return self._best(scores, np.arange(len(self.keys)), limit, _test(allowed))

    def _best(
        self, scores: Floats, rows: Rows, limit: int, allowed: Callable[[str], bool] | None
    ) -> list[Hit]:
        """Of these rows. Asks about the best few first: mostly they are enough."""
        order = -scores[rows]
        size, cut = len(rows), _FIRST_CUT * limit
        while True:
            if cut < size:  # with all that tie at its edge: whoever asks gets the same
                some = np.flatnonzero(order <= np.partition(order, cut - 1)[cut - 1])
            else:
                some = np.arange(size)
            found: list[Hit] = []
            for at in rows[some[np.lexsort((some, order[some]))]].tolist():
                score = float(scores[at])
                if score <= 0:
                    return found
                if allowed is None or allowed(self.keys[at]):
                    found.append((self.keys[at], min(score, 1.0)))
                    if len(found) == limit:
                        return found
            if cut >= size:
                return found
            cut *= _CUT_GROWTH


def _test(allowed: Allowed) -> Callable[[str], bool] | None:
    if allowed is None or callable(allowed):
        return allowed
    return (allowed if isinstance(allowed, Set) else frozenset(allowed)).__contains__
