"""Vectors: of which model, of what units, and which units wait for theirs.

Vectors of large namespaces are in an HNSW graph too, which all of these share. Those of an older
model answer for a namespace until those of the wanted model are complete there.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from freehold.ports.database import Connection
from freehold.services.memory.index.nearest import Vectors, literal
from freehold.services.memory.ports import Unit

SCANNED_MAX = 10_000
"""Units of a namespace that are scanned; those of larger ones are in the graph."""
_GRAPH_DIMENSIONS_MAX = 4_000
_GROWN_AT_ONCE = 500
_LOCK = 0x4D454D56  # "MEMV"


class Waiting(msgspec.Struct, frozen=True):
    """A unit in a namespace that is to be embedded. `content` has no namespaces."""

    unit: int
    ns: int
    content: Unit


# -- models


async def model_number(connection: Connection, name: str, dimensions: int) -> int | None:
    rows = await connection.execute(
        "SELECT no FROM memory_index_models WHERE name = %s AND dimensions = %s", (name, dimensions)
    )
    row = await rows.fetchone()
    return None if row is None else int(row[0])


async def wanted(connection: Connection, *, lock: bool = False) -> int | None:
    """With `lock` it stays so until the transaction ends."""
    rows = await connection.execute(
        "SELECT no FROM memory_index_models WHERE wanted FOR SHARE"
        if lock
        else "SELECT no FROM memory_index_models WHERE wanted"
    )
    row = await rows.fetchone()
    return None if row is None else int(row[0])


async def want(connection: Connection, name: str, dimensions: int) -> int:
    """Its number. When another was wanted until now, every unit waits again, and the vectors that
    there are answer until a namespace is complete."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    await connection.execute(
        "INSERT INTO memory_index_models (name, dimensions) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (name, dimensions),
    )
    number = await model_number(connection, name, dimensions)
    assert number is not None
    rows = await connection.execute("SELECT no FROM memory_index_models WHERE wanted FOR UPDATE")
    before = await rows.fetchone()
    if before is not None and before[0] == number:
        return number
    await connection.execute("UPDATE memory_index_models SET wanted = false WHERE wanted")
    await connection.execute(
        "UPDATE memory_index_models SET wanted = true WHERE no = %s", (number,)
    )
    if before is not None:
        await connection.execute(
            "UPDATE memory_index_namespaces SET model = %s WHERE model IS NULL", before
        )
        await connection.execute(
            "INSERT INTO memory_index_waiting (unit, ns, again) SELECT u.no, u.ns, true"
            " FROM memory_index_units u WHERE NOT EXISTS (SELECT 1 FROM memory_index_vectors v"
            " WHERE v.ns = u.ns AND v.unit = u.no AND v.model = %s) ORDER BY u.no"
            " ON CONFLICT (unit) DO UPDATE SET again = true, not_before = '-infinity'",
            (number,),
        )
    return number


async def complete(
    connection: Connection, wanted: int, places: Sequence[int] | None = None
) -> None:
    """Namespaces (of these, or all) in which nothing waits again take the new vectors; the old ones
    go."""
    rows = await connection.execute(
        "UPDATE memory_index_namespaces n SET model = NULL WHERE n.model IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM memory_index_waiting w WHERE w.ns = n.no AND w.again)"
        " AND EXISTS (SELECT 1 FROM memory_index_models m WHERE m.no = %s AND m.wanted)"
        " AND (%s::bigint[] IS NULL OR n.no = ANY(%s::bigint[])) RETURNING n.no",
        (wanted, places, places),
    )
    done = [no for (no,) in await rows.fetchall()]
    if done:
        await connection.execute(
            "DELETE FROM memory_index_vectors WHERE ns = ANY(%s::bigint[]) AND model <> %s",
            (done, wanted),
        )


# -- filling


async def wait(connection: Connection, units: Sequence[tuple[int, int]]) -> None:
    """Units with their namespaces are to be embedded."""
    await connection.execute(
        "INSERT INTO memory_index_waiting (unit, ns) SELECT * FROM unnest(%s::bigint[],"
        " %s::bigint[])",
        [list(column) for column in zip(*units, strict=True)],
    )


async def drop(connection: Connection, units: Sequence[tuple[int, int]]) -> None:
    numbers, places = (list(column) for column in zip(*units, strict=True))
    await connection.execute(
        "DELETE FROM memory_index_waiting WHERE unit = ANY(%s::bigint[])", (numbers,)
    )
    await connection.execute(
        "DELETE FROM memory_index_vectors v USING unnest(%s::bigint[], %s::bigint[]) g(unit, ns)"
        " WHERE v.ns = g.ns AND v.unit = g.unit",
        (numbers, places),
    )


async def take(connection: Connection, limit: int, seconds: float) -> list[Waiting]:
    """Some that nobody else has, for this long; those first that never had a vector."""
    rows = await connection.execute(
        "UPDATE memory_index_waiting SET not_before = now() + make_interval(secs => %s)"
        " WHERE unit IN (SELECT unit FROM memory_index_waiting WHERE not_before <= now()"
        " ORDER BY again, unit LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING unit",
        (seconds, limit),
    )
    numbers = [unit for (unit,) in await rows.fetchall()]
    # A statement of its own: joined to a limit that it does not know, the planner would rather read
    # the whole table of texts.
    rows = await connection.execute(
        'SELECT no, ns, id, strategy_id, text, at, speaker, "group", "order"'
        " FROM memory_index_units WHERE no = ANY(%s::bigint[]) ORDER BY no",
        (numbers,),
    )
    return [Waiting(no, ns, _unit(*row)) for no, ns, *row in await rows.fetchall()]


