"""Limits hold in every window, on every worker at once, whatever becomes of the store."""

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from freehold.adapters.limits.limiter import PostgresRateLimiter
from freehold.adapters.postgres.dedicated import DedicatedConnection
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import Unavailable
from freehold.ports.limits import Limit

Limiters = Callable[[], Awaitable[PostgresRateLimiter]]


@pytest.fixture
async def limiters(database_dsn: str, database: PostgresDatabase) -> AsyncIterator[Limiters]:
    made: list[PostgresRateLimiter] = []

    async def make() -> PostgresRateLimiter:
        limiter = PostgresRateLimiter(
            DedicatedConnection(database_dsn, application_name="limits under test"),
            patience_seconds=1,
        )
        await limiter.start()
        made.append(limiter)
        return limiter

    yield make
    for limiter in made:
        await limiter.close()


@pytest.fixture
def key() -> str:
    return f"tests|{secrets.token_hex(8)}"


async def cut_off(database: PostgresDatabase) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'limits under test' AND datname = current_database()"
        )


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.01)


class Oracle:
    """Takes that passed, as seen from outside: one began after `began` and was over at `ended`."""

    def __init__(self) -> None:
        self.passed: list[tuple[float, float]] = []

    async def take(self, limiter: PostgresRateLimiter, limit: Limit) -> bool:
        began = time.monotonic()
        taken = await limiter.take([limit])
        if taken.refused is None:
            self.passed.append((began, time.monotonic()))
        return taken.refused is None

    def most_in_a_window(self, seconds: float) -> int:
        """Certainly in one: begun after another began, and over within `seconds` of that."""
        return max(
            sum(1 for began, ended in self.passed if first <= began and ended <= first + seconds)
            for first, _ in self.passed
        )


async def test_two_thousand_at_once_on_three_workers_pass_exactly_as_many_as_are_allowed(
    limiters: Limiters, key: str
) -> None:
    workers = [await limiters() for _ in range(3)]
    limit = Limit(key=key, amount=100, seconds=60)

    taken = await asyncio.gather(*(workers[n % 3].take([limit]) for n in range(2000)))

    assert sum(each.refused is None for each in taken) == 100
    refused = [each for each in taken if each.refused is not None]
    assert all(each.refused == limit and 0 < each.retry_after <= 61 for each in refused)


async def test_no_window_ever_holds_more_than_the_limit(limiters: Limiters, key: str) -> None:
    workers = [await limiters() for _ in range(2)]
    limit, oracle = Limit(key=key, amount=20, seconds=1), Oracle()

    async def hammer(limiter: PostgresRateLimiter, ends: float) -> None:
        while time.monotonic() < ends:
            await oracle.take(limiter, limit)
            await asyncio.sleep(secrets.randbelow(20) / 1000)

    ends = time.monotonic() + 3.2
    await asyncio.gather(*(hammer(workers[n % 2], ends) for n in range(8)))

    assert oracle.most_in_a_window(1) <= 20
    assert len(oracle.passed) >= 60  # and it is not stricter than it need be


async def test_the_end_of_one_second_and_the_start_of_the_next_do_not_add_up(
    limiters: Limiters, key: str
) -> None:
    """What a counter for each second would let through twice."""
    limiter = await limiters()
    limit, oracle = Limit(key=key, amount=50, seconds=1), Oracle()
    await asyncio.sleep(1.9 - time.time() % 1)
    before = await asyncio.gather(*(oracle.take(limiter, limit) for _ in range(50)))
    await asyncio.sleep(1.05 - time.time() % 1 if time.time() % 1 > 0.5 else 0)
    await asyncio.gather(*(oracle.take(limiter, limit) for _ in range(50)))

    assert all(before)
    assert oracle.most_in_a_window(1) == 50


async def test_who_waits_as_long_as_was_said_gets_through(limiters: Limiters, key: str) -> None:
    limiter = await limiters()
    limit = Limit(key=key, amount=5, seconds=1)
    taken = await asyncio.gather(*(limiter.take([limit]) for _ in range(6)))
    wait = max(each.retry_after for each in taken)
    assert 0 < wait < 1.02

    await asyncio.sleep(wait + 0.005)

    assert (await limiter.take([limit])).refused is None


