"""`ports.signals.Signals` into the slots of this process's file."""

import threading
from bisect import bisect_left
from pathlib import Path

from freehold.adapters.signals.slots import Slots
from freehold.ports.signals import FAMILIES

SUFFIX = ".signals"
BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
"""Upper bounds, in seconds."""
_LOST = "freehold_signals_lost_total"
_BOUNDS = [f"{bound:g}" for bound in BUCKETS] + ["+Inf"]


class SharedSignals:
    """`name` is the process's own, the same after a restart (`api-0`). `directory` is one for all
    processes of the machine."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._slots = Slots(directory / f"{name}{SUFFIX}")
        self._lock = threading.Lock()
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], int | None] = {}
        self._histograms: dict[tuple[str, tuple[tuple[str, str], ...]], _Histogram | None] = {}
        lost = self._slots.place(_LOST)
        assert lost is not None, "the first of all has room"
        self._lost = lost
        for series, place in self._slots.names.items():
            if FAMILIES.get(series.partition("{")[0], FAMILIES[_LOST]).kind == "gauge":
                self._slots.set(place, 0.0)

    def observe(self, service: str, operation: str, status: int, seconds: float) -> None:
        hundred = f"{status // 100}xx" if status else "gone"
        self.add("freehold_requests_total", service=service, operation=operation, status=hundred)
        self.measure("freehold_request_seconds", seconds, service=service, operation=operation)

    def in_flight(self, service: str, change: int) -> None:
        self.add("freehold_requests_in_flight", change, service=service)

    def add(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        with self._lock:
            place = self._place(name, labels)
            if place is None:
                self._slots.add(self._lost, 1.0)
            else:
                self._slots.add(place, amount)

    def set(self, name: str, value: float, /, **labels: str) -> None:
        with self._lock:
            place = self._place(name, labels)
            if place is None:
                self._slots.add(self._lost, 1.0)
            else:
                self._slots.set(place, value)

    def measure(self, name: str, value: float, /, **labels: str) -> None:
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            if key not in self._histograms:
                self._histograms[key] = self._histogram(name, labels)
            histogram = self._histograms[key]
            if histogram is None:
                self._slots.add(self._lost, 1.0)
            else:
                histogram.measure(value)

    def close(self) -> None:
        self._slots.close()

    def _place(self, name: str, labels: dict[str, str]) -> int | None:
        key = (name, tuple(sorted(labels.items())))
        if key not in self._series:
            self._series[key] = self._slots.place(series(name, labels))
        return self._series[key]

    def _histogram(self, name: str, labels: dict[str, str]) -> "_Histogram | None":
        _check(name, labels)
        places = [
            self._slots.place(f"{name}_bucket{rendered({**labels, 'le': bound})}")
            for bound in _BOUNDS
        ]
        places += [self._slots.place(f"{name}_{end}{rendered(labels)}") for end in ("sum", "count")]
        known = [place for place in places if place is not None]
        return _Histogram(self._slots, known) if len(known) == len(places) else None


class _Histogram:
    """Each bucket holds its own alone; they are summed up where they are shown."""

    def __init__(self, slots: Slots, places: list[int]) -> None:
        self._slots = slots
        *self._buckets, self._sum, self._count = places

    def measure(self, value: float) -> None:
        self._slots.add(self._buckets[bisect_left(BUCKETS, value)], 1.0)
        self._slots.add(self._sum, value)
        self._slots.add(self._count, 1.0)


def series(name: str, labels: dict[str, str]) -> str:
    _check(name, labels)
    return name + rendered(labels)


def rendered(labels: dict[str, str]) -> str:
    """Values that are no plain words become so: nothing of anybody's stands there."""
    if not labels:
        return ""
    pairs = [f'{name}="{_plain(value)}"' for name, value in labels.items()]
    return "{" + ",".join(pairs) + "}"


def _plain(value: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "+-._:") else "_" for c in value[:64])


def _check(name: str, labels: dict[str, str]) -> None:
    assert name in FAMILIES, f"{name} is no family"
    assert set(labels) == set(FAMILIES[name].labels), f"{name} has other labels"
