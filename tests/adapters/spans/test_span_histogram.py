"""Slots of durations."""

import math
import random

import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.spans import histogram


@pytest.mark.parametrize("duration_ns", [2, 999, 10**6, 37 * 10**9, 86_400 * 10**9])
def test_the_middle_of_a_slot_is_close_to_what_it_holds(duration_ns: int) -> None:
    (told,) = histogram.percentiles_ms({histogram.slot(duration_ns): 1}, 0.5)
    assert told == pytest.approx(duration_ns / 1e6, rel=0.05)


def test_longer_is_never_in_an_earlier_slot_and_all_are_few() -> None:
    slots = [histogram.slot(n) for n in [-5, 0, *(2**k for k in range(64)), 2**64]]
    assert slots == sorted(slots)
    assert slots[0] == 0 and slots[-1] < histogram.SLOTS_MAX < 600


def test_percentiles_are_those_by_rank() -> None:
    chance = random.Random(5)
    durations = [int(chance.lognormvariate(15, 3)) + 2 for _ in range(999)]
    counts: dict[int, int] = {}
    for each in durations:
        counts[histogram.slot(each)] = counts.get(histogram.slot(each), 0) + 1
    parts = (0.001, 0.25, 0.5, 0.9, 1.0)
    ordered = sorted(durations)
    for part, told in zip(parts, histogram.percentiles_ms(counts, *parts), strict=True):
        true = ordered[math.ceil(part * len(ordered)) - 1]
        assert told == pytest.approx(true / 1e6, rel=0.05)


async def test_histograms_add_up_as_numbers(database: PostgresDatabase) -> None:
    chance = random.Random(6)
    several = [
        {chance.randrange(histogram.SLOTS_MAX): chance.randrange(1, 10**10) for _ in range(size)}
        for size in (1, 1, 3, 40, 300)
    ] + [{0: 1}, {0: 10_000, 1: 10**8}, {histogram.SLOTS_MAX: 1}]
    added: dict[int, int] = {}
    for counts in several:
        for slot, count in counts.items():
            added[slot] = added.get(slot, 0) + count
    for some, all_of_them in [*(([each], each) for each in several), (several, added)]:
        async with database.connection() as connection:
            rows = await connection.execute(
                "SELECT numeric_send(sum(n)) FROM unnest(%s::numeric[]) n",
                ([histogram.packed(counts) for counts in some],),
            )
            row = await rows.fetchone()
        assert row is not None and histogram.unpacked(row[0]) == all_of_them


def test_of_nothing_there_are_no_percentiles() -> None:
    assert histogram.percentiles_ms({}, 0.5, 0.99) == [None, None]
