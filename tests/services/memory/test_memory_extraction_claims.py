"""Whose turn it is, when who claimed it dies; and a queue that is cleared in small transactions."""

import msgspec
import pytest
from extraction_ground import ModelDouble, ground_on, semantic

from freehold.services.memory.extraction_store import CLAIM_SECONDS, LEASE_SECONDS


@pytest.fixture
async def ground(fresh_dsn):
    async with ground_on(await fresh_dsn(), ModelDouble()) as ground:
        yield ground


@pytest.fixture
def memory(ground, tenant):
    return ground.memories.make(tenant, strategies=(semantic(),))


async def passed(ground, seconds):
    """As if so long had passed: times are the database's own."""
    async with ground.database.connection() as connection:
        await connection.execute(
            "UPDATE memory_extraction_sessions SET due_at = due_at - make_interval(secs => %s),"
            " held_until = held_until - make_interval(secs => %s)",
            (seconds, seconds),
        )


async def test_a_claim_that_no_job_was_made_of_soon_has_its_turn_again(ground, memory):
    await ground.said(memory, "city is Rome")
    [claim], _ = await ground.extraction.store.claim(10)
    assert await ground.extraction.store.claim(10) == ([], pytest.approx(CLAIM_SECONDS, abs=10))
    await passed(ground, CLAIM_SECONDS)
    [again], _ = await ground.extraction.store.claim(10)
    assert (again.place, again.job_id) == (claim.place, claim.job_id)
    await ground.extraction.work(msgspec.to_builtins(again))
    assert await ground.texts(memory) == ["city is Rome"]


async def test_one_that_has_a_job_is_held_for_it(ground, memory):
    await ground.said(memory, "city is Rome")
    claims, _ = await ground.extraction.store.claim(10)
    await ground.extraction.store.keep(claims)
    await ground.said(memory, "dog is Bella", minute=1)
    await passed(ground, CLAIM_SECONDS)
    assert (await ground.extraction.store.claim(10))[0] == []
    await passed(ground, LEASE_SECONDS)
    assert len((await ground.extraction.store.claim(10))[0]) == 1


async def test_a_job_that_paused_or_ended_before_it_was_held_is_left_alone(ground, memory):
    store = ground.extraction.store
    await ground.said(memory, "city is Rome")
    claims, _ = await store.claim(10)
    await store.pause(claims[0], 5, failed=True)
    await store.keep(claims)
    await passed(ground, 5)
    claims, _ = await store.claim(10)
    assert len(claims) == 1, "its pause is over"
    await ground.extraction.work(msgspec.to_builtins(claims[0]))
    await ground.said(memory, "dog is Bella", minute=1)
    await store.keep(claims)
    assert await ground.drain() == 1


async def test_a_long_queue_is_cleared_in_small_transactions(ground, memory, tenant):
    other = ground.memories.make(tenant, strategies=(semantic(),))
    for number in range(12):
        for each in (memory, other):
            await ground.said(each, "city is Rome", minute=number, session=f"s{number % 3}")
    left, more = [], True
    while more:
        async with ground.database.transaction() as connection:
            more = await ground.extraction.store.clear(connection, tenant, memory.id, limit=5)
        left.append(await ground.queued(memory))
    assert left == [7, 2, 0, 0]
    assert await ground.queued(other) == 12
