"""What a rate limit costs: takes a second, and CPU of the API worker and of Postgres for one.

    .venv/bin/python benchmarks/limits.py [--takes 4000]

Beside a bare limit in the same run: the shortest statement that counts (one row, one UPSERT) for
each call, through the pool.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from database_under_test import database, loop_runner

from freehold.adapters.limits.limiter import PostgresRateLimiter
from freehold.adapters.postgres.dedicated import DedicatedConnection
from freehold.ports.limits import Limit

_BARE = (
    "INSERT INTO bare_limits AS b VALUES (%s, 1) ON CONFLICT (key) DO UPDATE SET n = b.n + 1"
    " WHERE b.n < 1000000000 RETURNING 1"
)
Take = Callable[[int], Awaitable[Any]]


async def postgres_cpu_seconds(pool: Any) -> float:
    async with pool.connection() as connection:
        found = await connection.execute("SELECT pg_backend_pid()")
        mine = (await found.fetchone())[0]
    server = int(Path(f"/proc/{mine}/stat").read_text().rsplit(")", 1)[1].split()[1])
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == server or int(entry.name) == server:
                total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


async def measure(pool: Any, name: str, take: Take, takes: int, at_once: int) -> None:
    left, times = takes, []

    async def many() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            await take(left)
            times.append(time.perf_counter() - began)

    await take(0)
    postgres, began, cpu = (
        await postgres_cpu_seconds(pool),
        time.perf_counter(),
        time.process_time(),
    )
    await asyncio.gather(*(many() for _ in range(at_once)))
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    postgres = await postgres_cpu_seconds(pool) - postgres
    times.sort()
    print(
        f"| {name} | {at_once} | {takes / seconds:,.0f} | {statistics.median(times) * 1e3:.2f}"
        f" | {times[int(len(times) * 0.99)] * 1e3:.2f} | {cpu / takes * 1e6:.0f}"
        f" | {postgres / takes * 1e6:.0f} |"
    )


async def run(takes: int) -> None:
    async with database() as (dsn, pool):
        async with pool.connection() as connection:
            await connection.execute(
                "CREATE UNLOGGED TABLE bare_limits (key text PRIMARY KEY, n bigint)"
            )
        lane = DedicatedConnection(dsn, application_name="limits")
        limiter = PostgresRateLimiter(lane)
        await limiter.start()
        plenty = 1e6

        async def bare(_: int) -> None:
            async with pool.connection() as connection:
                await connection.execute(_BARE, ("hot",))

        async def hot(_: int) -> None:
            await limiter.take([Limit(key="hot", amount=plenty, seconds=60)])

        async def refused(_: int) -> None:
            await limiter.take([Limit(key="refused", amount=3, seconds=60)])

        async def many(n: int) -> None:
            await limiter.take([Limit(key=f"k{n % 500}", amount=plenty, seconds=60)])

        async def three(n: int) -> None:
            user = Limit(key=f"user{n % 100}", amount=plenty, seconds=60)
            tool = Limit(key=f"tool{n % 10}", amount=plenty, seconds=1)
            tokens = Limit(key="tokens", amount=plenty, seconds=60, cost=0)
            await limiter.take([user, tool, tokens])

        print("| limits | at once | takes/s | p50 ms | p99 ms | worker CPU us | Postgres CPU us |")
        print("|---|---|---|---|---|---|---|")
        for at_once in (1, 32):
            await measure(pool, "bare statement a call", bare, takes, at_once)
            await measure(pool, "one, shared by all", hot, takes, at_once)
            await measure(pool, "one, used up", refused, takes, at_once)
            await measure(pool, "one, of 500", many, takes, at_once)
            await measure(pool, "three a call", three, takes, at_once)
        await limiter.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--takes", type=int, default=4000)
    arguments = parser.parse_args()
    loop_runner()(run(arguments.takes))
