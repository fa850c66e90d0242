"""A circuit breaker for each target, in each worker: after failures in a row nobody waits for it.

Open, it refuses at once; after its time one call at a time may try, and one that goes well closes
it. No timers: time is looked at when somebody calls.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from freehold.ports.targets import TargetFailed

_FAILURES_MAX = 5
_CIRCUITS_MAX = 10_000
_PROBE_SECONDS_MAX = 120.0
"""A probe that never said how it went does not keep others out any longer."""


class Open(Exception):
    """Not called. The message is for whoever called; `seconds` until it is tried again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            "not called, for its last calls failed; it is tried again in "
            f"{max(1, round(seconds))} seconds"
        )
        self.seconds = seconds


class _Circuit:
    __slots__ = ("failures", "opened_at", "probe_at")

    def __init__(self) -> None:
        self.failures = 0
        self.opened_at: float | None = None
        self.probe_at: float | None = None


class Breakers:
    """Of one worker. Only what failed lately is remembered."""

    def __init__(
        self, *, failures_max: int = _FAILURES_MAX, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures_max, self._clock = failures_max, clock
        self._circuits: dict[str, _Circuit] = {}

    def of(self, key: str, seconds_open: float) -> "Attempt":
        """For one call, `with` it: raises Open on entering. 0 seconds: there is no breaker."""
        return Attempt(self, key, seconds_open)

    def seconds_left(self, key: str, seconds_open: float) -> float:
        """0.0 where a call would be let through."""
        circuit = self._circuits.get(key)
        if circuit is None or circuit.opened_at is None or seconds_open <= 0:
            return 0.0
        now = self._clock()
        left = circuit.opened_at + seconds_open - now
        if left > 0:
            return left
        probing = circuit.probe_at is not None and now - circuit.probe_at < _PROBE_SECONDS_MAX
        return 1.0 if probing else 0.0

    def enter(self, key: str, seconds_open: float) -> bool:
        """Whether this call is the probe of a circuit that was open. Raises Open."""
        circuit = self._circuits.get(key)
        if circuit is None or circuit.opened_at is None or seconds_open <= 0:
            return False
        left = self.seconds_left(key, seconds_open)
        if left > 0:
            raise Open(left)
        circuit.probe_at = self._clock()
        return True

    def went_well(self, key: str) -> None:
        self._circuits.pop(key, None)

    def failed(self, key: str) -> None:
        circuit = self._circuits.get(key)
        if circuit is None:
            if len(self._circuits) >= _CIRCUITS_MAX:
                self._circuits.pop(next(iter(self._circuits)))
            circuit = self._circuits[key] = _Circuit()
        circuit.failures += 1
        circuit.probe_at = None
        if circuit.failures >= self._failures_max:
            circuit.opened_at = self._clock()

    def abandoned(self, key: str) -> None:
        """A probe that ended without saying anything of the target: the next call is one."""
        circuit = self._circuits.get(key)
        if circuit is not None:
            circuit.probe_at = None


class Attempt:
    """One call. What it says is said once; leaving without a word is a failure where the exception
    is one of the target's: a TargetFailed without an answer or with a 5xx, or being late."""

    __slots__ = ("_breakers", "_key", "_probe", "_said", "_seconds_open")

    def __init__(self, breakers: Breakers, key: str, seconds_open: float) -> None:
        self._breakers, self._key, self._seconds_open = breakers, key, seconds_open
        self._said = self._probe = False

    def __enter__(self) -> Self:
        self._probe = self._breakers.enter(self._key, self._seconds_open)
        return self

    def went_well(self) -> None:
        if not self._said:
            self._said = True
            self._breakers.went_well(self._key)

    def failed(self) -> None:
        if not self._said:
            self._said = True
            self._breakers.failed(self._key)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._said and error is not None and _is_the_targets(error):
            self.failed()
        if not self._said and self._probe:
            self._breakers.abandoned(self._key)


def _is_the_targets(error: BaseException) -> bool:
    if isinstance(error, TargetFailed):
        return error.timed_out or error.status is None or error.status >= 500
    return isinstance(error, TimeoutError)
