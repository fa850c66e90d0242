"""Spans counted on their way into the store."""

from collections.abc import Sequence
from typing import Protocol

from freehold.ports.signals import Signals
from freehold.ports.spans import SpanRecord

_FAMILY = "freehold_telemetry_items_total"


class SpanWriter(Protocol):
    async def write(self, spans: Sequence[SpanRecord]) -> None: ...


class CountedWrites:
    def __init__(self, spans: SpanWriter, signals: Signals) -> None:
        self._spans, self._signals = spans, signals

    async def write(self, spans: Sequence[SpanRecord]) -> None:
        outcome = "refused"
        try:
            await self._spans.write(spans)
            outcome = "taken"
        finally:
            self._signals.add(_FAMILY, len(spans), signal="traces", outcome=outcome)
