"""Where records come from, and that they go with it: whatever was said, unsaid and when."""

import asyncio
import itertools
from datetime import timedelta
from random import Random

import hypothesis
import pytest
from extraction_ground import LearningGround, ModelDouble, ground_on, key_of, semantic
from hypothesis import strategies as st

from freehold.services.memory.model import Event, Memory

DAYS = 400


@pytest.fixture
async def ground(fresh_dsn):
    async with ground_on(await fresh_dsn(), ModelDouble()) as ground:
        yield ground


async def test_a_record_keeps_the_messages_that_it_comes_from(ground, tenant):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    event = await ground.said(memory, "city is Rome", ("ASSISTANT", "noted"), "dog is Rex")
    await ground.drain()
    found = {record.text: record.sources for record in await ground.all(memory)}
    assert {text: [(s.event_id, s.index) for s in sources] for text, sources in found.items()} == {
        "city is Rome": [(event.id, 0)], "noted": [(event.id, 1)], "dog is Rex": [(event.id, 2)],
    }  # fmt: skip
    assert found["city is Rome"][0].session_id == "s1"


async def test_a_superseded_record_is_kept_as_history(ground, tenant):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    await ground.said(memory, "city is Paris", minute=1)
    await ground.drain()
    await ground.said(memory, "city is Rome", minute=2)
    await ground.drain()
    assert await ground.texts(memory) == ["city is Rome"]
    old, new = await ground.all(memory, current=False)
    assert (old.text, old.superseded_by, old.valid_until) == ("city is Paris", new.id, new.at)


async def test_what_it_superseded_comes_back_when_it_is_unsaid(ground, tenant):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    await ground.said(memory, "city is Paris", minute=1)
    await ground.drain()
    event = await ground.said(memory, "city is Rome", minute=2)
    await ground.drain()
    await ground.delete(event)
    assert await ground.texts(memory, current=False) == ["city is Paris"]
    assert await ground.texts(memory) == ["city is Paris"]


async def test_what_others_said_too_is_learned_from_them_again(ground, tenant):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    first = await ground.said(memory, "city is Paris", minute=1)
    await ground.drain()
    second = await ground.said(memory, "city is Paris", minute=2, session="s2")
    await ground.drain()
    (record,) = await ground.all(memory)
    assert [source.event_id for source in record.sources] == [first.id, second.id]
    await ground.delete(first)
    assert await ground.all(memory) == []
    await ground.drain()
    (again,) = await ground.all(memory)
    assert [source.event_id for source in again.sources] == [second.id]


async def test_erasing_a_person_leaves_nothing_of_theirs(ground, tenant):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    for minute in range(3):
        await ground.said(memory, f"city is C{minute}", minute=minute)
        await ground.said(memory, f"pet is P{minute}", minute=minute, actor="bob")
        await ground.drain()
    await ground.said(memory, "hobby is chess", minute=9)
    await ground.events.erase(tenant, memory.id, "anna")
    assert await ground.drain() == 0
    assert {record.text for record in await ground.all(memory, current=False)} == {
        "pet is P0", "pet is P1", "pet is P2",
    }  # fmt: skip


async def test_what_expired_takes_nothing_with_it(ground, tenant):
    memory = ground.memories.make(tenant, strategies=(semantic(),), expiry_days=3)
    await ground.said(memory, "city is Paris", minute=1)
    await ground.drain()
    ground.ahead = timedelta(days=DAYS)
    assert await ground.events.of_session(tenant, memory.id, "anna", "s1") == []
    assert await ground.texts(memory) == ["city is Paris"]


KEYS = ("city", "dog")
VALUES = ("red", "green", "blue")
STEPS = 20

_messages = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), min_size=1, max_size=3
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), _messages, st.integers(0, 1)),
        st.tuples(st.just("unsay"), st.integers(0, 20)),
        st.tuples(st.just("learn")),
        st.tuples(st.just("replay"), st.integers(0, 20)),
        st.tuples(st.just("erase"), st.integers(0, 1)),
    ),
    min_size=3, max_size=STEPS,
)  # fmt: skip


