"""OTLP requests, from a body to the stores: `ports.exports.Exports`, and the doorway's sink."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from freehold.kernel.errors import Throttled
from freehold.kernel.session import DoorwaySession
from freehold.ports.exports import Signal, Source, Taken, source_of
from freehold.services.observability.inflating import inflated
from freehold.services.observability.ingest import AT_ONCE, Ingest
from freehold.services.observability.otlp_decoding import Bounds, logs, spans
from freehold.services.observability.otlp_metrics import points
from freehold.services.observability.otlp_values import NotTaken

JSON = "application/json"
_REASONS_TOLD = 3
_DAY_NS = 86400 * 10**9
# Decoding is this worker's own time: more at once would end no earlier, and hold more memory.
_DECODED_AT_ONCE = 2
_WAITING_BYTES_MAX = 64 << 20
_DECODERS: dict[Signal, Callable[..., Iterator[Any]]] = {
    "traces": spans, "logs": logs, "metrics": points,
}  # fmt: skip


class ExportService:
    """`days_max`: how far back telemetry may be of, which is what the stores keep."""

    def __init__(self, ingest: Ingest, *, days_max: int = 30) -> None:
        self._ingest, self._days_max = ingest, days_max
        self._turn = asyncio.Semaphore(_DECODED_AT_ONCE)
        self._waiting_bytes = 0

    async def take(
        self, source: Source, signal: Signal, body: bytes, *, content_type: str, encoding: str
    ) -> Taken:
        self._ingest.check_room(signal, len(body))
        if self._waiting_bytes and self._waiting_bytes + len(body) > _WAITING_BYTES_MAX:
            raise Throttled("too much telemetry waits to be read; send it again shortly")
        self._waiting_bytes += len(body)
        try:
            async with self._turn:
                data = await inflated(body, encoding)
                kept, refused = await self._decoded(source, signal, data, content_type == JSON)
        finally:
            self._waiting_bytes -= len(body)
        if signal == "traces":
            await self._ingest.take(kept, size_bytes=len(data))
        elif signal == "logs":
            await self._ingest.take_logs(kept, size_bytes=len(data))
        else:
            await self._ingest.take_points(kept, size_bytes=len(data))
        return _taken(refused)

    async def _decoded(
        self, source: Source, signal: Signal, data: bytes, json: bool
    ) -> tuple[list[Any], Counter[str]]:
        bounds = Bounds(now_ns=time.time_ns(), age_ns_max=self._days_max * _DAY_NS)
        kept: list[Any] = []
        refused: Counter[str] = Counter()
        for number, item in enumerate(_DECODERS[signal](data, source, bounds, json=json)):
            if number and number % AT_ONCE == 0:
                await asyncio.sleep(0)
            if isinstance(item, NotTaken):
                refused[str(item)] += 1
            else:
                kept.append(item)
        return kept, refused


class SessionTelemetry:
    """The doorway's `TelemetrySink`: what a sandbox sends is its own session's in any case."""

    def __init__(self, exports: ExportService) -> None:
        self._exports = exports

    async def accept(
        self,
        session: DoorwaySession,
        signal: Signal,
        body: bytes,
        *,
        content_type: str,
        content_encoding: str,
    ) -> Taken:
        return await self._exports.take(
            source_of(session), signal, body,
            content_type=content_type, encoding=content_encoding,
        )  # fmt: skip


def _taken(refused: Counter[str]) -> Taken:
    if not refused:
        return Taken()
    told = [f"{why} ({count})" for why, count in refused.most_common(_REASONS_TOLD)]
    more = len(refused) - len(told)
    return Taken(refused.total(), "; ".join(told) + (f"; {more} more reasons" if more > 0 else ""))
