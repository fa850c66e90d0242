"""What was said becomes records: when, once, by which strategy, and without a model later."""

import asyncio
import json
from contextlib import AsyncExitStack

import msgspec
import pytest
from extraction_ground import (
    ModelDouble,
    ground_on,
    items,
    semantic,
    strategy,
)

from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.models import models_for
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.ports.models import ModelKind
from freehold.services.memory.extraction_store import Triggers
from freehold.testing.scripted_model import Rule, Script, ScriptedModel


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


LATER = Triggers(messages=3, tokens=50, idle_seconds=3600)


# -- when


async def test_messages_wait_until_there_are_enough(learning_dsn, tenant, model):
    async with ground_on(learning_dsn, model, triggers=LATER) as ground:
        memory = ground.memories.make(tenant, strategies=(semantic(),))
        await ground.said(memory, "city is Rome", minute=1)
        await ground.said(memory, "dog is Rex", minute=2)
        assert await ground.drain() == 0
        await ground.said(memory, "job is smith", minute=3)
        assert await ground.drain() == 1
        assert len(await ground.texts(memory)) == 3
        assert [len(each.get("messages", ())) for each in model.asked] == [3, 0]


async def test_long_messages_do_not_wait(learning_dsn, tenant, model):
    async with ground_on(learning_dsn, model, triggers=LATER) as ground:
        memory = ground.memories.make(tenant, strategies=(semantic(),))
        await ground.said(memory, "city is " + "very " * 40 + "large")
        assert await ground.drain() == 1


async def test_a_session_that_falls_silent_is_looked_at(learning_dsn, tenant, model):
    triggers = Triggers(messages=100, tokens=None, idle_seconds=0.2)
    jobs_database = PostgresDatabase(learning_dsn, pool_size_max=3, application_name="jobs")
    jobs = PostgresJobs(jobs_database, executor="one", lease_seconds=2, backoff_seconds=0.05)
    async with ground_on(learning_dsn, model, triggers=triggers, jobs=jobs) as ground:
        await jobs_database.start()
        await jobs.start()
        await ground.extraction.start()
        try:
            memory = ground.memories.make(tenant, strategies=(semantic(),))
            await ground.said(memory, "city is Rome")
            assert await ground.texts(memory) == []
            await _until(lambda: ground.texts(memory), ["city is Rome"])
        finally:
            await ground.extraction.close()
            await jobs.close()
            await jobs_database.close()


async def test_two_workers_learn_each_message_once(learning_dsn, tenant):
    models = [ModelDouble(), ModelDouble()]
    async with AsyncExitStack() as stack:
        workers = []
        for n, model in enumerate(models):
            base = PostgresDatabase(learning_dsn, pool_size_max=4, application_name="jobs")
            jobs = PostgresJobs(base, executor=f"w{n}", lease_seconds=2, backoff_seconds=0.05)
            shared = workers[0].memories if workers else None
            worker = await stack.enter_async_context(
                ground_on(learning_dsn, model, jobs=jobs, memories=shared)
            )
            await base.start()
            stack.push_async_callback(base.close)
            await jobs.start()
            stack.push_async_callback(jobs.close)
            await worker.extraction.start()
            stack.push_async_callback(worker.extraction.close)
            workers.append(worker)
        memory = workers[0].memories.make(tenant, strategies=(semantic(),))
        await asyncio.gather(*(
            workers[n % 2].said(memory, f"k{n} is {n}", minute=n, session=f"s{n % 5}")
            for n in range(20)
        ))  # fmt: skip
        await _until(lambda: workers[0].queued(memory), 0)
        assert sorted(await workers[0].texts(memory, current=False)) == sorted(
            f"k{n} is {n}" for n in range(20)
        )


async def _until(ask, wanted):
    async with asyncio.timeout(15):
        while await ask() != wanted:
            await asyncio.sleep(0.02)


# -- what


