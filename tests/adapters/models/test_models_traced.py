"""The platform's own calls of models are spans of what they are made for."""

from collections.abc import AsyncIterator

import pytest

from freehold.adapters.models import models_for
from freehold.adapters.models.traced import TracedModels
from freehold.kernel import tracing
from freehold.kernel.errors import ValidationFailed
from freehold.kernel.tracing import Kind, Span, Status, Trail
from freehold.ports.models import Completion, Message
from freehold.testing.scripted_model import MODEL_NAME, Rule, Script, ScriptedModel
from kept_spans import KeptSpans

HELLO = (Message(role="user", text="three little words"),)


@pytest.fixture
def kept() -> KeptSpans:
    return KeptSpans()


@pytest.fixture
async def models() -> AsyncIterator[TracedModels]:
    refuse = Rule(when="refuse", status=400, reply="no")
    async with ScriptedModel(Script(rules=(refuse, Rule(reply="one two")))) as model:
        provider = model.providers()["openai"]
        traced = TracedModels(models_for(provider), provider)
        yield traced
        await traced.close()


def job(kept: KeptSpans) -> Span:
    return Span(Trail(kept), "a job", kind=Kind.INTERNAL, parent=None)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_is_told_with_its_tokens(
    kept: KeptSpans, models: TracedModels, streamed: bool
) -> None:
    with tracing.within(job(kept)) as around:
        if streamed:
            *_, last = [piece async for piece in models.stream(HELLO, model=MODEL_NAME)]
        else:
            last = await models.complete(HELLO, model=MODEL_NAME)
    assert isinstance(last, Completion)
    call = kept.one("chat ")
    assert (call.name, call.parent_id) == (f"chat {MODEL_NAME}", around.context.span_id)
    assert call.attributes["gen_ai.usage.input_tokens"] == last.usage.input_tokens == 3
    assert call.attributes["gen_ai.usage.output_tokens"] == last.usage.output_tokens == 2
    assert call.attributes["freehold.metered"] is True
    assert "little" not in repr(call.attributes)


async def test_what_failed_is_told_by_its_code(kept: KeptSpans, models: TracedModels) -> None:
    with tracing.within(job(kept)), pytest.raises(ValidationFailed):
        await models.complete((Message(role="user", text="refuse"),), model=MODEL_NAME)
    call = kept.one("chat ")
    assert (call.status, call.message) == (Status.ERROR, ValidationFailed.code)


async def test_outside_of_a_trace_nothing_is_recorded(
    kept: KeptSpans, models: TracedModels
) -> None:
    assert (await models.complete(HELLO, model=MODEL_NAME)).text == "one two"
    assert kept.spans == []
