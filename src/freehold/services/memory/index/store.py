"""SQL of namespaces and units."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np

from freehold.ports.database import Connection
from freehold.services.memory import filters
from freehold.services.memory.index import analysis, postings
from freehold.services.memory.index.bm25 import Numbers, Postings
from freehold.services.memory.index.postings import Text
from freehold.services.memory.model import Memory
from freehold.services.memory.ports import Unit, Where

CLEARED_MAX = 5_000
"""Rows, in one transaction."""
_NAMESPACES_AT_ONCE = 100
SPEAKERS_MAX = 50
"""Of a namespace; of those beyond, questions know no names."""
_HIGHEST = "\U0010ffff"

Booleans = np.ndarray[Any, np.dtype[np.bool_]]


class Place(msgspec.Struct, frozen=True):
    """A namespace. `model` is None once its vectors are those of the wanted model; `graph` says
    whether they are in the graph (2: all of them)."""

    no: int
    speakers: tuple[str, ...]
    model: int | None
    graph: int


class Around(NamedTuple):
    """Units with their neighbours, as columns: a row is a unit that stands beside one of those
    asked for (`seeds`, which stand beside themselves). `groups` are "" for what stands alone;
    `meant` are what a search is for, and not merely beside it."""

    seeds: Numbers
    numbers: Numbers
    ids: list[str]
    speakers: list[str]
    groups: list[str]
    orders: list[str]
    lengths: Numbers
    meant: Booleans


def normal(namespace: str) -> str:
    inner = namespace.strip("/")
    return f"/{inner}/" if inner else "/"


async def read(
    connection: Connection, memory: Memory, where: Where, terms: Sequence[str]
) -> tuple[list[Place], Postings]:
    """The namespaces that are searched, and what they have of these terms."""
    if where.namespace:
        condition, names = "namespace = %(first)s", {"first": normal(where.namespace)}
    else:
        path = normal(where.path)
        condition = "namespace >= %(first)s AND namespace < %(end)s"
        names = {"first": path, "end": path + _HIGHEST}
    rows, found = await postings.read(
        connection,
        "SELECT no, speakers, model, graph FROM memory_index_namespaces"  # noqa: S608 - constants
        f" WHERE tenant = %(tenant)s AND memory_id = %(memory)s AND {condition}",
        {"tenant": memory.tenant, "memory": memory.id, **names},
        terms,
    )
    return [Place(no, tuple(speakers), *row) for no, speakers, *row in rows], found


async def put(
    connection: Connection, tenant: str, memory_id: str, units: Sequence[Unit]
) -> list[Text]:
    """What is to be added to the postings. None of these ids may be there."""
    spoken: dict[str, set[str]] = {}
    for unit in units:
        for name in _names(unit):
            spoken.setdefault(name, set()).update([unit.speaker] if unit.speaker else [])
    numbers = await _numbers(connection, tenant, memory_id, spoken)
    count = sum(len(_names(unit)) for unit in units)
    rows = await connection.execute(
        "SELECT nextval('memory_index_numbers') FROM generate_series(1, %s)", (count,)
    )
    new = iter([no for (no,) in await rows.fetchall()])
    texts, values = [], []
    for unit in units:
        terms = analysis.unit_terms(unit)
        distinct = sorted(set(terms))
        for name in _names(unit):
            text = Text(no=next(new), ns=numbers[name], terms=terms)
            texts.append(text)
            values.append(_values(tenant, memory_id, unit, text, distinct))
    async with connection.cursor() as cursor:
        await cursor.executemany(_INSERT, values)
    return texts


_INSERT = (
    'INSERT INTO memory_index_units (no, tenant, memory_id, id, ns, strategy_id, speaker, "group",'
    ' "order", at, metadata, expires_at, text, terms, length)'
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s)"
)


def _values(
    tenant: str, memory_id: str, unit: Unit, text: Text, distinct: Sequence[str]
) -> tuple[Any, ...]:
    metadata = filters.dumped(unit.metadata) if unit.metadata else None
    return (
        *(text.no, tenant, memory_id, unit.id, text.ns, unit.strategy_id, unit.speaker),
        *(unit.group, unit.order, unit.at, metadata, unit.expires_at, unit.text.replace("\0", " ")),
        *(distinct, len(text.terms)),
    )


def _names(unit: Unit) -> list[str]:
    return sorted({normal(name) for name in unit.namespaces or ("/",)})


async def _numbers(
    connection: Connection, tenant: str, memory_id: str, spoken: Mapping[str, set[str]]
) -> dict[str, int]:
    """Of these namespaces, with those new that are; who speaks there is noted. Sorted, so that two
    that make the same ones wait for each other in one order."""
    found = await _locked(connection, tenant, memory_id, sorted(spoken))
    while missing := sorted(spoken.keys() - found.keys()):  # one may go just after it was there
        await connection.execute(
            "INSERT INTO memory_index_namespaces (tenant, memory_id, namespace)"
            " SELECT %s, %s, name FROM unnest(%s::text[]) name ON CONFLICT DO NOTHING",
            (tenant, memory_id, missing),
        )
        found |= await _locked(connection, tenant, memory_id, missing)
    for name in sorted(spoken):
        no, known = found[name]
        if (more := spoken[name] - known) and len(known) < SPEAKERS_MAX:
            await connection.execute(
                "UPDATE memory_index_namespaces SET speakers ="
                " ARRAY(SELECT DISTINCT unnest(speakers || %s::text[])) WHERE no = %s",
                (sorted(more)[:SPEAKERS_MAX], no),
            )
    return {name: no for name, (no, _) in found.items()}


async def _locked(
    connection: Connection, tenant: str, memory_id: str, names: Sequence[str]
) -> dict[str, tuple[int, set[str]]]:
    """As a foreign key would: an empty one cannot go while something is being put there."""
    rows = await connection.execute(
        "SELECT namespace, no, speakers FROM memory_index_namespaces"
        " WHERE tenant = %s AND memory_id = %s AND namespace = ANY(%s)"
        " ORDER BY namespace FOR KEY SHARE",
        (tenant, memory_id, list(names)),
    )
    return {name: (no, set(speakers)) for name, no, speakers in await rows.fetchall()}


async def drop_empty(connection: Connection, ns: int) -> None:
    """A name may tell who was there."""
    await connection.execute(
        "SELECT 1 FROM memory_index_namespaces WHERE no = %s FOR UPDATE", (ns,)
    )
    # Another statement, which sees what those wrote who held the lock.
    await connection.execute(
        "DELETE FROM memory_index_namespaces WHERE no = %(ns)s"
        " AND NOT EXISTS (SELECT 1 FROM memory_index_units WHERE ns = %(ns)s)",
        {"ns": ns},
    )


async def remove(
    connection: Connection, tenant: str, memory_id: str, ids: Sequence[str]
) -> list[tuple[Text, int]]:
    """What is to be taken away from the postings."""
    rows = await connection.execute(
        "DELETE FROM memory_index_units WHERE tenant = %s AND memory_id = %s AND id = ANY(%s)"
        " RETURNING no, ns, terms, length",
        (tenant, memory_id, sorted(ids)),
    )
    found = await rows.fetchall()
    return [(Text(no=no, ns=ns, terms=terms), length) for no, ns, terms, length in found]


async def retire(
    connection: Connection, tenant: str, memory_id: str, ids: Sequence[str], at: datetime
) -> None:
    await connection.execute(
        "UPDATE memory_index_units SET retired_at = %s"
        " WHERE tenant = %s AND memory_id = %s AND id = ANY(%s)",
        (at, tenant, memory_id, list(ids)),
    )


async def clear(
    connection: Connection, tenant: str, memory_id: str, *, limit: int = CLEARED_MAX
) -> bool:
    """Some of it; False where nothing was left. A namespace goes once nothing was in it: whoever
    changes something there meanwhile does it before or after."""
    rows = await connection.execute(
        "SELECT no FROM memory_index_namespaces WHERE tenant = %s AND memory_id = %s"
        " ORDER BY namespace LIMIT %s",
        (tenant, memory_id, _NAMESPACES_AT_ONCE),
    )
    numbers = [no for (no,) in await rows.fetchall()]
    await postings.alone(connection, numbers)
    await connection.execute(
        "SELECT FROM memory_index_namespaces WHERE no = ANY(%s::bigint[])"
        " ORDER BY namespace FOR UPDATE",
        (numbers,),
    )
    found = 0
    for table in ("waiting", "untidy", "vectors", "fresh", "postings", "units"):
        # Untidy ones may be locked by who waits for us; they are worth nothing without the rest.
        skip = " FOR UPDATE SKIP LOCKED" if table == "untidy" else ""
        gone = await connection.execute(
            f"DELETE FROM memory_index_{table} WHERE ctid = ANY(ARRAY(SELECT ctid"  # noqa: S608
            f" FROM memory_index_{table} WHERE ns = ANY(%s::bigint[]) LIMIT %s{skip}))",
            (numbers, limit),
        )
        found += gone.rowcount
    if not found:
        await connection.execute(
            "DELETE FROM memory_index_namespaces WHERE no = ANY(%s::bigint[])", (numbers,)
        )
    return bool(numbers)


def condition(where: Where) -> tuple[str, list[Any]]:
    """On `memory_index_units u`."""
    clauses, parameters = ["(u.expires_at IS NULL OR u.expires_at > now())"], []
    if where.current:
        clauses.append("u.retired_at IS NULL")
    if where.strategy_id:
        clauses.append("u.strategy_id = %s")
        parameters.append(where.strategy_id)
    if where.filters:
        clause, more = filters.condition(filters.parsed(where.filters), "u.metadata")
        clauses.append(clause)
        parameters += more
    return " AND ".join(clauses), parameters


def array(numbers: Sequence[int]) -> str:
    """As Postgres reads it: hundreds, written by psycopg, take a millisecond."""
    return f"{{{','.join(map(str, numbers))}}}"


async def around(
    connection: Connection,
    numbers: Sequence[int],
    where: Where,
    reach: int,
    also: Sequence[tuple[str, Sequence[Any]]] = (),
) -> tuple[Around, list[list[Any]]]:
    """Those of these units that are meant, each with as many neighbours before and behind it.
    Neighbours need not be meant, but what expired is none. `also`: queries, with parameters, of one
    row on the table `found` of all of these (`no`); their columns are the second answer."""
    clause, parameters = condition(where)
    more = "".join(f", ({query}) also{n}" for n, (query, _) in enumerate(also))
    rows = await connection.execute(
        _AROUND.format(clause=clause, reach=int(reach)) + more,
        (array(numbers), *parameters * 3, *(value for _, some in also for value in some)),
        binary=True,
    )
    (columns,) = await rows.fetchall()
    lists = [column or [] for column in columns]
    seeds, found, ids, speakers, groups, orders, lengths, meant = lists[:8]
    return (
        Around(
            np.array(seeds, np.int64),
            np.array(found, np.int64),
            *(ids, speakers, groups, orders),
            np.array(lengths, np.int64),
            np.array(meant, np.bool_),
        ),
        lists[8:],
    )


_COLUMNS = 'u.no, u.ns, u.id, u.speaker, u."group", u."order", u.length'
_NEIGHBOURS = (
    f"SELECT {_COLUMNS}, ({{clause}}) IS TRUE FROM memory_index_units u"  # noqa: S608 - constants
    """ WHERE u.ns = m.ns AND u."group" = m."group" AND u."group" <> ''"""
    " AND (u.expires_at IS NULL OR u.expires_at > now())"
)
_AROUND = (
    f"WITH meant AS MATERIALIZED (SELECT {_COLUMNS}, true FROM memory_index_units u"  # noqa: S608
    " WHERE u.no = ANY(%s::bigint[]) AND {clause}), found (seed, no, ns, id, speaker, in_group,"
    " in_order, length, meant) AS (SELECT u.no, u.* FROM meant u"
    " UNION ALL SELECT m.no, n.* FROM meant m, LATERAL ("
    f'({_NEIGHBOURS} AND u."order" < m."order" ORDER BY u."order" DESC LIMIT {{reach}})'
    f' UNION ALL ({_NEIGHBOURS} AND u."order" > m."order" ORDER BY u."order" LIMIT {{reach}})'
    """) n WHERE m."group" <> '')"""
    # One row of lists: hundreds of rows take longer to be read than to be found.
    " SELECT * FROM (SELECT array_agg(seed), array_agg(no), array_agg(id), array_agg(speaker),"
    " array_agg(in_group), array_agg(in_order), array_agg(length), array_agg(meant) FROM found)"
    " columns"
)


async def some_gone(connection: Connection, numbers: Sequence[int]) -> bool:
    rows = await connection.execute(
        "SELECT count(*) FROM memory_index_units WHERE no = ANY(%s::bigint[])", (array(numbers),)
    )
    found = await rows.fetchone()
    assert found is not None, "a count is always there"
    return bool(found[0] < len(numbers))


async def meant(connection: Connection, places: Sequence[int], where: Where) -> list[int]:
    """Every unit of these namespaces that is meant."""
    clause, parameters = condition(where)
    rows = await connection.execute(
        # The clause has parameters for all that it was given.
        "SELECT u.no FROM memory_index_units u"  # noqa: S608
        f" WHERE u.ns = ANY(%s::bigint[]) AND {clause}",
        (list(places), *parameters),
    )
    return [no for (no,) in await rows.fetchall()]


async def size(connection: Connection, tenant: str, memory_id: str) -> tuple[int, int]:
    """How many units in all, and how many of them wait for a vector."""
    rows = await connection.execute(
        "WITH places AS (SELECT no FROM memory_index_namespaces"
        " WHERE tenant = %s AND memory_id = %s)"
        " SELECT (SELECT coalesce(sum(p.units), 0) FROM memory_index_postings p"
        " JOIN places ON p.ns = places.no WHERE p.term = '')"
        " + (SELECT coalesce(sum(f.units), 0) FROM memory_index_fresh f"
        " JOIN places ON f.ns = places.no),"
        " (SELECT count(*) FROM memory_index_waiting w JOIN places ON w.ns = places.no)",
        (tenant, memory_id),
    )
    units, waiting = (await rows.fetchall())[0]
    return int(units), int(waiting)
