"""Learning beside crashes, other workers and clients: nothing is lost, nothing is doubled."""

import asyncio

import pytest
from extraction_ground import (
    AT_ONCE,
    LearningGround,
    ModelDouble,
    ground_on,
    items,
    semantic,
)

from freehold.kernel.errors import Unavailable
from freehold.services.memory.records import Change


@pytest.fixture(scope="module")
async def learning_dsn(fresh_dsn):
    return await fresh_dsn()


@pytest.fixture
async def model():
    return ModelDouble()


@pytest.fixture
async def ground(learning_dsn, model):
    async with ground_on(learning_dsn, model) as ground:
        yield ground


class Crashed(BaseException):
    """As a process that is gone: nobody catches it on the way."""


class CrashingDatabase:
    """Counts every statement-bearing step, and dies before, or just after, the one it is told."""

    def __init__(self, ground: LearningGround) -> None:
        self.steps, self.at = 0, -1
        for owner, names in (
            (ground.extraction.store, ("attempts", "queued", "versions", "lock", "take", "advance",
                                       "settle")),
            (ground.records, ("nearest", "held", "put", "supersede")),
            (ground.events, ("by_id", "of_session")),
        ):  # fmt: skip
            for name in names:
                setattr(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, step):
        async def act(*arguments, **named):
            self._tick()
            result = await step(*arguments, **named)
            self._tick()
            return result

        return act

    def _tick(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Crashed


async def test_a_crash_at_any_step_neither_loses_nor_doubles(learning_dsn, tenant, model):
    """The job is run again, as the jobs port does after a crash, until it comes through."""
    crashes = 0
    for at in range(1, 200):
        async with ground_on(learning_dsn, model) as ground:
            memory = ground.memories.make(tenant, f"m{at}", strategies=(semantic(),))
            await ground.said(memory, "city is Paris", minute=1)
            await ground.drain()
            await ground.said(memory, "city is Rome", "dog is Rex", minute=2)
            (claim,) = await ground.claims()
            crashing = CrashingDatabase(ground)
            crashing.at = at
            try:
                await ground.extraction.work(claim)
            except Crashed:
                crashes += 1
                await ground.extraction.work(claim)
            assert await ground.texts(memory) == ["city is Rome", "dog is Rex"]
            assert len(await ground.texts(memory, current=False)) == 3
            assert await ground.queued(memory) == 0
            if crashing.steps < at:
                break
    assert crashes == at - 1 > 15


async def test_a_model_that_dies_with_the_worker_is_asked_again(ground, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    await ground.said(memory, "city is Rome")
    (claim,) = await ground.claims()

    def die(_):
        raise Crashed

    model.answers = [die]
    with pytest.raises(Crashed):
        await ground.extraction.work(claim)
    await ground.extraction.work(claim)
    assert await ground.texts(memory) == ["city is Rome"]


async def test_one_run_twice_at_once_learns_once(learning_dsn, tenant):
    both = asyncio.Barrier(2)

    async def slowly(document):
        await asyncio.wait_for(both.wait(), 10)
        return items(*(each["text"] for each in document["messages"]))

    model = ModelDouble(slowly, slowly)
    async with ground_on(learning_dsn, model) as ground:
        memory = ground.memories.make(tenant, strategies=(semantic(),))
        await ground.said(memory, "city is Rome")
        (claim,) = await ground.claims()
        await asyncio.gather(ground.extraction.work(claim), ground.extraction.work(claim))
        assert await ground.texts(memory) == ["city is Rome"]


async def test_two_sessions_that_say_the_same_at_once_make_one_record(learning_dsn, tenant):
    both = asyncio.Barrier(2)

    async def slowly(document):
        await asyncio.wait_for(both.wait(), 10)
        return items(*(each["text"] for each in document["messages"]))

    async with ground_on(learning_dsn, ModelDouble(slowly, slowly)) as ground:
        memory = ground.memories.make(tenant, strategies=(semantic(),))
        await ground.said(memory, "city is Rome", session="s1")
        await ground.said(memory, "city is Rome", session="s2")
        claims = await ground.claims()
        await asyncio.gather(*(ground.extraction.work(claim) for claim in claims))
        (record,) = await ground.all(memory, current=False)
        assert {source.session_id for source in record.sources} == {"s1", "s2"}


async def test_what_is_unsaid_while_it_is_looked_at_is_not_learned(learning_dsn, tenant):
    asked, go = asyncio.Event(), asyncio.Event()

    async def slowly(document):
        asked.set()
        await asyncio.wait_for(go.wait(), 10)
        return items(*({"text": e["text"], "from": [e["n"]]} for e in document["messages"]))

    model = ModelDouble(slowly)
    async with ground_on(learning_dsn, model) as ground:
        memory = ground.memories.make(tenant, strategies=(semantic(),))
        event = await ground.said(memory, "city is Rome", minute=1)
        await ground.said(memory, "dog is Rex", minute=2)
        (claim,) = await ground.claims()
        run = asyncio.create_task(ground.extraction.work(claim))
        await asyncio.wait_for(asked.wait(), 10)
        await ground.delete(event)
        go.set()
        await run
        await ground.drain()
        assert await ground.texts(memory, current=False) == ["dog is Rex"]


async def test_what_is_unsaid_while_others_consolidate_over_it_is_gone(learning_dsn, tenant):
    """The second look finds the record gone, and adds what was to join it."""
    model = ModelDouble()
    async with ground_on(learning_dsn, model) as ground:
        memory = ground.memories.make(tenant, strategies=(semantic(),))
        event = await ground.said(memory, "city is Paris", minute=1)
        await ground.drain()
        await ground.said(memory, "city is Rome", minute=2, session="s2")
        nearest = ground.records.nearest

        async def then_delete(*arguments):
            found = await nearest(*arguments)
            ground.records.nearest = nearest
            await ground.delete(event)
            return found

        ground.records.nearest = then_delete
        await ground.drain()
        assert await ground.texts(memory, current=False) == ["city is Rome"]


@pytest.mark.parametrize("act", ["delete", "change"])
async def test_what_a_client_does_to_records_meanwhile_holds(learning_dsn, tenant, act):
    model = ModelDouble()
    async with ground_on(learning_dsn, model) as ground:
        memory = ground.memories.make(tenant, strategies=(semantic(),))
        await ground.said(memory, "city is Paris", minute=1)
        await ground.drain()
        (record,) = await ground.all(memory)
        await ground.said(memory, "city is Paris", minute=2)
        nearest = ground.records.nearest

        async def then_act(*arguments):
            found = await nearest(*arguments)
            ground.records.nearest = nearest
            if act == "delete":
                await ground.records.delete(memory, {record.id: ""})
            else:
                change = Change(id=record.id, at=record.at, text="city is Rome")
                await ground.records.update(memory, [change])
            return found

        ground.records.nearest = then_act
        await ground.drain()
        after = await ground.all(memory, current=False)
        if act == "delete":
            assert [(each.text, each.id == record.id) for each in after] == [
                ("city is Paris", False)
            ]
        else:
            assert {each.text: each.id == record.id for each in after} == {
                "city is Rome": True, "city is Paris": False,
            }  # fmt: skip


async def test_a_database_that_fails_leaves_the_job_to_its_retry(ground, tenant):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    await ground.said(memory, "city is Rome")
    (claim,) = await ground.claims()
    put = ground.records.put

    async def fail(*_):
        ground.records.put = put
        raise Unavailable("not just now")

    ground.records.put = fail
    with pytest.raises(Unavailable):
        await ground.extraction.work(claim)
    await ground.extraction.work(claim)
    assert await ground.texts(memory) == ["city is Rome"]


async def test_another_tenant_knows_nothing_of_it(ground, tenant):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    other = ground.memories.make("999988887777", strategies=memory.strategies)
    await ground.said(memory, "city is Rome")
    await ground.drain()
    assert await ground.texts(other) == []
    assert AT_ONCE.messages == 1
