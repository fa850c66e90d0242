"""Telemetry sent on to the operator's collector: out of a durable queue, at least once, by one
worker at a time, and never in the way of who brings it."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import zstandard

from freehold.kernel.errors import Unavailable
from freehold.kernel.threads import in_thread
from freehold.ports.collector import Collector, Never, NotNow, Outcome, Signal, Taken
from freehold.ports.database import Connection, Database
from freehold.ports.spans import SpanRecord
from freehold.ports.telemetry import LogRecord, MetricPoint
from freehold.services.observability.forwarding_store import (
    CHANNEL,
    ForwardingQueue,
    Held,
    Status,
    Waiting,
)

log = logging.getLogger("freehold.forwarding")

R = TypeVar("R", SpanRecord, LogRecord, MetricPoint)

_BATCH_ITEMS = 256
_BATCH_BYTES = 2 << 20
_REQUEST_ITEMS = 1024
_BACKOFF_SECONDS = 1.0
_BACKOFF_SECONDS_MAX = 60.0
_ASKED_SECONDS_MAX = 600.0
_DATABASE_PAUSE_SECONDS = 1.0
# Another worker sends: it may die, and then there is nobody who would say so.
_TAKE_OVER_SECONDS = 15.0
_UNPACKED_BYTES_MAX = 1 << 30
_DROP_SECONDS = 60.0


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Of what waits for a collector that does not take it: the oldest goes beyond."""

    hours: float = 24.0
    mib: int = 1024


class _Kind(NamedTuple):
    decoder: "msgspec.msgpack.Decoder[list[Any]]"
    send: Callable[[Sequence[Any]], Awaitable[Outcome]]
    called: str