async def test_all_limits_of_a_call_allow_it_or_none_counts_it(
    limiters: Limiters, key: str
) -> None:
    limiter = await limiters()
    wide = Limit(key=f"{key}|all", amount=10, seconds=60)
    narrow = Limit(key=f"{key}|one", amount=3, seconds=60)

    taken = await asyncio.gather(*(limiter.take([wide, narrow]) for _ in range(8)))
    left = await asyncio.gather(*(limiter.take([wide]) for _ in range(10)))

    assert [each.refused for each in taken] == [None] * 3 + [narrow] * 5
    assert sum(each.refused is None for each in left) == 7


async def test_workers_that_take_the_same_limits_in_other_orders_do_not_hang(
    limiters: Limiters, key: str
) -> None:
    workers = [await limiters() for _ in range(3)]
    limits = [Limit(key=f"{key}|{n}", amount=50, seconds=60) for n in range(6)]

    async with asyncio.timeout(20):
        taken = await asyncio.gather(
            *(
                workers[n % 3].take([limits[n % 6], limits[(5 * n + 1) % 6]])
                for n in range(600)
                if n % 6 != (5 * n + 1) % 6
            )
        )
    assert any(each.refused is None for each in taken)


async def test_what_is_charged_afterwards_holds_up_the_next_take(
    limiters: Limiters, key: str
) -> None:
    one, other = await limiters(), await limiters()
    tokens = Limit(key=key, amount=1000, seconds=60, cost=0)
    assert (await one.take([tokens])).refused is None
    await one.charge([tokens], 999)
    assert (await other.take([tokens])).refused is None
    await other.charge([tokens], 5000)

    refused = await one.take([tokens])

    assert refused.refused == tokens
    assert 58 < refused.retry_after <= 61


async def test_a_limit_of_nothing_lets_nobody_through(limiters: Limiters, key: str) -> None:
    limiter = await limiters()
    for limit in (
        Limit(key=key, amount=0, seconds=60),
        Limit(key=key, amount=0, seconds=60, cost=0),
    ):
        assert (await limiter.take([limit])).refused == limit


async def test_places_are_as_many_as_allowed_and_come_back(limiters: Limiters, key: str) -> None:
    one, other = await limiters(), await limiters()
    leases = [f"lease{n}" for n in range(40)]
    entered = await asyncio.gather(
        *(
            (one, other)[n % 2].enter(key, 7, lease=lease, seconds=60)
            for n, lease in enumerate(leases)
        )
    )
    assert sum(entered) == 7

    inside = [lease for lease, is_in in zip(leases, entered, strict=True) if is_in]
    assert await one.enter(key, 7, lease=inside[0], seconds=60), "it has its place already"
    await one.leave(key, inside[0])
    assert await one.enter(key, 7, lease="next", seconds=60)
    assert not await one.enter(key, 7, lease="overnext", seconds=60)


async def test_who_is_cancelled_while_asking_for_a_place_keeps_none(
    limiters: Limiters, key: str
) -> None:
    limiter = await limiters()
    asking = asyncio.create_task(limiter.enter(key, 1, lease="impatient", seconds=60))
    await asyncio.sleep(0)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking

    async def free() -> bool:
        return await limiter.enter(key, 1, lease="patient", seconds=60)

    await until(free)


async def test_a_place_that_nobody_gives_back_ends_with_its_time(
    limiters: Limiters, key: str
) -> None:
    limiter = await limiters()
    assert await limiter.enter(key, 1, lease="crashed", seconds=0.3)
    assert not await limiter.enter(key, 1, lease="later", seconds=60)

    async def free() -> bool:
        return await limiter.enter(key, 1, lease="later", seconds=60)

    await until(free)


async def test_a_cut_connection_is_made_again_and_nothing_is_forgotten(
    limiters: Limiters, database: PostgresDatabase, key: str
) -> None:
    limiter = await limiters()
    limit = Limit(key=key, amount=10, seconds=60)
    for _ in range(6):
        await limiter.take([limit])
    await cut_off(database)

    taken = [await limiter.take([limit]) for _ in range(10)]

    assert sum(each.refused is None for each in taken) == 4


async def test_takes_that_are_under_way_when_the_store_is_cut_off_never_pass_twice(
    limiters: Limiters, database: PostgresDatabase, key: str
) -> None:
    limiter = await limiters()
    limit = Limit(key=key, amount=300, seconds=60)
    passed = 0

    async def one() -> None:
        nonlocal passed
        with contextlib.suppress(Unavailable):
            passed += (await limiter.take([limit])).refused is None

    for _ in range(5):
        work = [asyncio.create_task(one()) for _ in range(100)]
        await cut_off(database)
        await asyncio.gather(*work)
    await asyncio.gather(*(one() for _ in range(400)))

    assert 0 < passed <= 300


