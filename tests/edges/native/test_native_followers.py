"""Streams that go on until somebody leaves, and how a worker that stops ends them."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from freehold.edges.native.followers import Followers

WITHIN_SECONDS = 60


class News:
    """Lines that come when a test says so."""

    def __init__(self) -> None:
        self.coming: asyncio.Queue[bytes] = asyncio.Queue()
        self.left = False

    async def lines(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield await self.coming.get()
        finally:
            self.left = True


async def _ended(lines: AsyncGenerator[bytes, None]) -> list[bytes]:
    async with asyncio.timeout(WITHIN_SECONDS):
        return [line async for line in lines]


async def test_one_that_waits_ends_at_once_and_leaves_nothing_behind() -> None:
    followers, news = Followers(), News()
    reading = asyncio.ensure_future(_ended(followers.until_stopped(news.lines())))
    news.coming.put_nowait(b"first")
    async with asyncio.timeout(WITHIN_SECONDS):
        while not news.coming.empty():
            await asyncio.sleep(0)
    followers.stop()
    assert await reading == [b"first"]
    assert news.left


async def test_a_line_that_is_being_sent_is_sent_and_no_other_after_it() -> None:
    followers, news = Followers(), News()
    for line in (b"first", b"second"):
        news.coming.put_nowait(line)
    following = followers.until_stopped(news.lines())
    assert await anext(following) == b"first"
    followers.stop()
    assert await _ended(following) == []
    assert news.left


async def test_one_that_comes_when_the_worker_stops_gets_its_end() -> None:
    followers, news = Followers(), News()
    followers.stop()
    assert await _ended(followers.until_stopped(news.lines())) == []


async def test_what_fails_by_itself_fails_as_ever() -> None:
    async def late() -> AsyncGenerator[bytes, None]:
        yield b"first"
        raise TimeoutError("the store's own")

    following = Followers().until_stopped(late())
    assert await anext(following) == b"first"
    with pytest.raises(TimeoutError, match="the store's own"):
        await anext(following)


async def test_what_ends_by_itself_ends_as_ever() -> None:
    async def two() -> AsyncGenerator[bytes, None]:
        yield b"first"
        yield b"second"

    assert await _ended(Followers().until_stopped(two())) == [b"first", b"second"]
