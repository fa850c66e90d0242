"""Words: which units of a namespace have them.

A writer adds one row for a text, and changes none: writers never wait for one another, and what an
append costs does not depend on how many words there are. In the background `tidy` sorts these rows
into the postings of their terms. A search reads both in one snapshot, in which postings and counts
are exact.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from freehold.ports.database import Connection
from freehold.services.memory.index.bm25 import POSTING, Listed, Postings
from freehold.services.memory.index.views import Statistics

UNTIDY_EVERY = 32
"""Units written, for each time that a namespace is tidied."""
_FRESH_MAX = 16
"""Units of a namespace put at once; more go to the postings directly."""
_MERGED_ROWS_MIN = 8
_BLOCK = 1024
_SMALL_MAX, _UNITS_MAX = 0xFFFF, 0x7FFFFFFF
_LOCK = 0x4D454D49  # "MEMI"


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A unit in a namespace, by number."""

    no: int
    ns: int
    terms: Sequence[str]


Row = tuple[int, str, int, int, bytes]
"""Of the table of postings: namespace, term, units, terms, packed."""


async def add(connection: Connection, texts: Sequence[Text]) -> None:
    many = Counter(text.ns for text in texts)
    at_once = [text for text in texts if many[text.ns] > _FRESH_MAX]
    await _insert(connection, _rows_of([_fresh(text) for text in at_once]))
    few = [text for text in texts if many[text.ns] <= _FRESH_MAX]
    await _insert_fresh(connection, [_fresh(text) for text in few])
    untidy = {text.ns for text in few if text.no % UNTIDY_EVERY == 0} | {t.ns for t in at_once}
    await leave_untidy(connection, sorted(untidy))


async def take_away(connection: Connection, texts: Sequence[tuple[Text, int]]) -> None:
    """Each with its length; `terms` once each are enough."""
    removed = []
    for text, length in texts:
        terms = sorted(set(text.terms))
        packed = _packed([(text.no, 0, 0)] * len(terms))
        removed.append(_Fresh(text.ns, -1, -length, terms, packed))
    await _insert_fresh(connection, removed)
    # Soon nothing tells any more what the text was.
    await leave_untidy(connection, sorted({text.ns for text, _ in texts}))


async def leave_untidy(connection: Connection, namespaces: Sequence[int]) -> None:
    if namespaces:
        await connection.execute(
            "INSERT INTO memory_index_untidy (ns) SELECT unnest(%s::bigint[])", (list(namespaces),)
        )


class _Fresh(NamedTuple):
    """A text that was added or removed. `packed` has a posting for each of the terms."""

    ns: int
    units: int
    length: int
    terms: Sequence[str]
    packed: bytes


def _fresh(text: Text) -> _Fresh:
    frequencies = Counter(text.terms)
    terms, length = sorted(frequencies), len(text.terms)
    small = min(length, _SMALL_MAX)
    packed = _packed([(text.no, min(frequencies[term], _SMALL_MAX), small) for term in terms])
    return _Fresh(text.ns, 1, length, terms, packed)


def _rows_of(texts: Sequence[_Fresh]) -> list[Row]:
    """What was added and what was removed in rows of their own: removals have a negative count."""
    lists: dict[tuple[int, str, int], list[bytes]] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for text in texts:
        units, length = sizes.get(text.ns, (0, 0))
        sizes[text.ns] = (units + text.units, length + text.length)
        for term, posting in zip(text.terms, _pieces(text.packed), strict=True):
            lists.setdefault((text.ns, term, text.units), []).append(posting)
    rows = [
        (ns, term, units * len(some), 0, b"".join(some))
        for (ns, term, units), some in lists.items()
    ]
    return rows + [(ns, "", units, length, b"") for ns, (units, length) in sizes.items()]


def _pieces(packed: bytes) -> list[bytes]:
    size = POSTING.itemsize
    return [packed[start : start + size] for start in range(0, len(packed), size)]


