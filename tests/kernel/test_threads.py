"""Work in threads: whoever is cancelled goes on only when the thread is done."""

import asyncio
import threading

import pytest

from freehold.kernel.threads import in_stoppable_thread, in_thread

SECONDS_MAX = 30


async def test_what_the_work_returns_or_raises_is_the_callers() -> None:
    assert await in_thread(int, "12", base=16) == 18
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "twelve")


async def test_a_cancelled_caller_waits_for_the_thread() -> None:
    began, may_end, ended = threading.Event(), threading.Event(), []

    def work() -> None:
        began.set()
        assert may_end.wait(SECONDS_MAX)
        ended.append(True)

    caller = asyncio.create_task(in_thread(work))
    assert await asyncio.to_thread(began.wait, SECONDS_MAX)
    caller.cancel()
    done, _ = await asyncio.wait([caller], timeout=0.05)
    assert not done, "it went on while the thread was at work"
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == [True]


async def test_work_that_can_be_stopped_is_told_so() -> None:
    began, stopped = threading.Event(), threading.Event()

    def work() -> bool:
        began.set()
        return stopped.wait(SECONDS_MAX)

    caller = asyncio.create_task(in_stoppable_thread(stopped.set, work))
    assert await asyncio.to_thread(began.wait, SECONDS_MAX)
    caller.cancel()
    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert stopped.is_set()
