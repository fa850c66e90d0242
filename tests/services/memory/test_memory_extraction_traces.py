"""What is learned in the background is a trace of its own, with the tokens that it took."""

from collections.abc import AsyncIterator

import pytest
from extraction_ground import ground_on, items, semantic
from memory_ground import FakeMemories

from freehold.adapters.models import models_for
from freehold.adapters.models.traced import TracedModels
from freehold.kernel.tracing import Status
from freehold.testing.scripted_model import Rule, Script, ScriptedModel
from kept_spans import KeptSpans


@pytest.fixture(scope="module")
async def learning_dsn(fresh_dsn):
    return await fresh_dsn()


@pytest.fixture
def kept() -> KeptSpans:
    return KeptSpans()


@pytest.fixture
async def models() -> AsyncIterator[TracedModels]:
    refused = Rule(when="a-secret", status=400, reply="no")
    script = Script(rules=(refused, Rule(reply=items({"text": "She lives in Rome", "from": [1]}))))
    async with ScriptedModel(script) as model:
        provider = model.providers()["openai"]
        traced = TracedModels(models_for(provider), provider)
        yield traced
        await traced.close()


async def test_a_batch_is_a_trace_of_the_memorys_tenant_with_its_calls_of_the_model(
    learning_dsn, tenant, models, kept
):
    async with ground_on(learning_dsn, models, recorder=kept) as ground:
        facts = semantic()
        memory = ground.memories.make(tenant, strategies=(facts,))
        await ground.said(memory, "I live in Rome")
        assert await ground.drain() == 1
        assert len(await ground.texts(memory)) == 1
    root, call = kept.one("memory_extraction"), kept.one("chat ")
    assert root.parent_id == ""
    assert (call.parent_id, call.context.trace_id) == (
        root.context.span_id, root.context.trace_id,
    )  # fmt: skip
    assert root.trail is call.trail
    assert root.trail.tenant == tenant
    assert root.attributes["freehold.memory.id"] == memory.id
    assert root.attributes["freehold.memory.strategy_id"] == facts.id
    assert root.attributes["freehold.job.id"]
    assert call.attributes["gen_ai.usage.input_tokens"] > 0
    assert call.attributes["gen_ai.usage.output_tokens"] > 0
    assert "Rome" not in repr([span.attributes for span in kept.spans])


async def test_two_batches_are_two_traces(learning_dsn, tenant, models, kept):
    async with ground_on(learning_dsn, models, recorder=kept) as ground:
        memory = ground.memories.make(tenant, strategies=(semantic("one"), semantic("two")))
        await ground.said(memory, "I live in Rome")
        assert await ground.drain() == 2
    roots = kept.named("memory_extraction")
    assert len({root.context.trace_id for root in roots}) == 2
    assert len({root.attributes["freehold.memory.strategy_id"] for root in roots}) == 2


async def test_what_the_model_refuses_has_failed_in_its_trace(learning_dsn, tenant, models, kept):
    async with ground_on(learning_dsn, models, recorder=kept) as ground:
        memory = ground.memories.make(tenant, strategies=(semantic(),))
        await ground.said(memory, "a-secret")
        await ground.drain()
    assert kept.one("memory_extraction").status is Status.ERROR
    assert kept.one("chat ").status is Status.ERROR
    assert "a-secret" not in repr([(span.message, span.attributes) for span in kept.spans])


async def test_without_a_model_nothing_is_traced(learning_dsn, tenant, models, kept):
    memories = FakeMemories()
    memory = memories.make(tenant, strategies=(semantic(),))
    async with ground_on(learning_dsn, models, memories=memories, recorder=kept) as ground:
        await ground.said(memory, "I live in Rome")
        [claim] = await ground.claims()
    async with ground_on(learning_dsn, None, memories=memories, recorder=kept) as without:
        await without.extraction.work(claim)
        assert await without.extraction.waiting(memory) == 1
    assert kept.spans == []
