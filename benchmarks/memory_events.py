"""How long it takes to add an event to a memory and to list a session, as the store fills up.

    .venv/bin/python benchmarks/memory_events.py [--sizes 10000 1000000] [--times 500]

In one process, on an embedded Postgres that syncs each commit: no HTTP, no network. Beside it, in
the same run, one plain INSERT of the same text into a table with a key and nothing else. "pages" is
how many pages of 8 kB one of them looks at, wherever they are: that does not depend on what else
the machine does. Ten million events take 8 GB of disk.
"""

import argparse
import asyncio
import contextlib
import secrets
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from database_under_test import database, loop_runner

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.ports.database import Connection
from freehold.services.memory.event_sql import EventFilter
from freehold.services.memory.event_store import thread_of
from freehold.services.memory.events import EventLog, NewEvent
from freehold.services.memory.model import Event, Memory

TENANT, MEMORY_ID = "123456789012", "bench-0123456789"
EVENTS_OF_SESSION, SESSIONS_OF_ACTOR = 50, 20
_COUNTED, _CONNECTIONS = 100, 4
TEXT = "I moved to Oslo in spring, and my sister Ada visits me in the second week of June. " * 2
COLUMNS = (
    "tenant, memory_id, id, thread, actor_id, session_id, branch, root_event_id, at, created_at,"
    " expires_at, metadata, extract, variables, payload, payload_bytes, token, request"
)


class OneMemory:
    async def get(self, tenant: str, memory_id: str) -> Memory:
        return Memory(
            tenant=tenant, id=memory_id, arn="", name="bench", status="ACTIVE", expiry_days=90
        )


class NothingLearned:
    async def said(self, connection: Connection, memory: Memory, event: Event) -> None: ...

    async def unsaid(self, connection: Connection, memory: Memory, events: Any) -> None: ...


async def fill(pool: PostgresDatabase, first: int, last: int) -> None:
    """Events `first` to `last`, a second between two, in sessions of 50. Written by the server, and
    indexes made afterwards: one by one, ten million take an hour."""
    payload = '[{"conversational":{"content":{"text":"' + TEXT + '"},"role":"USER"}}]'
    async with pool.connection() as connection:
        rows = await connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'memory_events'"
            " AND indexname <> 'memory_events_pkey'"
        )
        indexes = await rows.fetchall()
        for name, _ in indexes:
            await connection.execute(f"DROP INDEX {name}")
        values = {"tenant": TENANT, "memory": MEMORY_ID, "payload": payload, "first": first}
        values |= {"last": last - 1, "session": EVENTS_OF_SESSION, "actor": SESSIONS_OF_ACTOR}
        await connection.execute(_FILL, values)
        await connection.execute(
            "INSERT INTO memory_sessions (tenant, thread, memory_id, actor_id, session_id,"
            " created_at) SELECT DISTINCT tenant, thread, memory_id, actor_id, session_id,"
            " created_at FROM memory_events ON CONFLICT DO NOTHING"
        )
        await connection.execute("SET maintenance_work_mem = '256MB'")
        for _, definition in indexes:
            await connection.execute(definition)
        await connection.execute("RESET maintenance_work_mem")
        await connection.execute("VACUUM ANALYZE memory_events")
        await connection.execute("VACUUM ANALYZE memory_sessions")
        await connection.execute("CHECKPOINT")
        rows = await connection.execute(
            "SELECT thread, actor_id, session_id FROM memory_sessions LIMIT 1"
        )
        ((thread, actor, session),) = await rows.fetchall()
        assert thread == thread_of(TENANT, MEMORY_ID, actor, session)


_FILL = f"""
INSERT INTO memory_events ({COLUMNS})
SELECT %(tenant)s, %(memory)s,
    to_char(1767225600000 + n * 1000, 'FM000000000000000') || '#' || substr(md5(n::text), 1, 8),
    encode(substr(sha256(convert_to(concat_ws(E'\\n', %(tenant)s::text, %(memory)s::text, actor,
        session), 'UTF8')), 1, 16), 'hex')::uuid,
    actor, session, 'main', '', '2026-01-01T00:00:00Z'::timestamptz + make_interval(secs => n),
    now(), now() + make_interval(days => 90, secs => n), '{{}}', true, '{{}}',
    %(payload)s::text::json, length(%(payload)s::text), gen_random_uuid(), gen_random_uuid()
FROM (SELECT n, 'actor-' || n / %(session)s / %(actor)s AS actor,
        'session-' || to_char(n / %(session)s, 'FM00000000') AS session
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) n) numbered
"""