class Gone:
    """A store that is away until it is let back: it refuses, or says nothing at all."""

    def __init__(self, lane: DedicatedConnection, *, silent: bool) -> None:
        self._lane, self._silent = lane, silent
        self.away = False

    async def open(self) -> None:
        await self._answer()
        await self._lane.open()

    async def close(self) -> None:
        await self._lane.close()

    async def run(self, statement: str, *values: bytes | None) -> list[tuple[bytes | None, ...]]:
        await self._answer()
        return await self._lane.run(statement, *values)

    async def _answer(self) -> None:
        if self.away and self._silent:
            await asyncio.Event().wait()
        if self.away:
            raise Unavailable("away")


@pytest.mark.parametrize("silent", [False, True], ids=["refusing", "silent"])
async def test_a_lost_store_is_said_at_once_and_found_again(
    database_dsn: str, database: PostgresDatabase, key: str, silent: bool
) -> None:
    lane = Gone(DedicatedConnection(database_dsn, application_name="limits"), silent=silent)
    limiter = PostgresRateLimiter(lane, patience_seconds=0.2)
    await limiter.start()
    limit = Limit(key=key, amount=10, seconds=60)
    tokens = Limit(key=f"{key}|tokens", amount=10, seconds=60, cost=0)
    await limiter.take([limit])
    lane.away = True
    with pytest.raises(Unavailable):
        await limiter.take([limit])
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(Unavailable):
            await limiter.take([limit])
        with pytest.raises(Unavailable):
            await limiter.enter(key, 1, lease="one", seconds=1)
        await limiter.leave(key, "one")
    await limiter.charge([tokens], 50)
    assert time.monotonic() - began < 2, "each at once"
    lane.away = False

    async def answers() -> bool:
        try:
            return (await limiter.take([limit])).refused is None
        except Unavailable:
            return False

    await until(answers)
    assert (await limiter.take([tokens])).refused == tokens, "the charge was kept"
    await limiter.close()


async def test_what_is_over_vanishes(database_dsn: str, database: PostgresDatabase) -> None:
    limiter = PostgresRateLimiter(
        DedicatedConnection(database_dsn, application_name="limits"), sweep_seconds=0.05
    )
    await limiter.start()
    names = [f"swept|{secrets.token_hex(4)}" for _ in range(1200)]
    await asyncio.gather(
        *(limiter.take([Limit(key=name, amount=1, seconds=60)]) for name in names),
        *(limiter.enter(name, 1, lease="one", seconds=60) for name in names),
    )

    async def rows() -> int:
        async with database.connection() as connection:
            found = await connection.execute(
                "SELECT (SELECT count(*) FROM rate_limit_windows)"
                " + (SELECT count(*) FROM rate_limit_places)"
            )
            row = await found.fetchone()
            assert row is not None
            return int(row[0])

    assert await rows() >= 2400
    async with database.connection() as connection:
        await connection.execute("UPDATE rate_limit_windows SET expires_at = now()")
        await connection.execute("UPDATE rate_limit_places SET until = now()")

    async def gone() -> bool:
        return await rows() == 0

    await until(gone)
    await limiter.close()


@pytest.mark.parametrize("lease", ["", 'a"b', "a b", "x" * 200])
async def test_a_lease_is_a_short_word(limiters: Limiters, key: str, lease: str) -> None:
    with pytest.raises(ValueError):
        await (await limiters()).enter(key, 1, lease=lease, seconds=1)


async def test_amounts_and_windows_may_be_any_size(limiters: Limiters, key: str) -> None:
    limiter = await limiters()
    large = Limit(key=key, amount=1e7, seconds=60)
    await limiter.charge([large], 1e7 - 1)
    assert (await limiter.take([large])).refused is None
    assert (await limiter.take([large])).refused == large
    slow = Limit(key=f"{key}|slow", amount=1, seconds=7200)
    assert (await limiter.take([slow])).refused is None
    assert math.isclose((await limiter.take([slow])).retry_after, 7200, rel_tol=0.02)
    assert (await limiter.take([slow], cost=5)).retry_after == 7200