class Forwarding:
    """`signals` are those sent on; where `accounts` are said, of those alone. `start` it after
    the database, `close` before it."""

    def __init__(
        self,
        database: Database,
        collector: Collector,
        *,
        signals: Sequence[Signal],
        bounds: Bounds | None = None,
        accounts: frozenset[str] = frozenset(),
        backoff_seconds: float = _BACKOFF_SECONDS,
        take_over_seconds: float = _TAKE_OVER_SECONDS,
    ) -> None:
        self._database = database
        self._queue = ForwardingQueue(database)
        self._bounds = bounds or Bounds()
        self._signals, self._accounts = tuple(signals), accounts
        self._backoff_seconds = backoff_seconds
        self._take_over_seconds = take_over_seconds
        self._wake = {signal: asyncio.Event() for signal in self._signals}
        self._tasks: list[asyncio.Task[None]] = []
        self._told: dict[Signal, str] = {}
        self._dropped_at: dict[Signal, float] = {}
        decoder = msgspec.msgpack.Decoder
        self._kinds: dict[Signal, _Kind] = {
            "traces": _Kind(decoder(list[SpanRecord]), collector.send_spans, "spans"),
            "logs": _Kind(decoder(list[LogRecord]), collector.send_logs, "log records"),
            "metrics": _Kind(decoder(list[MetricPoint]), collector.send_points, "points"),
        }

    async def start(self) -> None:
        await self._queue.know(self._signals)
        self._database.listen(CHANNEL, self._heard)
        self._tasks = [
            asyncio.create_task(self._run(signal), name=f"forwarding of {signal}")
            for signal in self._signals
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    async def take_spans(self, spans: Sequence[SpanRecord]) -> None:
        """Durable on return. Raises Unavailable."""
        await self._take("traces", spans)

    async def take_logs(self, records: Sequence[LogRecord]) -> None:
        await self._take("logs", records)

    async def take_points(self, points: Sequence[MetricPoint]) -> None:
        await self._take("metrics", points)

    async def status(self) -> list[Status]:
        return await self._queue.status()

    async def _take(self, signal: Signal, items: Sequence[R]) -> None:
        if signal not in self._wake:
            return
        wanted = [r for r in items if not self._accounts or r.tenant in self._accounts]
        if wanted:
            await self._queue.add(signal, await in_thread(_packed, wanted))

    # -- sending

    def _heard(self, signal: str) -> None:
        for name, event in self._wake.items():
            if signal in ("", name):
                event.set()

    async def _run(self, signal: Signal) -> None:
        event = self._wake[signal]
        while True:
            event.clear()
            pause: float | None
            try:
                pause = await self._step(signal)
            except Unavailable:
                pause = _DATABASE_PAUSE_SECONDS
            except Exception:  # the boundary of a task that has to go on
                log.exception("forwarding of %s failed", signal)
                pause = _BACKOFF_SECONDS_MAX
            if pause == 0:
                continue
            if pause is None:
                await event.wait()
            else:
                # News do not end it: the collector is left alone, or another worker is at it.
                await asyncio.sleep(pause)

    async def _step(self, signal: Signal) -> float | None:
        """One request, or more where one was too large. How long to wait then; None: for news."""
        async with self._queue.held(signal) as found:
            if found is None:
                return self._take_over_seconds
            connection, held = found
            if held.wait_seconds > 0:
                return held.wait_seconds
            await self._drop(connection, signal)
            waiting = await self._queue.next(connection, signal, items_max=_REQUEST_ITEMS)
            if not waiting:
                return None
            return await self._forward(connection, signal, held, waiting)

    async def _forward(
        self, connection: Connection, signal: Signal, held: Held, waiting: Sequence[Waiting]
    ) -> float:
        kind = self._kinds[signal]
        items = await in_thread(_unpacked, kind.decoder, [each.batch for each in waiting])
        outcome = await self._sent(kind, items)
        if isinstance(outcome, NotNow):
            pause = self._pause(held.failures, outcome.after_seconds)
            await self._queue.failed(connection, signal, outcome.why, wait_seconds=pause)
            if self._told.get(signal) != outcome.why:
                self._told[signal] = outcome.why
                log.warning("%s wait for the collector: %s", kind.called, outcome.why)
            return pause
        if outcome.refused:
            log.warning(
                "the collector refused %d of %d %s: %s",
                outcome.refused, len(items), kind.called, outcome.why or "it does not say why",
            )  # fmt: skip
        ids = [each.id for each in waiting]
        sent = len(items) - outcome.refused
        await self._queue.done(connection, signal, ids, sent=sent, refused=outcome.refused)
        if self._told.pop(signal, None) is not None:
            log.warning("the collector takes %s again", kind.called)
        return 0

    async def _sent(self, kind: _Kind, items: Sequence[Any]) -> Taken | NotNow:
        """In halves where they are too large together."""
        outcome = await kind.send(items)
        if not isinstance(outcome, Never):
            return outcome
        if len(items) == 1 or not (outcome.too_large or len(items) > _BATCH_ITEMS):
            return Taken(len(items), outcome.why)
        middle = len(items) // 2
        refused, why = 0, ""
        for half in (items[:middle], items[middle:]):
            part = await self._sent(kind, half)
            if isinstance(part, NotNow):
                return part
            refused, why = refused + part.refused, part.why or why
        return Taken(refused, why)

    def _pause(self, failures: int, asked_seconds: float | None) -> float:
        own = min(self._backoff_seconds * 2.0 ** min(failures, 20), _BACKOFF_SECONDS_MAX)
        own *= random.uniform(0.8, 1.2)  # noqa: S311 - no secret hangs on it
        return max(own, min(asked_seconds or 0.0, _ASKED_SECONDS_MAX))

    async def _drop(self, connection: Connection, signal: Signal) -> None:
        now = time.monotonic()
        if now < self._dropped_at.get(signal, -_DROP_SECONDS) + _DROP_SECONDS:
            return
        self._dropped_at[signal] = now
        gone = await self._queue.drop(
            connection, signal,
            seconds_max=self._bounds.hours * 3600, bytes_max=self._bounds.mib << 20,
        )  # fmt: skip
        if gone:
            log.warning(
                "%d %s went unsent: they waited for the collector for more than %g hours, or were "
                "more than %d MiB",
                gone, self._kinds[signal].called, self._bounds.hours, self._bounds.mib,
            )  # fmt: skip


def _packed(items: Sequence[Any]) -> list[tuple[int, bytes]]:
    """In batches that are bounded in items and in bytes: what is large comes alone."""
    compressor = zstandard.ZstdCompressor(level=1)
    packed: list[tuple[int, bytes]] = []
    batch: list[msgspec.Raw] = []
    size = 0
    for number, item in enumerate(items, 1):
        raw = msgspec.msgpack.encode(item)
        batch.append(msgspec.Raw(raw))
        size += len(raw)
        if number == len(items) or size >= _BATCH_BYTES or len(batch) == _BATCH_ITEMS:
            packed.append((len(batch), compressor.compress(msgspec.msgpack.encode(batch))))
            batch, size = [], 0
    return packed


def _unpacked(decoder: "msgspec.msgpack.Decoder[list[Any]]", batches: Sequence[bytes]) -> list[Any]:
    decompressor = zstandard.ZstdDecompressor()
    return [
        item
        for batch in batches
        for item in decoder.decode(
            decompressor.decompress(batch, max_output_size=_UNPACKED_BYTES_MAX)
        )
    ]
