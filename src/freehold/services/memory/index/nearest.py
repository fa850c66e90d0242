"""Which units are near a vector.

Small namespaces are scanned, in milliseconds and exactly; large ones are searched in their graph.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from psycopg import AsyncCursor

from freehold.ports.database import Connection
from freehold.services.memory.index import store
from freehold.services.memory.index.bm25 import Numbers, found_in
from freehold.services.memory.index.store import Place
from freehold.services.memory.index.views import Floats

ALL_MAX = 2_000
"""Units of which a scan gives every cosine."""
_EF_SEARCH = 100
_GRAPH_TUPLES_MAX = 20_000
_SCALE = 30_000  # a float16 goes up to 65,504

_NO_NUMBERS, _NO_VALUES = np.empty(0, np.int64), np.empty(0, np.float64)

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Cosines(NamedTuple):
    """By unit; numbers ascend, each is there once."""

    numbers: Numbers
    values: Floats

    @classmethod
    def listed(cls, numbers: Sequence[int], values: Sequence[float]) -> "Cosines":
        """In any order, for `of`."""
        return cls(np.array(numbers, np.int64), np.array(values, np.float64))

    @classmethod
    def of(cls, pairs: Sequence["Cosines"]) -> "Cosines":
        """Of several the highest."""
        numbers = np.concatenate([_NO_NUMBERS, *(pair.numbers for pair in pairs)])
        values = np.concatenate([_NO_VALUES, *(pair.values for pair in pairs)])
        by_number = np.lexsort((-values, numbers))
        numbers, values = numbers[by_number], values[by_number]
        first = np.append(True, numbers[1:] != numbers[:-1])[: len(numbers)]
        return cls(numbers[first], values[first])

    def at(self, numbers: Numbers) -> Floats:
        """Of each of these; NaN where none is known."""
        found = np.full(len(numbers), np.nan)
        at = found_in(self.numbers, numbers)
        found[at >= 0] = self.values[at[at >= 0]]
        return found

    def best(self, limit: int) -> list[int]:
        highest = np.lexsort((self.numbers, -self.values))[:limit]
        best: list[int] = self.numbers[highest].tolist()
        return best


class Probe(msgspec.Struct, frozen=True):
    """A vector that is compared with those of a model in some namespaces."""

    model: int
    vector: Vectors
    places: Sequence[Place]

    @property
    def numbers(self) -> list[int]:
        return [place.no for place in self.places]


def literal(vector: Vectors) -> str:
    """Of unit length, in whole numbers: quicker to write, and only the direction counts."""
    return str(np.rint(vector * _SCALE).astype(np.int64).tolist())


async def nearest(connection: Connection, probe: Probe, limit: int) -> Cosines:
    """At least the `limit` nearest units of its namespaces."""
    found: list[Cosines] = []
    if scanned := [place.no for place in probe.places if place.graph != 2]:
        rows = await connection.execute(
            _LISTS.format(rows=_SCAN.format(limit=int(limit))),
            {"vector": literal(probe.vector), "ns": scanned, "model": probe.model},
            binary=True,
        )
        found.append(await _cosines(rows))
    if in_graph := [place.no for place in probe.places if place.graph == 2]:
        # Numbers alone, written into it: one message with the settings, which end with it.
        query = _GRAPH.format(
            dimensions=len(probe.vector),
            limit=int(limit),
            vector=literal(probe.vector),
            ns=",".join(map(str, map(int, in_graph))),
            model=int(probe.model),
        )
        rows = await connection.execute(_GRAPH_SETTINGS + _LISTS.format(rows=query))
        rows.nextset()
        found.append(await _cosines(rows))
    return Cosines.of(found)


async def _cosines(rows: AsyncCursor[tuple[Any, ...]]) -> Cosines:
    """Of `_LISTS`."""
    ((numbers, values),) = await rows.fetchall()
    return Cosines.listed(numbers or [], values or [])


# One row of lists: a row for each costs more than to compare its vector.
_LISTS = "SELECT array_agg(unit), array_agg(cosine) FROM ({rows}) found"
# A limit that is a parameter the planner takes for a tenth of the table.
_SCAN = (
    "SELECT unit, 1 - (vector <=> %(vector)s::halfvec) AS cosine FROM memory_index_vectors"
    " WHERE ns = ANY(%(ns)s::bigint[]) AND model = %(model)s::integer"
    " ORDER BY vector <=> %(vector)s::halfvec LIMIT {limit}"
)
_GRAPH_SETTINGS = (
    "SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true),"
    f" set_config('hnsw.ef_search', '{_EF_SEARCH}', true),"
    f" set_config('hnsw.max_scan_tuples', '{_GRAPH_TUPLES_MAX}', true),"
    # Whatever the planner thinks of sorting so many rows: it is slower.
    " set_config('enable_sort', 'off', true);"
)
_GRAPH = (
    "SELECT unit, 1 - (vector::halfvec({dimensions})"
    " <=> '{vector}'::halfvec({dimensions})) AS cosine FROM memory_index_vectors"
    " WHERE graph AND dimensions = {dimensions} AND ns IN ({ns}) AND model = {model}"
    " ORDER BY vector::halfvec({dimensions}) <=> '{vector}'::halfvec({dimensions})"
    " LIMIT {limit}"
)


async def of_units(
    connection: Connection, probe: Probe, units: Sequence[int], limit: int
) -> Cosines:
    """Of the `limit` nearest among these."""
    among = _OF_UNITS.format(units="%s::bigint[]")
    rows = await connection.execute(
        _LISTS.format(rows=f"{among} ORDER BY cosine DESC LIMIT {int(limit)}"),
        (literal(probe.vector), probe.numbers, probe.model, store.array(units)),
        binary=True,
    )
    return await _cosines(rows)


def of_found(probe: Probe) -> tuple[str, Sequence[Any]]:
    """For `store.around`: of all that it finds."""
    query = _LISTS.format(rows=_OF_UNITS.format(units="ARRAY(SELECT no FROM found)"))
    return query, (literal(probe.vector), probe.numbers, probe.model)


_OF_UNITS = (
    "SELECT unit, 1 - (vector <=> %s::halfvec) AS cosine FROM memory_index_vectors"
    " WHERE ns = ANY(%s::bigint[]) AND model = %s::integer AND unit = ANY({units})"
)