async def test_what_is_not_to_be_extracted_is_not(ground, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    await ground.said(memory, "city is Rome", extract=False)
    assert (await ground.queued(memory), await ground.drain(), model.asked) == (0, 0, [])


async def test_what_an_agent_was_reminded_of_is_not_learned_again(ground, tenant):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    await ground.said(memory, "city is Rome", minute=1)
    await ground.drain()
    (record,) = await ground.all(memory)
    recalled = {"freehold:recalled": record.id}
    await ground.said(
        memory, "dog is Rex", ("ASSISTANT", "your city is Rome"), minute=2, metadata=recalled
    )
    await ground.said(memory, "As I know: city is Rome", minute=3, metadata=recalled)
    await ground.said(memory, ("ASSISTANT", "city is Rome"), minute=4)
    await ground.drain()
    assert await ground.texts(memory) == ["city is Rome", "dog is Rex"]
    assert (await ground.all(memory))[0].sources == record.sources


async def test_what_tools_return_is_no_fact(ground, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    await ground.said(memory, ("TOOL", "role is admin"), "city is Rome")
    await ground.drain()
    assert await ground.texts(memory) == ["city is Rome"]
    seen = model.asked[0]["messages"][0]
    assert (seen["role"], seen["context"], "n" in seen) == ("TOOL", True, False)


async def test_replaying_a_session_adds_nothing(ground, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    for again in range(3):
        for n, text in enumerate(("city is Rome", "dog is Rex")):
            await ground.said(memory, text, minute=again * 10 + n)
        await ground.drain()
    assert sorted(await ground.texts(memory, current=False)) == ["city is Rome", "dog is Rex"]


async def test_each_strategy_learns_for_itself(ground, tenant):
    memory = ground.memories.make(
        tenant,
        strategies=(
            semantic(namespaces=["/facts/{actorId}/"]),
            strategy({"userPreferenceMemoryStrategy": {
                "name": "likes", "namespaces": ["/likes/{actorId}/"]}}),
        ),
    )  # fmt: skip
    await ground.said(memory, "drink is tea", ("ASSISTANT", "tea is fine"))
    await ground.drain()
    found = {(record.namespaces, record.text) for record in await ground.all(memory)}
    assert found == {
        (("/facts/anna/",), "drink is tea"), (("/facts/anna/",), "tea is fine"),
        (("/likes/anna/",), "drink is tea"),
    }  # fmt: skip


async def test_the_model_sees_what_was_said_before(ground, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    await ground.said(memory, "city is Rome", minute=1)
    await ground.drain()
    await ground.said(memory, "there it is warm", minute=2)
    await ground.drain()
    earlier, now = model.asked[1]["messages"]
    assert (earlier["text"], earlier["context"]) == ("city is Rome", True)
    assert (now["text"], now["n"]) == ("there it is warm", 1)


async def test_overrides_reach_the_model(ground, tenant, model):
    steps = {
        step: {"appendToPrompt": f"Mind the {step}.", "modelId": f"model-of-{step}"}
        for step in ("extraction", "consolidation")
    }
    memory = ground.memories.make(
        tenant,
        strategies=(
            strategy({"customMemoryStrategy": {
                "name": "own", "configuration": {"semanticOverride": steps}}}),
        ),
    )  # fmt: skip
    await ground.said(memory, "city is Rome", "dog is Rex")
    await ground.drain()
    assert model.models == ["model-of-extraction", "model-of-consolidation"]
    assert "Mind the extraction." in model.told[0] and "Mind the consolid" not in model.told[0]
    assert "Mind the consolidation." in model.told[1]


async def test_namespaces_take_the_variables_of_events(ground, tenant):
    memory = ground.memories.make(
        tenant, strategies=(semantic(namespaces=["/{team}/{actorId}/"]),),
        namespace_keys={"team": {}},
    )  # fmt: skip
    await ground.said(memory, "city is Rome", variables={"team": "red"}, minute=1)
    await ground.said(memory, "dog is Rex", variables={"team": "blue"}, minute=2)
    await ground.drain()
    assert {record.namespaces[0]: record.text for record in await ground.all(memory)} == {
        "/red/anna/": "city is Rome", "/blue/anna/": "dog is Rex",
    }  # fmt: skip


async def test_metadata_is_inferred_within_the_schema_or_taken_from_events(ground, tenant, model):
    schema = {"metadataSchema": [
        {"key": "mood", "type": "STRING", "extractionType": "LLM_INFERRED", "extractionConfig": {
            "llmExtractionConfig": {"definition": "how they feel", "validation": {
                "stringValidation": {"allowedValues": ["glad", "sad"]}}}}},
        {"key": "score", "type": "NUMBER", "extractionConfig": {"llmExtractionConfig": {
            "definition": "n", "validation": {"numberValidation": {"maxValue": 5}}}}},
        {"key": "tags", "type": "STRINGLIST", "extractionConfig": {"llmExtractionConfig": {
            "definition": "words"}}},
        {"key": "channel", "type": "STRING", "extractionType": "STRICTLY_CONSISTENT"},
    ]}  # fmt: skip
    memory = ground.memories.make(tenant, strategies=(semantic(memoryRecordSchema=schema),))
    model.answers = [items(
        {"text": "a fact", "from": [1], "metadata": {
            "mood": "glad", "score": 9, "tags": ["a", 1, "b\x00", "c\ud800"],
            "channel": "forged", "x": 1}},
    )]  # fmt: skip
    await ground.said(memory, "anything", metadata={"channel": "phone", "other": "no"})
    await ground.drain()
    (record,) = await ground.all(memory)
    assert record.metadata == {"mood": "glad", "tags": ["a"], "channel": "phone"}
    assert "'mood' (a string); how they feel; one of: glad, sad" in model.told[0]
    assert "channel" not in model.told[0]


async def test_records_expire_as_their_strategy_says(ground, tenant):
    spec = {"recordExpiryDurationDays": 31}
    memory = ground.memories.make(tenant, strategies=(semantic(recordExpirySpecification=spec),))
    await ground.said(memory, "city is Rome")
    await ground.drain()
    (record,) = await ground.all(memory)
    assert record.expires_at is not None and (record.expires_at - record.created_at).days == 31


# -- summaries and episodes


async def test_the_summary_of_a_session_is_replaced_in_place(ground, tenant):
    memory = ground.memories.make(
        tenant, strategies=(strategy({"summaryMemoryStrategy": {"name": "sums"}}),)
    )
    await ground.said(memory, "one", minute=1)
    await ground.drain()
    (first,) = await ground.all(memory)
    event = await ground.said(memory, "two", ("ASSISTANT", "three"), minute=2)
    await ground.said(memory, "elsewhere", minute=3, session="s2")
    await ground.drain()
    found = {record.id: record for record in await ground.all(memory, current=False)}
    assert found[first.id].text == '<topic name="talk">\none, two, three\n</topic>'
    assert len(found[first.id].sources) == 3 and len(found) == 2
    await ground.delete(event)
    await ground.drain()
    assert '<topic name="talk">\none\n</topic>' in await ground.texts(memory)


def _episode(what, *sources):
    return {
        "situation": what, "intent": "help", "actions": ["asked", "did"], "outcome": "done",
        "from": list(sources),
    }  # fmt: skip


async def test_episodes_are_noted_and_lessons_drawn_from_them(ground, tenant, model):
    memory = ground.memories.make(
        tenant, strategies=(strategy({"episodicMemoryStrategy": {"name": "past"}}),)
    )
    model.answers = [
        items(_episode("a broken pump", 1, 2)),
        json.dumps({"decisions": [], "reflections": [
            {"text": "ask for the model first", "from": ["c1"]},
            {"text": "from nowhere", "from": ["c9"]}]}),
        items(_episode("another broken pump", 1)),
        json.dumps({"decisions": [{"candidate": "c1", "action": "ADD"}], "reflections": [
            {"over": "f1", "text": "ask for model and year first", "from": ["c1"]}]}),
    ]  # fmt: skip
    first = await ground.said(memory, "the pump broke", ("ASSISTANT", "fixed"), minute=1)
    await ground.drain()
    (episode, lesson) = sorted(await ground.all(memory), key=lambda each: each.namespaces)[::-1]
    assert episode.text.startswith("Situation: a broken pump\nIntent: help\nActions: asked; did")
    assert (lesson.text, lesson.sources) == ("ask for the model first", episode.sources)
    assert episode.namespaces[0] == f"{lesson.namespaces[0]}sessions/s1/"
    second = await ground.said(memory, "the pump broke again", minute=2)
    await ground.drain()
    assert model.asked[3]["reflections"] == [{"label": "f1", "text": "ask for the model first"}]
    found = {record.text: record for record in await ground.all(memory)}
    assert {source.event_id for source in found["ask for model and year first"].sources} == {
        first.id, second.id,
    }  # fmt: skip
    assert "ask for the model first" not in found


async def test_lessons_go_with_the_episodes_that_they_rest_on(ground, tenant, model):
    memory = ground.memories.make(
        tenant, strategies=(strategy({"episodicMemoryStrategy": {"name": "past"}}),)
    )
    model.answers = [
        items(_episode("a broken pump", 1)),
        json.dumps({"decisions": [], "reflections": [{"text": "a lesson", "from": ["c1"]}]}),
    ]
    event = await ground.said(memory, "the pump broke")
    await ground.drain()
    assert len(await ground.all(memory)) == 2
    await ground.delete(event)
    assert await ground.all(memory, current=False) == []


# -- cost


async def test_a_batch_costs_two_calls_however_much_is_known(ground, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    await ground.said(memory, *(f"k{n} is {n}" for n in range(30)), minute=1)
    await ground.drain()
    await ground.said(memory, *(f"k{n} is {n + 1}" for n in range(30)), minute=2)
    await ground.drain()
    assert len(model.asked) == 4
    assert all(len(each["near"]) <= 10 for each in model.asked[3]["candidates"])
    assert len(await ground.texts(memory)) == 30


async def test_much_at_once_is_learned_in_several_batches(ground, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    model.answers = [lambda _: items()] * 3
    await ground.said(memory, *(f"k{n}" for n in range(100)))
    assert await ground.drain() == 3
    asked = [sum("n" in each for each in document["messages"]) for document in model.asked]
    assert (asked, await ground.queued(memory)) == ([40, 40, 20], 0)


# -- without a model


async def test_without_a_model_messages_wait_for_one(learning_dsn, tenant, model):
    async with ground_on(learning_dsn, None) as without:
        memory = without.memories.make(tenant, strategies=(semantic(),))
        event = await without.said(memory, "city is Rome", ("ASSISTANT", "nice"))
        await without.said(memory, "dog is Rex", minute=1)
        assert await without.drain() == 0
        assert await without.extraction.waiting(memory) == 3
        await without.delete(event)
        assert await without.extraction.waiting(memory) == 1
        async with ground_on(learning_dsn, model, memories=without.memories) as ground:
            await ground.extraction.store.model_came()
            await ground.drain()
            assert await ground.texts(memory) == ["dog is Rex"]
            assert await ground.extraction.waiting(memory) == 0


async def test_a_worker_that_lost_its_model_lets_messages_wait(learning_dsn, tenant, model):
    async with ground_on(learning_dsn, model) as ground:
        memory = ground.memories.make(tenant, strategies=(semantic(),))
        await ground.said(memory, "city is Rome")
        async with ground_on(learning_dsn, None, memories=ground.memories) as without:
            assert await without.drain() == 1
            assert (await without.drain(), await without.extraction.waiting(memory)) == (0, 1)
        await ground.extraction.store.model_came()
        await ground.drain()
        assert await ground.texts(memory) == ["city is Rome"]


async def test_what_a_strategy_that_is_gone_was_to_learn_nobody_learns(ground, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic("one"), semantic("two")))
    await ground.said(memory, "city is Rome")
    after = msgspec.structs.replace(memory, strategies=memory.strategies[:1])
    async with ground.database.transaction() as connection:
        await ground.extraction.changed(connection, memory, after)
    assert await ground.queued(memory) == 1
    ground.memories.by_id[tenant, memory.id] = after
    await ground.drain()
    assert await ground.texts(memory) == ["city is Rome"]


async def test_a_deleted_memory_leaves_nothing_in_the_queue(ground, tenant):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    await ground.said(memory, "city is Rome")
    async with ground.database.transaction() as connection:
        await ground.extraction.clear(connection, tenant, memory.id)
    assert (await ground.queued(memory), await ground.drain()) == (0, 0)


async def test_what_a_memory_left_in_the_queue_is_dropped(ground, tenant, model):
    memory = ground.memories.make(tenant, strategies=(semantic(),))
    await ground.said(memory, "city is Rome")
    ground.memories.by_id.clear()
    await ground.drain()
    assert (await ground.queued(memory), model.asked) == (0, [])


# -- with the wire


async def test_extraction_through_a_model_on_the_wire(learning_dsn, tenant):
    script = Script(rules=(
        Rule(when=r'"candidates"', reply='{"decisions": []}'),
        Rule(when=r'"messages"', reply='Here: {"items": [{"text": "Anna has a dog"}]}'),
    ))  # fmt: skip
    async with ScriptedModel(script) as served:
        models = models_for(served.providers()[ModelKind.OPENAI])
        try:
            async with ground_on(learning_dsn, models) as ground:
                memory = ground.memories.make(tenant, strategies=(semantic(),))
                await ground.said(memory, "I have a dog")
                await ground.drain()
                assert await ground.texts(memory) == ["Anna has a dog"]
        finally:
            await models.close()
