"""A collector of telemetry elsewhere, that the operator has it sent to."""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from freehold.ports.spans import SpanRecord
from freehold.ports.telemetry import LogRecord, MetricPoint

Signal = Literal["traces", "logs", "metrics"]
SIGNALS: tuple[Signal, ...] = ("traces", "logs", "metrics")


class Taken(msgspec.Struct, frozen=True):
    """It has them, all but `refused`, about which it says why."""

    refused: int = 0
    why: str = ""


class NotNow(msgspec.Struct, frozen=True):
    """They may be sent again. `after_seconds`: it asked for so much time."""

    why: str
    after_seconds: float | None = None


class Never(msgspec.Struct, frozen=True):
    """Sent again they would be refused again. `too_large`: fewer at once may pass."""

    why: str
    too_large: bool = False


Outcome = Taken | NotNow | Never


class Collector(Protocol):
    """Never raises for what the collector, or the way to it, does. No `why` has a secret in it."""

    async def send_spans(self, spans: Sequence[SpanRecord]) -> Outcome: ...

    async def send_logs(self, records: Sequence[LogRecord]) -> Outcome: ...

    async def send_points(self, points: Sequence[MetricPoint]) -> Outcome: ...
