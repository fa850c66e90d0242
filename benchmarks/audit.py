"""What a durable line of the audit costs, and how fast the record is linked, verified and listed.

    .venv/bin/python benchmarks/audit.py [--lines 2000] [--rounds 3] [--filled 100000]

Beside a bare limit in the same run: one INSERT and one commit a line, through the pool. CPU is of
this process (the API worker's share) and of Postgres.
"""

import argparse
import asyncio
import base64
import contextlib
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from database_under_test import database, loop_runner

from freehold.adapters.postgres.dedicated import DedicatedConnection
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.kernel import clock, ids
from freehold.ports.audit import AuditEvent
from freehold.services.audit.linker import Linker
from freehold.services.audit.model import Filter, canonical
from freehold.services.audit.service import AuditTrail
from freehold.services.audit.writer import AuditWriter

TENANT = "123456789012"
PRINCIPALS = [f"arn:aws:iam::{TENANT}:access-key/FHIAKEY{n:04}" for n in range(50)]

Write = Callable[[AuditEvent], Awaitable[None]]


def event(n: int = 0) -> AuditEvent:
    return AuditEvent(
        tenant=TENANT,
        call_id=ids.request_id(),
        phase="outcome",
        at=clock.now(),
        operation="bedrock-agentcore:InvokeAgentRuntime",
        principal=PRINCIPALS[n % len(PRINCIPALS)],
        kind="access_key",
        resource=f"arn:aws:bedrock-agentcore:us-east-1:{TENANT}:runtime/demo{n % 20:02}-abcdefghij",
        source="127.0.0.1",
        outcome="allowed",
        status=200,
        detail={"edge": "aws", "access_key_id": "FHIAKEY"},
    )


async def postgres_cpu_seconds(pool: Any) -> float:
    """Of every process of the server."""
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


async def written(pool: Any, write: Write, lines: int, at_once: int) -> tuple[float, ...]:
    """p50 in ms, lines a second, CPU us a line here, in Postgres."""
    times: list[float] = []
    left = lines

    async def many() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            await write(event(left))
            times.append(time.perf_counter() - began)

    theirs, ours, began = await postgres_cpu_seconds(pool), time.process_time(), time.perf_counter()
    await asyncio.gather(*(many() for _ in range(at_once)))
    wall, ours = time.perf_counter() - began, time.process_time() - ours
    theirs = await postgres_cpu_seconds(pool) - theirs
    return statistics.median(times) * 1e3, lines / wall, ours / lines * 1e6, theirs / lines * 1e6


async def compare(pool: Any, writer: AuditWriter, lines: int, rounds: int) -> None:
    async def bare(one: AuditEvent) -> None:
        async with pool.connection() as connection:
            await connection.execute(
                "INSERT INTO bare VALUES (%s, %s, %s)",
                (one.tenant, one.at, canonical(one).decode()),
            )

    async with pool.connection() as connection:
        await connection.execute("CREATE TABLE bare (tenant text, at timestamptz, entry json)")
    print("| lines at once | how | p50 ms | lines/s | CPU us a line here | in Postgres |")
    print("|---|---|---|---|---|---|")
    for at_once in (1, 16, 256):
        ways: dict[str, Write] = {"bare: a commit a line": bare, "the audit": writer.write}
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, write in ways.items():
                found[name].append(await written(pool, write, lines, at_once))
        for name, figures in found.items():
            p50, rate, ours, theirs = (statistics.median(f) for f in zip(*figures, strict=True))
            print(f"| {at_once} | {name} | {p50:.2f} | {rate:.0f} | {ours:.0f} | {theirs:.0f} |")


async def timed(title: str, act: Callable[[], Awaitable[Any]], divided_by: int = 1) -> None:
    began = time.perf_counter()
    await act()
    seconds = (time.perf_counter() - began) / divided_by
    print(f"| {title} | {seconds * 1e6:.0f} us |" if divided_by > 1 else
          f"| {title} | {seconds * 1e3:.1f} ms |")  # fmt: skip


async def reading(pool: Any, trail: AuditTrail, filled: int) -> None:
    async with pool.connection() as connection:
        await connection.execute("ANALYZE")

    async def verify() -> None:
        steps = [step async for step in trail.verify(TENANT)]
        assert steps[-1].holds, steps[-1]  # type: ignore[union-attr]

    print(f"\nwith {filled} lines:\n\n| what | takes |\n|---|---|")
    await timed("verifying, a line", verify, filled)
    for title, what in {
        "newest 100": Filter(),
        "newest 100 of a principal": Filter(principal=PRINCIPALS[7]),
        "newest 100 on a resource": Filter(resource=event(3).resource),
        "the call of a request id": Filter(call_id=ids.request_id()),
        "denied, of which there are none": Filter(outcome="denied"),
    }.items():
        await timed(title, lambda what=what: trail.page(TENANT, what, limit=100))  # type: ignore[misc]
    async with pool.connection() as connection:
        found = await connection.execute(
            "SELECT pg_total_relation_size('audit_entries') + pg_total_relation_size('audit_links')"
        )
        size = (await found.fetchone())[0] / filled
    print(f"| bytes a line, with its link and indexes | {size:.0f} |")


async def measure(lines: int, rounds: int, filled: int) -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    sealer = EnvelopeSealer(Keyring.parse(f"1:{key}", source="the benchmark"))
    async with database() as (dsn, pool):
        lane = DedicatedConnection(dsn, application_name="benchmark")
        writer = AuditWriter(lane, name="benchmark")
        linker = Linker(pool, writer, sealer)
        trail = AuditTrail(pool, sealer)
        await writer.start()
        await linker.start()
        await compare(pool, writer, lines, rounds)
        so_far = 3 * rounds * lines
        for _ in range(max(0, filled - so_far) // 500):
            await asyncio.gather(*(writer.write(event(n)) for n in range(500)))
        await writer.close()
        await linker.close()
        await reading(pool, trail, max(filled, so_far))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--filled", type=int, default=100_000)
    options = parser.parse_args()
    loop_runner()(measure(options.lines, options.rounds, options.filled))


if __name__ == "__main__":
    main()
