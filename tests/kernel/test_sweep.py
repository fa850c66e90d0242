"""What is too old goes: at the start, again and again, whatever fails."""

import asyncio
import logging

import pytest

from freehold.kernel.errors import Unavailable
from freehold.kernel.sweep import HOUR_SECONDS, Sweep


class Store:
    """Batches that are left, and what happens instead of the next ones."""

    def __init__(self, *batches: int, troubles: tuple[Exception, ...] = ()) -> None:
        self.batches, self.troubles = list(batches), list(troubles)
        self.calls, self.empty = 0, asyncio.Event()

    async def remove(self) -> int | None:
        self.calls += 1
        if self.troubles:
            raise self.troubles.pop(0)
        if self.batches:
            return self.batches.pop(0)
        self.empty.set()
        return 0

    async def left_empty(self) -> None:
        async with asyncio.timeout(30):
            await self.empty.wait()


async def test_all_of_everything_goes_at_the_start() -> None:
    first, second = Store(3, 2), Store(1)
    sweep = Sweep("lines", first.remove, second.remove, every_seconds=HOUR_SECONDS)
    await sweep.start()
    await second.left_empty()
    await sweep.close()
    assert (first.calls, second.calls) == (3, 2)


async def test_it_comes_again() -> None:
    store = Store()
    sweep = Sweep("lines", store.remove, every_seconds=0.001)
    await sweep.start()
    await store.left_empty()
    store.batches, store.empty = [7], asyncio.Event()
    await store.left_empty()
    await sweep.close()
    assert store.batches == []


@pytest.mark.parametrize("trouble", [Unavailable("the database is away"), ValueError("odd")])
async def test_what_fails_is_told_and_done_the_next_time(
    trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failing, other = Store(2, troubles=(trouble,)), Store(2)
    sweep = Sweep("old lines", failing.remove, other.remove, every_seconds=0.001)
    with caplog.at_level(logging.WARNING, logger="freehold.sweep"):
        await sweep.start()
        await failing.left_empty()
        await other.left_empty()
        await sweep.close()
    assert failing.batches == other.batches == []
    assert [record.getMessage()[:23] for record in caplog.records] == ["old lines stay for now" + (
        ":" if isinstance(trouble, Unavailable) else ""
    )]  # fmt: skip


async def test_who_asks_for_it_now_hears_what_fails() -> None:
    store = Store(4, troubles=(Unavailable("the database is away"),))
    sweep = Sweep("lines", store.remove, every_seconds=HOUR_SECONDS)
    with pytest.raises(Unavailable):
        await sweep.sweep()
    await sweep.sweep()
    assert store.batches == []


async def test_it_ends_in_the_middle_of_a_removal() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def endless() -> int:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 0

    sweep = Sweep("lines", endless, every_seconds=HOUR_SECONDS)
    await sweep.start()
    await began.wait()
    async with asyncio.timeout(30):
        await sweep.close()
    assert ended.is_set()


async def test_one_that_never_began_ends() -> None:
    await Sweep("lines", Store().remove, every_seconds=HOUR_SECONDS).close()