async def _insert_fresh(connection: Connection, texts: Sequence[_Fresh]) -> None:
    if texts:
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO memory_index_fresh (ns, units, length, terms, packed)"
                " VALUES (%s, %s, %s, %s, %s)",
                [(t.ns, t.units, t.length, list(t.terms), t.packed) for t in texts],
            )


async def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    if rows:
        await connection.execute(
            "INSERT INTO memory_index_postings (ns, term, units, terms, packed) SELECT * FROM"
            " unnest(%s::bigint[], %s::text[], %s::integer[], %s::bigint[], %s::bytea[])",
            [list(column) for column in zip(*rows, strict=True)],
        )


def _packed(postings: Sequence[tuple[int, int, int]]) -> bytes:
    return np.array(postings, POSTING).tobytes()


async def read(
    connection: Connection, places_asked: str, parameters: Mapping[str, Any], terms: Sequence[str]
) -> tuple[list[list[Any]], Postings]:
    """The rows of `places_asked`, whose first column is their number, and what these namespaces
    have of the terms: in one snapshot, and one message to the server."""
    rows = await connection.execute(
        _READ.format(places=places_asked),
        {**parameters, "terms": list(terms), "rows": ["", *terms]},
        binary=True,
    )
    places: list[list[Any]] = []
    units = lengths = 0
    having = dict.fromkeys(terms, 0)
    pieces: dict[str, list[bytes]] = {}
    for term, more, length, packed, fresh, *place in await rows.fetchall():
        if packed is None:
            places.append(place)
        elif fresh is not None:
            for one, posting in zip(fresh, _pieces(packed), strict=True):
                if one in having:
                    having[one] += more
                    pieces.setdefault(one, []).append(posting)
        elif term:
            having[term] += more
            pieces.setdefault(term, []).append(packed)
        else:
            units += more
            lengths += length
    lists = {term: _living(some) for term, some in pieces.items()}
    return places, Postings(Statistics(units=units, terms=lengths, having=having), lists)


_NO_PLACE = "NULL::bigint, NULL::text[], NULL::integer, NULL::smallint"
_NS = "ns = ANY(ARRAY(SELECT no FROM places))"
_READ = (
    "WITH places AS MATERIALIZED ({places})"  # noqa: S608 - constants
    " SELECT NULL::text, 0, 0::bigint, NULL::bytea, NULL::text[], places.* FROM places"
    f" UNION ALL SELECT term, units, terms, packed, NULL, {_NO_PLACE}"
    " FROM memory_index_postings"
    f" WHERE {_NS} AND term = ANY(%(rows)s::text[])"
    f" UNION ALL SELECT NULL, units, 0, packed, terms, {_NO_PLACE} FROM memory_index_fresh"
    f" WHERE {_NS} AND terms && %(terms)s::text[]"
    " UNION ALL SELECT '', coalesce(sum(units), 0)::integer, coalesce(sum(length), 0)::bigint,"
    f" '', NULL, {_NO_PLACE} FROM memory_index_fresh WHERE {_NS}"
)


def _living(pieces: Sequence[bytes]) -> Listed:
    postings = np.frombuffer(b"".join(pieces), POSTING)
    removed = postings["frequency"] == 0
    if removed.any():
        postings = postings[~np.isin(postings["no"], postings["no"][removed])]
    numbers = np.ascontiguousarray(postings["no"])
    if (numbers[1:] < numbers[:-1]).any():  # a block ascends, but blocks come in any order
        in_order = np.argsort(numbers, kind="stable")
        postings, numbers = postings[in_order], numbers[in_order]
    return Listed(numbers, postings)


# -- in the background


