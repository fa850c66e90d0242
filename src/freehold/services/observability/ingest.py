"""Everything that comes in goes through here: normalised facts, the content policy, one durable
write for many senders."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from freehold.kernel import tracing
from freehold.ports.exports import Signal
from freehold.ports.signals import NoSignals, Signals
from freehold.ports.spans import Facts, Origin, SpanRecord
from freehold.ports.telemetry import LogRecord, MetricPoint
from freehold.services.observability.content import ContentPolicy, Handling
from freehold.services.observability.gathering import Gathering
from freehold.services.observability.ports import Writer
from freehold.services.observability.recording import OwnSpans

R = TypeVar("R", SpanRecord, LogRecord, MetricPoint)

# How many are worked on before other requests of this worker get their turn: a few milliseconds.
AT_ONCE = 64
_BYTES_MAX = 64 << 20
_ITEMS_MAX = {"traces": 50_000, "logs": 100_000, "metrics": 200_000}
_ASSUMED_BYTES = 1024
_QUEUE = "freehold_telemetry_queue_items"
_OWN = "freehold."


class Prices(Protocol):
    async def ready(self, spans: Sequence[SpanRecord]) -> None:
        """Before the first that costs something: what takes long is done elsewhere."""

    def facts_of(self, span: SpanRecord) -> Facts: ...


class Ingest:
    """`prices` know the facts of a span and what it cost. `close` after the last request.

    Attributes that begin with `freehold.` say what the platform did and decided: of anybody else
    they are not taken.
    """

    def __init__(
        self,
        spans: Writer[SpanRecord],
        logs: Writer[LogRecord],
        points: Writer[MetricPoint],
        *,
        content: ContentPolicy,
        prices: Prices,
        signals: Signals | None = None,
        bytes_max: int = _BYTES_MAX,
        spans_max: int = _ITEMS_MAX["traces"],
    ) -> None:
        self._content, self._prices = content, prices
        signals = signals or NoSignals()

        def held(signal: Signal) -> Callable[[int], None]:
            return partial(signals.set, _QUEUE, signal=signal)

        self._spans: Gathering[SpanRecord] = Gathering(
            spans.write, items_max=spans_max, bytes_max=bytes_max, name="spans",
            held=held("traces"),
        )  # fmt: skip
        self._logs: Gathering[LogRecord] = Gathering(
            logs.write, items_max=_ITEMS_MAX["logs"], bytes_max=bytes_max, name="log records",
            held=held("logs"),
        )  # fmt: skip
        self._points: Gathering[MetricPoint] = Gathering(
            points.write, items_max=_ITEMS_MAX["metrics"], bytes_max=bytes_max, name="points",
            held=held("metrics"),
        )  # fmt: skip
        self._own = OwnSpans(self.take, signals=signals)

    def check_room(self, signal: Signal, size_bytes: int) -> None:
        """Before any work is done for a request. Raises Throttled."""
        of: dict[Signal, Gathering[SpanRecord] | Gathering[LogRecord] | Gathering[MetricPoint]] = {
            "traces": self._spans, "logs": self._logs, "metrics": self._points,
        }  # fmt: skip
        of[signal].check(size_bytes)

    async def take(self, spans: Sequence[SpanRecord], *, size_bytes: int = 0) -> None:
        """Durable on return. Raises Throttled, Unavailable; then nothing of it may be there, and
        it may be sent again: a span that is there already changes nothing."""
        await self._prices.ready(spans)
        kept = await self._handled(spans, self._span)
        await self._spans.put(kept, size_bytes or len(kept) * _ASSUMED_BYTES)

    async def take_logs(self, records: Sequence[LogRecord], *, size_bytes: int = 0) -> None:
        kept = await self._handled(records, lambda record, handling: handling.log(record))
        await self._logs.put(kept, size_bytes or len(kept) * _ASSUMED_BYTES)

    async def take_points(self, points: Sequence[MetricPoint], *, size_bytes: int = 0) -> None:
        kept = await self._handled(points, lambda point, handling: handling.point(point))
        await self._points.put(kept, size_bytes or len(kept) * _ASSUMED_BYTES)

    def record(self, span: tracing.Span) -> None:
        """kernel.tracing's Recorder, for the platform's own spans: never waits, may drop."""
        self._own.record(span)

    async def close(self) -> None:
        await self._own.close()
        await asyncio.gather(self._spans.close(), self._logs.close(), self._points.close())

    def _span(self, span: SpanRecord, handling: Handling) -> SpanRecord:
        facts = self._prices.facts_of(span)
        attributes = span.attributes
        if span.origin != "platform":
            if facts.metered:
                facts = msgspec.structs.replace(facts, metered=False)
            if any(name.startswith(_OWN) for name in attributes):
                attributes = {k: v for k, v in attributes.items() if not k.startswith(_OWN)}
        return handling.span(msgspec.structs.replace(span, facts=facts, attributes=attributes))

    async def _handled(self, items: Sequence[R], handle: Callable[[R, Handling], R]) -> list[R]:
        known: dict[tuple[str, str, Origin], Handling] = {}
        kept: list[R] = []
        for number, item in enumerate(items):
            if number and number % AT_ONCE == 0:
                await asyncio.sleep(0)
            whose = (item.tenant, item.agent_id, item.origin)
            handling = known.get(whose)
            if handling is None:
                handling = known[whose] = await self._content.handling(*whose)
            kept.append(handle(item, handling))
        return kept
