"""The circuit breaker: opens after failures in a row, lets one try, and closes again."""

import asyncio

import pytest

from freehold.ports.targets import TargetFailed
from freehold.services.gateway.breaker import Breakers, Open


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers(failures_max=3, clock=clock)


def fail(breakers: Breakers, key: str = "t", times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(TargetFailed), breakers.of(key, 30):
            raise TargetFailed("no answer")


def test_it_opens_after_failures_in_a_row_and_says_until_when(
    breakers: Breakers, clock: Clock
) -> None:
    fail(breakers, times=2)
    with breakers.of("t", 30) as attempt:
        attempt.went_well()
    fail(breakers, times=3)
    clock.now += 10
    with pytest.raises(Open, match="in 20 seconds") as refused, breakers.of("t", 30):
        raise AssertionError("called although open")
    assert refused.value.seconds == 20
    with breakers.of("other", 30):
        pass


def test_one_call_at_a_time_tries_and_its_success_closes_it(
    breakers: Breakers, clock: Clock
) -> None:
    fail(breakers, times=3)
    clock.now += 31
    with breakers.of("t", 30) as probe:
        with pytest.raises(Open), breakers.of("t", 30):
            pass
        probe.went_well()
    with breakers.of("t", 30), breakers.of("t", 30):
        pass


def test_a_probe_that_fails_opens_it_anew(breakers: Breakers, clock: Clock) -> None:
    fail(breakers, times=3)
    clock.now += 31
    fail(breakers)
    with pytest.raises(Open), breakers.of("t", 30):
        pass


def test_a_probe_that_says_nothing_leaves_the_next_call_to_be_one(
    breakers: Breakers, clock: Clock
) -> None:
    fail(breakers, times=3)
    clock.now += 31
    with pytest.raises(asyncio.CancelledError), breakers.of("t", 30):
        raise asyncio.CancelledError
    with breakers.of("t", 30) as probe:
        probe.went_well()


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (TargetFailed("none"), True),
        (TargetFailed("late", timed_out=True), True),
        (TargetFailed("broken", status=503), True),
        (TargetFailed("bad request", status=400), False),
        (TimeoutError(), True),
        (ValueError(), False),
    ],
)
def test_only_what_is_the_targets_fault_counts(
    breakers: Breakers, error: Exception, counts: bool
) -> None:
    for _ in range(3):
        with pytest.raises(type(error)), breakers.of("t", 30):
            raise error
    assert (breakers.seconds_left("t", 30) > 0) is counts


def test_a_target_may_have_none(breakers: Breakers) -> None:
    fail(breakers, times=3)
    with breakers.of("t", 0):
        pass
