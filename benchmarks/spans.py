"""How fast spans go into Postgres, and how fast lists, traces and series come out of a million.

    .venv/bin/python benchmarks/spans.py [--spans 1000000] [--batch 2000] [--writers 2] [--days 30]

Writing is the store alone, without HTTP and decoding (benchmarks/otlp.py has those). Spans are of
10 a trace and 5 traces a session, over `--days` days, of 10 agents in 3 versions; half a kilobyte
of attributes each. The server is durable, with the embedded server's own settings. CPU is of this
process and of Postgres.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from audit import postgres_cpu_seconds
from database_under_test import database, loop_runner

from freehold.adapters.spans.postgres import PostgresSpans
from freehold.ports.spans import Facts, SeriesWanted, SpanRecord, Wanted

TENANT = "123456789012"
OPERATIONS = (
    "", "invoke_agent", "chat", "execute_tool", "chat", "", "retrieval", "", "policy", "",
)  # fmt: skip
SPANS_OF_TRACE = len(OPERATIONS)
DAY_NS = 86_400 * 10**9
NOW_NS = time.time_ns()
RARE = "only-here"


def trace(chance: random.Random, number: int, at_ns: int) -> list[SpanRecord]:
    trace_id, root = f"{chance.getrandbits(128):032x}", f"{chance.getrandbits(64):016x}"
    agent = f"agent{number % 10}-abcdefghij"
    resource = {
        "service.name": agent, "telemetry.sdk.language": "python", "telemetry.sdk.name":
        "opentelemetry", "telemetry.sdk.version": "1.39.0", "process.pid": number % 20,
    }  # fmt: skip
    found = []
    for step, operation in enumerate(OPERATIONS):
        started = at_ns + step * 3_000_000
        call = operation == "chat"
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.agent.id": agent,
            "server.address": "models.example.internal",
            "deployment": "blue" if number % 50 else "green",
            "request.id": f"{chance.getrandbits(96):024x}",
            "note": "what the agent was about to do next, in some words " * 6,
            **({"oddity": RARE} if number == 1_077 and step == 5 else {}),
        }
        found.append(
            SpanRecord(
                tenant=TENANT,
                trace_id=trace_id,
                span_id=f"{chance.getrandbits(64):016x}" if step else root,
                parent_id=root if step else "",
                name=f"{operation or 'step'} {step}" if step else "InvokeAgentRuntime",
                started_ns=started,
                ended_ns=started + int(chance.lognormvariate(18, 1.5)),
                status=2 if chance.random() < 0.02 else 0,
                origin="agent",
                attributes=attributes,
                resource=resource,
                scope="strands.telemetry",
                agent_id=agent,
                agent_version=str(number % 3),
                endpoint="DEFAULT",
                session_id=f"session-{number // 5:032d}",
                user=f"user{number // 5 % 500}",
                facts=Facts(
                    operation=operation,
                    provider="openai" if call else "",
                    model=("gpt-4o", "claude-sonnet-5")[number % 2] if call else "",
                    tool=f"tool{number % 7}" if operation == "execute_tool" else "",
                    input_tokens=chance.randrange(100, 2_000) if call else 0,
                    output_tokens=chance.randrange(10, 300) if call else 0,
                    cost=chance.random() / 100 if call else None,
                    metered=step == 4,
                ),
            )
        )
    return found


async def fill(
    pool: Any, store: PostgresSpans, options: argparse.Namespace
) -> tuple[list[str], list[float]]:
    """The ids of all traces, and the row of the table. Batches are made outside the clock."""
    chance = random.Random(8)
    traces = options.spans // SPANS_OF_TRACE
    of_batch = options.batch // SPANS_OF_TRACE
    ids: list[str] = []
    wall = ours = theirs = 0.0
    times: list[float] = []

    async def write(mine: list[list[SpanRecord]]) -> None:
        for batch in mine:
            began = time.perf_counter()
            await store.write(batch)
            times.append(time.perf_counter() - began)

    done = 0
    while done < traces:
        batches = []
        for _ in range(10 * options.writers):
            batch: list[SpanRecord] = []
            for number in range(done, min(done + of_batch, traces)):
                at_ns = NOW_NS - int((traces - number) / traces * options.days * DAY_NS)
                batch += trace(chance, number, at_ns)
                ids.append(batch[-1].trace_id)
            done += of_batch
            if batch:
                batches.append(batch)
        cpu, server = time.process_time(), await postgres_cpu_seconds(pool)
        began = time.perf_counter()
        await asyncio.gather(
            *(write(batches[n :: options.writers]) for n in range(options.writers))
        )
        wall += time.perf_counter() - began
        ours += time.process_time() - cpu
        theirs += await postgres_cpu_seconds(pool) - server
    count = len(ids) * SPANS_OF_TRACE
    return ids, [
        count / wall, statistics.median(times) * 1e3, ours / count * 1e6, theirs / count * 1e6,
    ]  # fmt: skip


async def rewritten(pool: Any, store: PostgresSpans, options: argparse.Namespace) -> list[float]:
    """Everything of a batch is there already."""
    chance = random.Random(9)
    batch: list[SpanRecord] = []
    for number in range(options.batch // SPANS_OF_TRACE):
        batch += trace(chance, number, NOW_NS)
    await store.write(batch)
    cpu, server, began = time.process_time(), await postgres_cpu_seconds(pool), time.perf_counter()
    for _ in range(5):
        await store.write(batch)
    wall, count = time.perf_counter() - began, 5 * len(batch)
    return [
        count / wall,
        wall / 5 * 1e3,
        (time.process_time() - cpu) / count * 1e6,
        (await postgres_cpu_seconds(pool) - server) / count * 1e6,
    ]


async def timed(title: str, act: Callable[[], Awaitable[Any]], times: int) -> None:
    found = []
    size = 0
    for _ in range(times):
        began = time.perf_counter()
        size = len(await act())
        found.append((time.perf_counter() - began) * 1e3)
    p95 = sorted(found)[int(0.95 * (len(found) - 1))]
    print(f"| {title} | {size} | {statistics.median(found):.1f} | {p95:.1f} |", flush=True)


async def lists(store: PostgresSpans, ids: list[str], days: int) -> None:
    chance = random.Random(10)
    whole = {"since_ns": NOW_NS - (days + 1) * DAY_NS, "until_ns": NOW_NS + DAY_NS}

    def listed(**values: Any) -> Callable[[], Awaitable[Any]]:
        wanted = Wanted(**{**whole, **values})
        return lambda: _items(store.traces(TENANT, wanted, limit=50))

    def sessions(**values: Any) -> Callable[[], Awaitable[Any]]:
        wanted = Wanted(**{**whole, **values})
        return lambda: _items(store.sessions(TENANT, wanted, limit=50))

    def spans(operation: str, **values: Any) -> Callable[[], Awaitable[Any]]:
        wanted = Wanted(**{**whole, **values})
        return lambda: _items(store.spans(TENANT, wanted, operation=operation, limit=50))

    def series(step: int, **values: Any) -> Callable[[], Awaitable[Any]]:
        wanted = SeriesWanted(**{**whole, "step_seconds": step, **values})
        return lambda: store.series(TENANT, wanted)

    day = {"since_ns": NOW_NS - DAY_NS}
    session = f"session-{len(ids) // 10:032d}"
    await timed("trace by id", lambda: store.trace(TENANT, chance.choice(ids)), 400)
    for title, act, times in (
        ("newest 50 traces", listed(), 40),
        ("newest 50 of an agent", listed(agent_id="agent3-abcdefghij"), 40),
        ("newest 50 of a user", listed(user="user77"), 40),
        ("traces of a session", listed(session_id=session), 40),
        ("newest 50 that failed", listed(status="error"), 40),
        ("newest 50 that took longer than 5 s", listed(duration_ms_min=5_000), 20),
        ("newest 50 with a model and tool", listed(model="gpt-4o", tool="tool3"), 20),
        ("newest 50 with a tag of one in 50", listed(tags={"deployment": "green"}), 20),
        ("newest 50 with a common text", listed(text="ABOUT to do"), 20),
        ("a text that is once in all days", listed(text=RARE.upper()), 2),
        ("a text that is nowhere, of a day", listed(text="nowhere at all", **day), 4),
        ("a tag that is once in all days", listed(tags={"oddity": RARE}), 2),
        ("a filter that holds nowhere", listed(name="nothing"), 10),
        ("newest 50 sessions", sessions(), 10),
        ("newest 50 sessions, of a day", sessions(**day), 10),
        ("newest 50 sessions of a user", sessions(user="user77"), 10),
        ("newest 50 model calls", spans("chat"), 40),
        ("newest 50 tool calls of a tool", spans("execute_tool", tool="tool3"), 40),
        ("series of all days by the day", series(86_400), 10),
        ("series of all days by the hour", series(3_600), 10),
        ("series of all days by hour and agent", series(3_600, by="agent"), 5),
        ("series of model calls by day and model", series(86_400, measured="model_calls",
                                                         by="model"), 10),
        ("series of all spans by day and operation", series(86_400, measured="spans",
                                                           by="operation"), 5),
        ("series of a day by the minute", series(60, **day), 10),
    ):  # fmt: skip
        await timed(title, act, times)


async def _items(page: Awaitable[Any]) -> list[Any]:
    items: list[Any] = (await page).items
    return items


async def sizes(pool: Any, count: int) -> None:
    print("\n| what | bytes a span |\n|---|---|")
    async with pool.connection() as connection:
        for title, tables in {
            "spans": "'spans_2%'", "traces, parts": "'trace%'", "rollups": "'span_%s'",
        }.items():  # fmt: skip
            row = await connection.execute(
                "SELECT sum(pg_table_size(oid)), sum(pg_indexes_size(oid)) FROM pg_class"
                f" WHERE relkind = 'r' AND relname LIKE {tables}".encode()
            )
            table, indexes = await row.fetchone()
            print(f"| {title} | {table / count:.0f} + {indexes / count:.0f} of indexes |")


async def measure(options: argparse.Namespace) -> None:
    async with database() as (_, pool):
        store = PostgresSpans(pool)
        ids, written = await fill(pool, store, options)
        again = await rewritten(pool, store, options)
        print("| writing | spans/s | p50 ms a batch | CPU us a span here | in Postgres |")
        print("|---|---|---|---|---|")
        title = f"batches of {options.batch}, {options.writers} at once"
        for name, row in ((title, written), ("a batch that is there already, 1 at once", again)):
            print(f"| {name} | {row[0]:,.0f} | {row[1]:.0f} | {row[2]:.1f} | {row[3]:.1f} |")
        async with pool.connection() as connection:
            await connection.execute("VACUUM ANALYZE")
        print(f"\nwith {len(ids) * SPANS_OF_TRACE:,} spans of {options.days} days:\n")
        print("| reading | rows | p50 ms | p95 ms |\n|---|---|---|---|")
        await lists(store, ids, options.days)
        await sizes(pool, len(ids) * SPANS_OF_TRACE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=2_000)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--days", type=int, default=30)
    loop_runner()(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
