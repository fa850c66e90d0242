"""How long it takes to add a text to a memory and to find one, as memories grow.

    .venv/bin/python benchmarks/memory.py [--sizes 10000,100000] [--shapes small,large]

On the embedded store, with fsync. Shape "small": namespaces of 1,000 texts. Shape "large": one of
100,000 (or all), the one asked, among namespaces of 1,000. Texts are turns of sessions of 20, 8 to
24 words of a Zipf vocabulary; vectors are random ones of 384 dimensions, in clusters. In the same
run: the same vectors in a plain table with pgvector, asked for the nearest alone.

With --bulk tables are copied in, and what has both shapes is filled once and asked both ways: all
sizes take some minutes (`--sizes 10000,100000,1000000 --bulk`), and 5 GB.
"""

import argparse
import os
import statistics
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import memory_bulk
import numpy as np
from database_under_test import database, loop_runner

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.index import nearest, vectors
from freehold.services.memory.index.filling import Filling
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.model import Memory
from freehold.services.memory.ports import Unit, Where

SMALL, LARGE, SESSION = 1_000, 100_000, 20
WORDS, DIMENSIONS, CLUSTERS = 30_000, 384, 500
TENANT = "123456789012"
MEMORY = Memory(
    tenant=TENANT, id="memory-1", arn="", name="memory", status="ACTIVE", expiry_days=90
)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
Floats = np.ndarray[Any, np.dtype[np.float32]]


class Vectors:
    """Random ones, always the same for a text; 500 clusters."""

    model, dimensions = "random", DIMENSIONS

    def __init__(self) -> None:
        self.centres = np.random.default_rng(1).standard_normal((CLUSTERS, DIMENSIONS), np.float32)

    async def embed(self, texts: Sequence[str]) -> Floats:
        return np.stack([self.of(text) for text in texts])

    def of(self, text: str) -> Floats:
        seed = zlib.crc32(text.encode())
        noise = np.random.default_rng(seed).standard_normal(DIMENSIONS, np.float32)
        vector: Floats = self.centres[seed % CLUSTERS] + noise
        return vector / np.linalg.norm(vector)


