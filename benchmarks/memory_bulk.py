"""A memory of a million texts in minutes: tables as `put`, `Filling` and its merging leave them."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.ports.database import Connection
from freehold.services.memory.index import analysis, vectors
from freehold.services.memory.index.bm25 import POSTING
from freehold.services.memory.index.postings import _BLOCK

SPEAKERS = ("anna", "bob")
_AT = "2026-01-01T00:00:00Z"
_GRAPH = "memory_index_vectors_graph_384"

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float32]]


async def load(
    pool: PostgresDatabase,
    tenant: str,
    memory_id: str,
    *,
    words: Sequence[str],
    share: Floats,
    sessions: Ints,
    turns: int,
    centres: Floats,
) -> None:
    """`sessions`: the namespace of each; `share` adds up how often each word is said."""
    made = np.random.default_rng(9)
    size = len(sessions) * turns
    places = np.repeat(sessions, turns) + 1
    lengths = made.integers(8, 25, size)
    picked = np.minimum(np.searchsorted(share, made.random(lengths.sum())), len(words) - 1)
    ends = np.cumsum(lengths)
    names = int(sessions.max()) + 1
    large = np.bincount(places, minlength=names + 1) > vectors.SCANNED_MAX
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO memory_index_namespaces"
            " (no, tenant, memory_id, namespace, speakers, graph) OVERRIDING SYSTEM VALUE"
            " SELECT n, %s, %s, '/actors/' || n - 1 || '/', %s,"
            " CASE WHEN n = ANY(%s) THEN 2 ELSE 0 END FROM generate_series(1, %s) n",
            (tenant, memory_id, list(SPEAKERS), np.flatnonzero(large).tolist(), names),
        )
        await connection.execute(
            "SELECT setval('memory_index_numbers', %s), setval(pg_get_serial_sequence("
            "'memory_index_namespaces', 'no'), %s)",
            (size, names),
        )
        terms = [analysis.terms(word)[0] for word in [*words, *SPEAKERS]]

        def unit(row: int) -> tuple[Any, ...]:
            said = picked[ends[row] - lengths[row] : ends[row]].tolist()
            session, turn = divmod(row, turns)
            speaker = SPEAKERS[turn % 2]
            kept = "{" + ",".join(sorted({terms[n] for n in said} | {speaker})) + "}"
            return (
                *(row + 1, tenant, memory_id, f"s{session}/{turn:03}", int(places[row]), "turns"),
                *(speaker, f"s{session}", f"{turn:03}", _AT, None, None, None),
                *(" ".join([words[n] for n in said]), kept, len(said) + 1),
            )

        await _copy(connection, "memory_index_units", size, unit)
        await _postings(connection, terms, places, lengths, picked)
        await _vectors(connection, places, large, centres, made)


async def _postings(
    connection: Connection, terms: Sequence[str], places: Ints, lengths: Ints, picked: Ints
) -> None:
    distinct, code = np.unique(terms, return_inverse=True)
    size = len(places)
    number = np.concatenate([np.repeat(np.arange(size), lengths), np.arange(size)])
    speaker = len(terms) - len(SPEAKERS) + np.arange(size) % len(SPEAKERS)
    term = code[np.concatenate([picked, speaker])]
    keys = (places[number] << 40) | (term << 24) | (number + 1)
    keys, frequency = np.unique(keys, return_counts=True)
    packed = np.empty(len(keys), POSTING)
    packed["no"] = keys & 0xFFFFFF
    packed["frequency"] = frequency
    packed["length"] = lengths[packed["no"] - 1] + 1
    groups, begins = np.unique(keys >> 24, return_index=True)
    rows = []
    for group, begin, end in zip(
        groups.tolist(), begins.tolist(), [*begins[1:].tolist(), len(keys)], strict=True
    ):
        for start in range(begin, end, _BLOCK):
            rows.append((group, start, min(start + _BLOCK, end)))

    def row(at: int) -> tuple[Any, ...]:
        group, start, end = rows[at]
        return (group >> 16, distinct[group & 0xFFFF], end - start, 0, packed[start:end].tobytes())

    await connection.execute("DROP INDEX memory_index_postings_term")
    await _copy(connection, "memory_index_postings", len(rows), row)
    units = np.bincount(places)
    sums = np.bincount(places, lengths + 1).astype(np.int64)
    await _copy(
        connection,
        "memory_index_postings",
        len(units) - 1,
        lambda at: (at + 1, "", int(units[at + 1]), int(sums[at + 1]), b""),
    )
    await connection.execute(
        "CREATE INDEX memory_index_postings_term ON memory_index_postings (ns, term)"
    )


async def _vectors(
    connection: Connection,
    places: Ints,
    large: Sequence[bool],
    centres: Floats,
    made: np.random.Generator,
) -> None:
    rows = await connection.execute("SELECT pg_get_indexdef(%s::regclass)", (_GRAPH,))
    graph = (await rows.fetchall())[0][0]
    await connection.execute(f"DROP INDEX {_GRAPH}")
    rows = await connection.execute(
        "INSERT INTO memory_index_models (name, dimensions, wanted) VALUES ('random', %s, true)"
        " RETURNING no",
        (centres.shape[1],),
    )
    model = (await rows.fetchall())[0][0]
    start = time.monotonic()
    async with (
        connection.cursor() as cursor,
        cursor.copy("COPY memory_index_vectors FROM STDIN (FORMAT BINARY)") as copy,
    ):
        await copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for begin in range(0, len(places), _BLOCK):
            ns = places[begin : begin + _BLOCK]
            noise = made.standard_normal((len(ns), centres.shape[1]), np.float32)
            near = centres[made.integers(0, len(centres), len(ns))] + noise
            near /= np.linalg.norm(near, axis=1, keepdims=True)
            units = np.arange(begin + 1, begin + len(ns) + 1)
            await copy.write(_binary(ns, units, model, np.asarray(large)[ns], near))
        await copy.write(b"\xff\xff")
    print(f"  memory_index_vectors: {len(places):,} rows in {time.monotonic() - start:.0f} s")
    await connection.execute("SET maintenance_work_mem = '400MB'")
    await connection.execute(graph)
    await connection.execute("RESET maintenance_work_mem")


def _binary(ns: Ints, units: Ints, model: int, graph: Any, near: Floats) -> bytes:
    """Rows as Postgres takes them from a binary COPY: a million as text take minutes. A halfvec is
    its dimensions, two bytes for nothing, and its numbers."""
    dimensions = near.shape[1]
    halfvec = np.dtype([("size", ">i2"), ("unused", ">i2"), ("of", ">f2", (dimensions,))])
    columns = {
        "ns": (ns, ">i8"),
        "unit": (units, ">i8"),
        "model": (model, ">i4"),
        "dimensions": (dimensions, ">i4"),
        "graph": (graph, "?"),
        "vector": (None, halfvec),
    }
    layout: list[Any] = [("columns", ">i2")]
    for name, (_, kind) in columns.items():
        layout += [(f"bytes of {name}", ">i4"), (name, kind)]
    rows = np.zeros(len(ns), layout)
    rows["columns"] = len(columns)
    for name, (values, kind) in columns.items():
        rows[f"bytes of {name}"] = np.dtype(kind).itemsize
        if values is not None:
            rows[name] = values
    rows["vector"]["size"], rows["vector"]["of"] = dimensions, near
    return rows.tobytes()


async def _copy(
    connection: Connection, table: str, count: int, row: Callable[[int], tuple[Any, ...]]
) -> None:
    start = time.monotonic()
    async with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} FROM STDIN") as copy,
    ):
        for at in range(count):
            await copy.write_row(row(at))
    print(f"  {table}: {count:,} rows in {time.monotonic() - start:.0f} s", flush=True)
