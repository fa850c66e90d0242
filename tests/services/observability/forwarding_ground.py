"""Forwarding over the real queue to a collector on loopback."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from freehold.adapters.otlp.exporter import OtlpExporter
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.ports.spans import SpanRecord
from freehold.services.observability.forwarding import Forwarding
from freehold.services.observability.forwarding_store import ForwardingQueue, Status

NOW = 1_790_000_000_000_000_000
TENANT = "111122223333"
KEY = "secret-of-the-collector"


def a_span(**more: Any) -> SpanRecord:
    given: dict[str, Any] = {
        "tenant": TENANT, "trace_id": secrets.token_hex(16), "span_id": secrets.token_hex(8),
        "name": "chat", "started_ns": NOW, "ended_ns": NOW + 5, "origin": "agent",
    }  # fmt: skip
    return SpanRecord(**{**given, **more})


def some(count: int, **more: Any) -> list[SpanRecord]:
    return [a_span(**more) for _ in range(count)]


@asynccontextmanager
async def forwarding(
    database: PostgresDatabase, endpoint: str, *, seconds_max: float = 10, **options: Any
) -> AsyncIterator[Forwarding]:
    exporter = OtlpExporter(
        endpoint, headers={"Authorization": f"Bearer {KEY}"}, seconds_max=seconds_max
    )
    service = Forwarding(
        database, exporter,
        **{"signals": ("traces",), "backoff_seconds": 0.02, "take_over_seconds": 0.05, **options},
    )  # fmt: skip
    await service.start()
    try:
        yield service
    finally:
        await service.close()
        await exporter.close()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.01)


async def state(database: PostgresDatabase) -> Status:
    return next(s for s in await ForwardingQueue(database).status() if s.signal == "traces")


async def settled(database: PostgresDatabase) -> Status:
    async def empty() -> bool:
        return (await state(database)).waiting == 0

    await until(empty)
    return await state(database)


async def waiting_seconds(database: PostgresDatabase) -> float:
    async with database.connection() as connection:
        found = await connection.execute(
            "SELECT extract(epoch FROM not_before - clock_timestamp())::float8"
            " FROM forwarding_state WHERE signal = 'traces'"
        )
        row = await found.fetchone()
    assert row is not None
    return float(row[0])


def plain(pairs: Any) -> dict[str, Any]:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return plain(value.kvlist_value.values)
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    return None if kind is None else getattr(value, kind)