class Corpus:
    def __init__(self, size: int, shape: str) -> None:
        self.size, self.shape, self.asked = size, shape, shape
        self._random = np.random.default_rng(7)
        ranks = np.arange(1, WORDS + 1)
        self.share = np.cumsum(1 / ranks) / np.sum(1 / ranks)
        letters = "bdfgklmnprtvz"
        vowels = "aiou"
        self.words = [
            "".join(letters[(n // 52**k) % 13] + vowels[(n // 52**k) // 13 % 4] for k in range(3))
            for n in range(WORDS)
        ]
        large = min(LARGE, size) if shape == "large" else 0
        sizes = [large] * bool(large) + [SMALL] * ((size - large) // SMALL)
        self.namespaces = len(sizes)
        sessions = np.repeat(np.arange(len(sizes)), [-(-some // SESSION) for some in sizes])
        self._random.shuffle(sessions)
        self.sessions = sessions

    def text(self, length_min: int = 8, length_max: int = 24) -> str:
        count = self._random.integers(length_min, length_max + 1)
        picked = np.searchsorted(self.share, self._random.random(count))
        return " ".join(self.words[min(n, WORDS - 1)] for n in picked)

    def unit(self, namespace: int, session: str, turn: int) -> Unit:
        return Unit(
            id=f"{session}/{turn:03}",
            namespaces=(f"/actors/{namespace}/",),
            strategy_id="turns",
            text=self.text(),
            at=BEGIN + timedelta(minutes=turn),
            speaker=("anna", "bob")[turn % 2],
            group=session,
            order=f"{turn:03}",
        )

    def batches(self) -> Iterator[list[Unit]]:
        """Sessions of all namespaces, mixed."""
        for start in range(0, len(self.sessions), 25):
            some = enumerate(self.sessions[start : start + 25], start)
            yield [self.unit(int(ns), f"s{n}", t) for n, ns in some for t in range(SESSION)]

    def namespace(self, n: int) -> int:
        """Of the shape that is asked: the large one is the first."""
        if self.asked == "large":
            return 0
        first = int(self.shape == "large")
        return first + n * 7 % (self.namespaces - first)

    def where(self, n: int) -> Where:
        return Where(namespace=f"/actors/{self.namespace(n)}/")


class Took(NamedTuple):
    """Milliseconds; CPU of this process and of the database's that serve it, for one."""

    p50: float
    p95: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.p50:.1f} | {self.p95:.1f} | {self.cpu:.1f}"


async def timed(pool: PostgresDatabase, act: Callable[[int], Awaitable[Any]], times: int) -> Took:
    for n in range(20):
        await act(times + n)
    took = []
    before = await cpu_ms(pool)
    for n in range(times):
        start = time.perf_counter()
        await act(n)
        took.append((time.perf_counter() - start) * 1e3)
    cpu = (await cpu_ms(pool) - before) / times
    return Took(statistics.median(took), statistics.quantiles(took, n=20)[-1], cpu)


async def cpu_ms(pool: PostgresDatabase) -> float:
    async with pool.connection() as connection:
        rows = await connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname IS NOT NULL"
        )
        total = time.process_time() * 1e3
        for (pid,) in await rows.fetchall():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) * 1e3 / os.sysconf("SC_CLK_TCK")
    return total


async def load(pool: PostgresDatabase, index: MemoryIndex, corpus: Corpus) -> str:
    filling = Filling(pool, Vectors(), batch=500)
    start = time.perf_counter()
    writing = 0.0
    for n, batch in enumerate(corpus.batches()):
        before = time.perf_counter()
        async with pool.transaction() as connection:
            await index.put(connection, MEMORY, batch)
        writing += time.perf_counter() - before
        await filling.fill()
        if n % 8 == 0:
            await filling.tidy()
    await filling.fill()
    await filling.tidy()
    whole = time.perf_counter() - start
    async with pool.connection() as connection:
        await connection.execute("VACUUM ANALYZE")
    return f"{writing / corpus.size * 1e6:.0f} | {whole / corpus.size * 1e6:.0f}"


async def load_in_bulk(pool: PostgresDatabase, corpus: Corpus) -> str:
    await memory_bulk.load(
        pool,
        MEMORY.tenant,
        MEMORY.id,
        words=corpus.words,
        share=corpus.share,
        sessions=corpus.sessions,
        turns=SESSION,
        centres=Vectors().centres,
    )
    async with pool.connection() as connection:
        await connection.execute("VACUUM ANALYZE")
    return "- | -"


async def raw(pool: PostgresDatabase, corpus: Corpus, times: int) -> Took:
    async with pool.connection() as connection:
        await connection.execute("SET hnsw.iterative_scan = relaxed_order")
        made = Vectors()

        async def ask(n: int) -> None:
            # A literal, so that the planner sees that the graph is of this namespace.
            where = corpus.where(n).namespace
            rows = await connection.execute(
                f"SELECT unit FROM raw_vectors WHERE namespace = '{where}'"
                " ORDER BY vector <=> %s::halfvec LIMIT 10",
                (nearest.literal(made.of(f"asked {n}")),),
            )
            await rows.fetchall()

        return await timed(pool, ask, times)


async def make_raw(pool: PostgresDatabase, corpus: Corpus) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "CREATE TABLE raw_vectors AS SELECT n.namespace, v.unit, v.vector::halfvec(384)"
            " FROM memory_index_vectors v JOIN memory_index_namespaces n ON n.no = v.ns"
            " ORDER BY v.unit"
        )
        await connection.execute("CREATE INDEX ON raw_vectors (namespace)")
        if corpus.shape == "large" and corpus.size > vectors.SCANNED_MAX:
            await connection.execute("SET maintenance_work_mem = '600MB'")
            await connection.execute(
                "CREATE INDEX ON raw_vectors USING hnsw (vector halfvec_cosine_ops)"
                " WHERE namespace = '/actors/0/'"
            )
            await connection.execute("RESET maintenance_work_mem")
        await connection.execute("VACUUM ANALYZE raw_vectors")


async def measure(corpus: Corpus, shapes: Sequence[str], times: int, *, bulk: bool) -> None:
    async with database() as (_, pool):
        index = MemoryIndex(pool, Vectors())
        if bulk:
            loaded = await load_in_bulk(pool, corpus)
        else:
            loaded = await load(pool, index, corpus)
        await make_raw(pool, corpus)

        async def retrieve(n: int) -> None:
            hits = await index.search(MEMORY, corpus.where(n), corpus.text(4, 8), 10)
            assert len(hits) == 10, "a text of that vocabulary has some of its words"

        async def append(n: int) -> None:
            added = corpus.unit(corpus.namespace(n), f"new {corpus.asked} {n}", 0)
            async with pool.transaction() as connection:
                await index.put(connection, MEMORY, [added])

        for corpus.asked in shapes:
            found = await timed(pool, retrieve, times)
            plain = await raw(pool, corpus, times)
            added = await timed(pool, append, times)
            took = f"{added} | {found} | {plain} | {loaded}"
            print(f"| {corpus.size:,} | {corpus.asked} | {took} |", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--shapes", default="small,large")
    parser.add_argument("--times", type=int, default=300)
    parser.add_argument(
        "--bulk", action="store_true", help="copy into the tables: a million texts in minutes"
    )
    given = parser.parse_args()
    columns = (
        "texts | shape | append p50 ms | p95 | CPU | retrieve p50 ms | p95 | CPU"
        " | raw pgvector p50 ms | p95 | CPU | written in bulk, us a text | and embedded, merged"
    )
    print(f"| {columns} |\n" + "|---" * 13 + "|", flush=True)
    for size in given.sizes.split(","):
        shapes = given.shapes.split(",")
        if given.bulk and int(size) > LARGE and len(shapes) > 1:
            corpus = Corpus(int(size), "large")
            await measure(corpus, shapes, given.times, bulk=True)
            continue
        for shape in shapes:
            await measure(Corpus(int(size), shape), [shape], given.times, bulk=given.bulk)


if __name__ == "__main__":
    loop_runner()(main())
