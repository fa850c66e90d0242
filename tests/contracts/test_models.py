"""What every adapter of the Models port does, over its own wire."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from freehold.adapters.models import models_for
from freehold.kernel.errors import FreeholdError, Throttled, Unavailable, ValidationFailed
from freehold.ports.models import Completion, Message, ModelKind, Models, Tool, ToolCall
from freehold.testing.scripted_model import (
    DEFAULT_SCRIPT,
    MODEL_NAME,
    Rule,
    Script,
    ScriptedModel,
    ScriptedToolCall,
)

KEY = "canary-key-of-the-contract"
SAID = "I am a scripted stand-in, not a model. You said: hello there"
HELLO = (Message(role="system", text="Be brief."), Message(role="user", text="hello there"))
WEATHER = Tool("weather", "Tells the weather of a city.", {"type": "object", "properties": {}})
SCRIPT = Script(
    rules=(
        Rule(when=r"weather in (\w+)", tool_call=ScriptedToolCall("weather", {"city": r"\1"})),
        Rule(when="too fast", status=429, reply="slow down"),
        Rule(when="broken", status=500, reply="no"),
        Rule(when="wrong", status=400, reply=f"no such thing as {KEY}"),
        Rule(when="locked", status=401, reply=f"bad key {KEY}"),
        *DEFAULT_SCRIPT.rules,
    )
)


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(SCRIPT) as scripted:
        yield scripted


@pytest.fixture(params=list(ModelKind))
async def models(request: pytest.FixtureRequest, scripted: ScriptedModel) -> AsyncIterator[Models]:
    models = models_for(scripted.providers(KEY)[request.param])
    yield models
    await models.close()


async def streamed(models: Models, *messages: Message, **options: object) -> list[str | Completion]:
    async with asyncio.timeout(20):
        return [each async for each in models.stream(messages, **options)]  # type: ignore[arg-type]


async def test_a_completion_has_the_text_and_what_it_took(models: Models) -> None:
    answer = await models.complete(HELLO)
    assert (answer.text, answer.tool_calls, answer.model) == (SAID, (), MODEL_NAME)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 12)


async def test_a_stream_ends_with_the_completion_of_its_pieces(models: Models) -> None:
    *pieces, last = await streamed(models, *HELLO)
    assert len(pieces) == 12
    assert isinstance(last, Completion)
    assert "".join(str(piece) for piece in pieces) == last.text == SAID
    assert last == await models.complete(HELLO)


async def test_a_stream_gives_a_piece_before_the_model_has_said_the_next() -> None:
    go_on = asyncio.Event()

    async def hold(piece: int) -> None:
        if piece == 1:
            await go_on.wait()

    async with ScriptedModel(before_piece=hold) as scripted:
        for provider in scripted.providers().values():
            go_on.clear()
            models = models_for(provider)
            async with asyncio.timeout(20):
                async for _ in models.stream(HELLO):
                    go_on.set()
            await models.close()


async def test_a_tool_is_called_and_its_answer_goes_back(models: Models) -> None:
    asked = Message(role="user", text="the weather in Oslo")
    answer = await models.complete([asked], tools=[WEATHER])
    [call] = answer.tool_calls
    assert (call.name, call.arguments, answer.text) == ("weather", {"city": "Oslo"}, "")
    [again] = (await streamed(models, asked, tools=[WEATHER]))[-1].tool_calls  # type: ignore[union-attr]
    assert (again.name, again.arguments) == ("weather", {"city": "Oslo"})

    conversation = [
        asked,
        Message(role="assistant", tool_calls=(ToolCall(call.id, call.name, call.arguments),)),
        Message(role="tool", tool_call_id=call.id, text="4 degrees"),
    ]
    answer = await models.complete(conversation, tools=[WEATHER])
    assert answer.text.endswith("The tool answered: 4 degrees")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("too fast", Throttled),
        ("broken", Unavailable),
        ("wrong", ValidationFailed),
        ("locked", Unavailable),
    ],
)
async def test_a_failure_is_the_ports_own_and_holds_no_key(
    models: Models, text: str, error: type[FreeholdError], stream: bool
) -> None:
    message = Message(role="user", text=text)
    with pytest.raises(error) as failed:
        await (streamed(models, message) if stream else models.complete([message]))
    assert KEY not in str(failed.value)


@pytest.mark.parametrize("kind", list(ModelKind))
async def test_a_provider_that_is_away_is_unavailable(kind: ModelKind) -> None:
    async with ScriptedModel() as scripted:
        provider = scripted.providers(KEY)[kind]
    models = models_for(msgspec.structs.replace(provider))
    with pytest.raises(Unavailable, match="cannot be reached"):
        await models.complete(HELLO)
    await models.close()


async def test_the_named_model_wins_over_the_default(
    models: Models, scripted: ScriptedModel
) -> None:
    await models.complete(HELLO)
    await models.complete(HELLO, model="another")
    asked = [str(request.document.get("model", request.path)) for request in scripted.requests]
    assert MODEL_NAME in asked[0]
    assert "another" in asked[1]