def place(number: int) -> tuple[str, str]:
    session = number // EVENTS_OF_SESSION
    return f"actor-{session // SESSIONS_OF_ACTOR}", f"session-{session:08d}"


async def timed(
    times: int, acts: Mapping[str, Callable[[], Awaitable[Any]]]
) -> dict[str, tuple[float, float]]:
    """p50 and p95, in milliseconds. In turns: a busy machine is busy for all of them."""
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(times):
        for name, act in acts.items():
            start = time.perf_counter()
            await act()
            taken[name].append((time.perf_counter() - start) * 1e3)
    cuts = {name: statistics.quantiles(each, n=20) for name, each in taken.items()}
    return {name: (each[9], each[18]) for name, each in cuts.items()}


async def pages(
    pool: PostgresDatabase, acts: Mapping[str, Callable[[], Awaitable[Any]]]
) -> dict[str, float]:
    """Of 8 kB, that one of each reads or writes, in memory or not."""
    found = {}
    for name, act in acts.items():
        for _ in range(_COUNTED // 4):  # statements are prepared, catalogues read
            await act()
        before = await _pages(pool)
        for _ in range(_COUNTED):
            await act()
        found[name] = (await _pages(pool) - before) / _COUNTED
    return found


async def _pages(pool: PostgresDatabase) -> int:
    """Each connection tells what it did a second later at the most, once it does something else."""
    await asyncio.sleep(1.1)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(_CONNECTIONS):
            connection = await stack.enter_async_context(pool.connection())
            await connection.execute("SELECT pg_stat_force_next_flush()")
        rows = await connection.execute(
            "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
        )
        return int((await rows.fetchall())[0][0])


async def measure(
    pool: PostgresDatabase, size: int, times: int
) -> dict[str, tuple[float, float, float]]:
    log = EventLog(pool, memories=OneMemory(), learning=NothingLearned())

    def somewhere() -> tuple[str, str]:
        return place(secrets.randbelow(size))

    async def append() -> None:
        actor, session = somewhere()
        await log.create(
            TENANT,
            NewEvent(
                memory_id=MEMORY_ID, actor_id=actor, session_id=session, at=datetime.now(UTC),
                payload=[{"conversational": {"content": {"text": TEXT}, "role": "USER"}}],
                client_token=str(uuid.uuid4()),
            ),
        )  # fmt: skip

    async def listed() -> None:
        page = await log.page(TENANT, MEMORY_ID, *somewhere(), EventFilter(), limit=20)
        assert len(page.items) == 20

    async def sessions() -> None:
        await log.sessions(TENANT, MEMORY_ID, somewhere()[0], limit=20)

    async def actors() -> None:
        await log.actors(TENANT, MEMORY_ID, limit=20)

    async def plain() -> None:
        async with pool.transaction() as connection:
            await connection.execute(
                "INSERT INTO plain (id, payload) VALUES (%s, %s)", (uuid.uuid4(), TEXT)
            )

    acts = {
        "append": append, "list 20": listed, "sessions": sessions, "actors": actors,
        "plain INSERT": plain,
    }  # fmt: skip
    counted = await pages(pool, acts)
    took = await timed(times, acts)
    return {name: (*took[name], counted[name]) for name in acts}


async def run(sizes: list[int], times: int) -> None:
    async with database() as (_, pool):
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE plain (id uuid PRIMARY KEY, payload text)")
        filled = 0
        print(f"{'events':>10}  {'what':<13} {'p50 ms':>8} {'p95 ms':>8} {'pages':>8}")
        for size in sorted(sizes):
            await fill(pool, filled, size)
            filled = size
            for name, (p50, p95, touched) in (await measure(pool, size, times)).items():
                figures = f"{p50:>8.2f} {p95:>8.2f} {touched:>8.1f}"
                print(f"{size:>10,}  {name:<13} {figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--times", type=int, default=500)
    arguments = parser.parse_args()
    loop_runner()(run(arguments.sizes, arguments.times))


if __name__ == "__main__":
    main()