def _unit(id: str, strategy_id: str, text: str, at: datetime, *more: str) -> Unit:
    speaker, group, order = more
    return Unit(
        id=id,
        namespaces=(),
        strategy_id=strategy_id,
        text=text,
        at=at,
        speaker=speaker,
        group=group,
        order=order,
    )


async def give_back(connection: Connection, units: Sequence[Waiting]) -> None:
    await connection.execute(
        "UPDATE memory_index_waiting SET not_before = '-infinity' WHERE unit = ANY(%s::bigint[])",
        ([unit.unit for unit in units],),
    )


async def seconds_until_next(connection: Connection) -> float | None:
    """Until something may be taken; None when nothing waits."""
    rows = await connection.execute(
        "SELECT CASE WHEN not_before <= now() THEN 0"
        " ELSE extract(epoch FROM not_before - now())::float8 END"
        " FROM memory_index_waiting ORDER BY not_before LIMIT 1"
    )
    row = await rows.fetchone()
    return None if row is None else float(row[0])


async def keep(
    connection: Connection, model: int, units: Sequence[Waiting], vectors: Vectors
) -> bool:
    """False when another model is wanted by now. Units that went meanwhile are left out."""
    if await wanted(connection, lock=True) != model:
        return False
    # A unit that is there stays until this ends; who removes it then finds its vector.
    await connection.execute(
        "WITH graphs AS MATERIALIZED (SELECT no, graph > 0 AS graph FROM memory_index_namespaces"
        " WHERE no = ANY(%(ns)s::bigint[]) ORDER BY no FOR SHARE), living AS MATERIALIZED"
        " (SELECT no, ns FROM memory_index_units WHERE no = ANY(%(unit)s::bigint[]) ORDER BY no"
        " FOR KEY SHARE)"
        " INSERT INTO memory_index_vectors (ns, unit, model, dimensions, graph, vector)"
        " SELECT l.ns, l.no, %(model)s, %(dimensions)s, g.graph, v.vector::halfvec"
        " FROM unnest(%(unit)s::bigint[], %(vector)s::text[]) v(unit, vector)"
        " JOIN living l ON l.no = v.unit JOIN graphs g ON g.no = l.ns ON CONFLICT DO NOTHING",
        {
            "ns": sorted({unit.ns for unit in units}),
            "unit": [unit.unit for unit in units],
            "model": model,
            "dimensions": vectors.shape[1],
            "vector": [literal(row) for row in vectors],
        },
    )
    await connection.execute(
        "DELETE FROM memory_index_waiting WHERE unit = ANY(%s::bigint[])",
        ([unit.unit for unit in units],),
    )
    return True


# -- the graph


async def mark_large(connection: Connection, places: Sequence[int]) -> None:
    """Those of these that have become too large to be scanned."""
    await connection.execute(
        "UPDATE memory_index_namespaces n SET graph = 1 WHERE n.no = ANY(%s::bigint[])"
        " AND n.graph = 0 AND (SELECT sum(p.units) FROM memory_index_postings p"
        " WHERE p.ns = n.no AND p.term = '') > %s",
        (list(places), SCANNED_MAX),
    )


async def growing(connection: Connection) -> int | None:
    rows = await connection.execute(
        "SELECT no FROM memory_index_namespaces WHERE graph = 1 ORDER BY no LIMIT 1"
    )
    row = await rows.fetchone()
    return None if row is None else int(row[0])


async def make_graph(connection: Connection, dimensions: int) -> bool:
    """Whether vectors of this length can be in a graph. While none is, making it is quick."""
    if dimensions > _GRAPH_DIMENSIONS_MAX:
        return False
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    rows = await connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", (f"memory_index_vectors_graph_{int(dimensions)}",)
    )
    if (await rows.fetchall())[0][0]:
        return True
    await connection.execute(
        f"CREATE INDEX memory_index_vectors_graph_{int(dimensions)} ON memory_index_vectors"
        f" USING hnsw ((vector::halfvec({int(dimensions)})) halfvec_cosine_ops)"
        f" WHERE graph AND dimensions = {int(dimensions)}"
    )
    return True


async def grow(connection: Connection, ns: int) -> bool:
    """Puts some of a namespace's vectors into the graph; whether it is complete now."""
    done = await connection.execute(
        "UPDATE memory_index_vectors SET graph = true WHERE (ns, unit, model) IN"
        " (SELECT ns, unit, model FROM memory_index_vectors WHERE ns = %s AND NOT graph"
        " LIMIT %s FOR UPDATE SKIP LOCKED)",
        (ns, _GROWN_AT_ONCE),
    )
    if done.rowcount:
        return False
    # Nobody writes one outside the graph while this is held, nor has one under way.
    await connection.execute(
        "SELECT 1 FROM memory_index_namespaces WHERE no = %s FOR UPDATE", (ns,)
    )
    rows = await connection.execute(
        "UPDATE memory_index_namespaces SET graph = 2 WHERE no = %(ns)s AND NOT EXISTS"
        " (SELECT 1 FROM memory_index_vectors WHERE ns = %(ns)s AND NOT graph) RETURNING no",
        {"ns": ns},
    )
    return await rows.fetchone() is not None
