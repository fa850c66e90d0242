"""What is counted on its way into the stores."""

from collections.abc import Sequence
from typing import Generic, Literal, Protocol, TypeVar

from freehold.ports.signals import Signals

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
_FAMILY = "freehold_telemetry_items_total"


class Writer(Protocol[T_contra]):
    async def write(self, items: Sequence[T_contra], /) -> None: ...


class CountedWrites(Generic[T]):
    def __init__(
        self, store: Writer[T], signals: Signals, signal: Literal["traces", "logs", "metrics"]
    ) -> None:
        self._store, self._signals, self._signal = store, signals, signal

    async def write(self, items: Sequence[T], /) -> None:
        outcome = "refused"
        try:
            await self._store.write(items)
            outcome = "taken"
        finally:
            self._signals.add(_FAMILY, len(items), signal=self._signal, outcome=outcome)