async def tidy(connection: Connection) -> int | None:
    """One namespace, within the caller's transaction: which, if there was any to do. Whoever else
    tidies takes another."""
    rows = await connection.execute(
        "SELECT ns FROM memory_index_untidy ORDER BY no LIMIT 1 FOR UPDATE SKIP LOCKED"
    )
    row = await rows.fetchone()
    if row is None:
        return None
    ns: int = row[0]
    # Merging a term twice at once would count it twice.
    await alone(connection, [ns])
    await connection.execute(
        "DELETE FROM memory_index_untidy WHERE no IN (SELECT no FROM memory_index_untidy"
        " WHERE ns = %s FOR UPDATE SKIP LOCKED)",
        (ns,),
    )
    rows = await connection.execute(
        "DELETE FROM memory_index_fresh WHERE ns = %s RETURNING ns, units, length, terms, packed",
        (ns,),
    )
    new = _rows_of([_Fresh(*row) for row in await rows.fetchall()])
    await _insert(connection, new)
    rows = await connection.execute(
        "SELECT term FROM memory_index_postings WHERE ns = %s AND term = ANY(%s::text[])"
        " AND (units < %s OR term = '') GROUP BY term HAVING count(*) >= %s OR min(units) < 0",
        (ns, [row[1] for row in new], _BLOCK, _MERGED_ROWS_MIN),
    )
    await _merge(connection, ns, [term for (term,) in await rows.fetchall()])
    return ns


async def alone(connection: Connection, namespaces: Sequence[int]) -> None:
    """Nobody else merges there until the transaction ends."""
    for ns in namespaces:
        await connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_LOCK, ns & 0x7FFFFFFF))


async def until_tidied(connection: Connection, ns: int) -> None:
    """Until whoever is at it is done."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_LOCK, ns & 0x7FFFFFFF))


async def _merge(connection: Connection, ns: int, terms: Sequence[str]) -> None:
    small = await _rows(connection, ns, terms, _BLOCK - 1)
    removed_from = [term for term, rows in small.items() if any(row.units < 0 for row in rows)]
    whole = [term for term in removed_from if term]
    small.update(await _rows(connection, ns, whole, _UNITS_MAX))
    old: list[str] = []
    new: list[Row] = []
    for term, rows in small.items():
        if len(rows) < 2:
            continue
        old_rows, merged = _merged(rows) if term else _added_up(rows)
        old += old_rows
        new += [(ns, term, units, lengths, packed) for units, lengths, packed in merged]
    await connection.execute(
        "DELETE FROM memory_index_postings WHERE ns = %s AND ctid = ANY(%s::tid[])", (ns, old)
    )
    await _insert(connection, new)


class _Row(msgspec.Struct, frozen=True):
    ctid: str
    units: int
    terms: int
    packed: bytes


async def _rows(
    connection: Connection, ns: int, terms: Sequence[str], units_max: int
) -> dict[str, list[_Row]]:
    rows = await connection.execute(
        "SELECT term, ctid::text, units, terms, packed FROM memory_index_postings WHERE ns = %s"
        " AND term = ANY(%s) AND (units <= %s OR term = '') FOR UPDATE",
        (ns, list(terms), units_max),
        binary=True,
    )
    found: dict[str, list[_Row]] = {}
    for term, *row in await rows.fetchall():
        found.setdefault(term, []).append(_Row(*row))
    return found


Merged = tuple[list[str], list[tuple[int, int, bytes]]]
"""Which rows go, and units, terms and postings of those that come in their place."""


def _added_up(rows: Sequence[_Row]) -> Merged:
    units, lengths = sum(row.units for row in rows), sum(row.terms for row in rows)
    return [row.ctid for row in rows], [(units, lengths, b"")] if units else []


def _merged(rows: Sequence[_Row]) -> Merged:
    """Full blocks stay, unless a unit of theirs was removed."""
    pieces = [(row.ctid, np.frombuffer(row.packed, POSTING)) for row in rows]
    gone = np.concatenate([p["no"][p["frequency"] == 0] for _, p in pieces])
    old, kept = [], []
    for ctid, piece in pieces:
        removed = np.isin(piece["no"], gone)
        if len(piece) < _BLOCK or removed.any():
            old.append(ctid)
            kept.append(piece[~removed])
    living = np.concatenate(kept) if kept else np.empty(0, POSTING)
    living = living[np.argsort(living["no"], kind="stable")]
    blocks = [living[start : start + _BLOCK] for start in range(0, len(living), _BLOCK)]
    return old, [(len(block), 0, block.tobytes()) for block in blocks]