@pytest.mark.parametrize(
    ("late", "many"),
    [
        pytest.param(False, 20, id="in order"),
        pytest.param(True, 30, id="in any order"),
        pytest.param(True, 200, id="many in any order", marks=pytest.mark.slow),
    ],
)
async def test_what_is_known_is_what_was_said_and_not_unsaid(fresh_dsn, tenant, late, many):
    """However often a model forgets, jobs run or events come late, the current records are those
    that learning all events that are left, in their order, would give."""
    numbers = itertools.count()
    async with ground_on(await fresh_dsn(), ModelDouble()) as ground:

        @hypothesis.settings(
            max_examples=many, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )  # fmt: skip
        @hypothesis.given(steps=_steps, places=st.permutations(range(STEPS)))
        def histories(steps, places):
            examples.append((steps, places if late else list(range(STEPS))))

        examples: list[tuple[list, list]] = []
        histories()
        for steps, places in examples:
            memory = ground.memories.make(
                tenant, f"m{next(numbers)}", strategies=(semantic(namespaces=["/all/{actorId}/"]),)
            )
            await _lived(ground, memory, steps, places)


async def _lived(ground: LearningGround, memory: Memory, steps: list, places: list) -> None:
    said: dict[str, Event] = {}
    for step, place in zip(steps, places, strict=False):
        match step:
            case ("say", messages, session):
                texts = [f"{key} is {value}" for key, value in messages]
                event = await ground.said(memory, *texts, minute=place, session=f"s{session}")
                said[event.id] = event
            case ("replay", n) if said:
                old = list(said.values())[n % len(said)]
                texts = [message.text for message in old.messages]
                event = await ground.said(memory, *texts, minute=place, session="again")
                said[event.id] = event
            case ("unsay", n) if said:
                event = said.pop(list(said)[n % len(said)])
                await ground.delete(event)
            case ("erase", session):
                await ground.events.erase(memory.tenant, memory.id, "anna", f"s{session}")
                said = {k: e for k, e in said.items() if e.session_id != f"s{session}"}
            case ("learn",):
                await ground.drain()
        await _holds_together(ground, memory, said)
    await ground.drain()
    assert sorted(await ground.texts(memory)) == sorted(_expected(said)), (steps, places)
    assert await ground.queued(memory) == 0


def _expected(said: dict[str, Event]) -> list[str]:
    """What was said last of each key."""
    expected = {}
    for event in sorted(said.values(), key=lambda each: each.id):
        for message in event.messages:
            expected[key_of(message.text)] = message.text
    return list(expected.values())


async def _holds_together(ground: LearningGround, memory: Memory, said: dict[str, Event]) -> None:
    """No record comes from what is not there, and none is followed by one that is not there."""
    records = {record.id: record for record in await ground.all(memory, current=False)}
    for record in records.values():
        assert record.sources, "it was learned"
        for source in record.sources:
            event = said[source.event_id]
            assert event.payload[source.index]["conversational"]["content"]["text"] == record.text
        assert (record.valid_until is None) == (record.superseded_by == "")
        assert record.superseded_by in ("", *records)


async def test_it_holds_while_workers_are_at_it(fresh_dsn, tenant):
    """Two workers learn while events come in several sessions at once and are deleted again."""
    dsn, random = await fresh_dsn(), Random(7)
    async with (
        ground_on(dsn, ModelDouble()) as ground,
        ground_on(dsn, ModelDouble(), memories=ground.memories) as other,
    ):
        memory = ground.memories.make(tenant, strategies=(semantic(namespaces=["/{actorId}/"]),))
        said: dict[str, Event] = {}
        over = asyncio.Event()

        async def learn(worker: LearningGround) -> None:
            while not over.is_set():
                await worker.drain()
                await asyncio.sleep(0)

        async def talk(session: int) -> None:
            for n in range(25):
                if said and random.random() < 0.4:
                    event = said.pop(random.choice(list(said)))
                    await ground.delete(event)
                else:
                    text = f"{random.choice(KEYS)} is {random.choice(VALUES)}"
                    minute = random.randrange(1000) + session / 10 + n / 1000
                    event = await ground.said(memory, text, minute=minute, session=f"s{session}")
                    said[event.id] = event

        workers = [asyncio.create_task(learn(each)) for each in (ground, other)]
        async with asyncio.timeout(40):
            await asyncio.gather(*(talk(session) for session in range(4)))
        over.set()
        await asyncio.gather(*workers)
        async with asyncio.timeout(20):
            while await ground.queued(memory):  # one that met others too often pauses
                await ground.drain()
                await asyncio.sleep(0.05)
        assert await ground.failures(memory) == []
        await _holds_together(ground, memory, said)
        assert sorted(await ground.texts(memory)) == sorted(_expected(said))
