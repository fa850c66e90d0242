"""Models that a fork calls through a gateway: answered from its record, or asked something else."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import openai
import pytest
from gateway_fork_ground import FORK, Gate

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import Conflict
from freehold.kernel.tracing import Span, Status
from freehold.ports.replay import FORK_ID, REPLAY, REPLAY_DIFFERS, LiveModel, ModelAnswer
from freehold.testing.scripted_model import Rule, Script, ScriptedModel

SAID = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "three little words"},
]
TOKENS = {
    "dimensionKeys": ["qualifiedModelId"],
    "entries": [{
        "dimensions": {"qualifiedModelId": "*"}, "tokens": [{"rate": 1000, "period": "minute"}],
    }],
}  # fmt: skip
EVENTS = "text/event-stream; charset=utf-8"


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(Script(rules=(Rule(reply="said live"),))) as model:
        yield model


@pytest.fixture
async def gate(
    tenant: str, database: PostgresDatabase, database_dsn: str, model: ScriptedModel
) -> AsyncIterator[Gate]:
    async with Gate(tenant, database, database_dsn).served() as gate:
        stand(gate, model)
        yield gate


@pytest.fixture
async def client(gate: Gate) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{gate.url}/inference/v1", api_key="none", max_retries=0, timeout=60
    ) as client:
        yield client


def stand(gate: Gate, model: ScriptedModel, **more: Any) -> None:
    endpoint = model.base_url.removesuffix("/v1")
    gate.has(gate.target("own", "inference.provider", endpoint=endpoint), **more)


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-recorded",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
    }).encode()  # fmt: skip


def events(*texts: str, usage: bool = False) -> bytes:
    """A chat's stream, as it was recorded."""
    common = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt"}
    chunks: list[dict[str, Any]] = [
        {**common, "choices": [{"index": 0, "delta": {"content": text}}]} for text in texts
    ]
    if usage:
        counted = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        chunks.append({**common, "choices": [], "usage": counted})
    lines = [json.dumps(chunk) for chunk in chunks]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


async def chat(client: openai.AsyncOpenAI, **more: Any) -> Any:
    return await client.chat.completions.create(model="gpt", messages=SAID, **more)


def call_of(gate: Gate) -> Span:
    return gate.span("chat ")


async def test_a_recorded_answer_is_the_answer_and_no_model_is_asked(
    gate: Gate, client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    gate.records.says.append(
        ModelAnswer(body=completion("from the record"), content_type="application/json")
    )
    answer = await chat(client)
    assert answer.choices[0].message.content == "from the record"
    assert len(model.requests) == 0
    [asked] = gate.records.models
    assert (asked["session"].session_id, asked["session"].tenant) == (FORK, gate.tenant)
    assert (asked["operation"], asked["model"]) == ("gateway:/v1/chat/completions", "gpt")
    assert json.loads(asked["body"])["messages"] == SAID


async def test_its_span_has_what_was_said_and_no_tokens(
    gate: Gate, client: openai.AsyncOpenAI
) -> None:
    said = ModelAnswer(
        body=completion("from the record"), content_type="application/json", differs=True
    )
    gate.records.says.append(said)
    await chat(client)
    told = call_of(gate).attributes
    assert (told[REPLAY], told[REPLAY_DIFFERS], told[FORK_ID]) == ("recorded", True, FORK)
    assert told["freehold.operation"] == "gateway:/v1/chat/completions"
    assert told["freehold.metered"] is True
    assert not [name for name in told if name.startswith("gen_ai.usage.")]
    assert json.loads(told["freehold.exchange.request"])["messages"] == SAID
    assert told["freehold.exchange.response"].encode() == said.body
    assert told["freehold.exchange.content_type"] == "application/json"
    assert "three little words" in told["gen_ai.input.messages"]
    assert "from the record" in told["gen_ai.output.messages"]


@pytest.mark.parametrize("asked_for_usage", [False, True])
async def test_a_recorded_stream_streams_with_its_usage_where_it_is_asked_for(
    gate: Gate, client: openai.AsyncOpenAI, asked_for_usage: bool
) -> None:
    body = events("from ", "the ", "record", usage=True)
    gate.records.says.append(ModelAnswer(body=body, content_type=EVENTS))
    options: Any = {"stream_options": {"include_usage": True}} if asked_for_usage else {}
    chunks = [chunk async for chunk in await chat(client, stream=True, **options)]
    texts = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert "".join(text or "" for text in texts) == "from the record"
    assert any(chunk.usage for chunk in chunks) is asked_for_usage
    told = call_of(gate).attributes
    assert (told["freehold.streamed"], told["freehold.exchange.content_type"]) == (True, EVENTS)
    assert told["freehold.exchange.response"].encode() == body


async def test_no_limit_is_used_up_by_the_record(
    gate: Gate, client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    stand(gate, model, limit=TOKENS)
    said = ModelAnswer(body=completion("from the record"), content_type="application/json")
    gate.records.says += [said, said, LiveModel()]
    answers = [await chat(client) for _ in range(3)]
    texts = [answer.choices[0].message.content for answer in answers]
    assert texts == ["from the record", "from the record", "said live"]


def messages(model: ScriptedModel) -> Sequence[Any]:
    document = model.requests[-1].document
    return [(each["role"], each["content"]) for each in document["messages"]]


async def test_a_live_call_is_made_as_it_is_asked(
    gate: Gate, client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    gate.records.says.append(LiveModel())
    assert (await chat(client)).choices[0].message.content == "said live"
    assert messages(model) == [("system", "Be brief."), ("user", "three little words")]
    told = call_of(gate).attributes
    assert (told[REPLAY], told[FORK_ID]) == ("live", FORK)
    assert "freehold.replay.changed" not in told
    assert told["gen_ai.usage.input_tokens"] > 0


async def test_a_change_takes_the_place_of_what_the_agent_says(
    gate: Gate, client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    gate.records.says.append(LiveModel(model="other", system="Rhyme.", prompt="four little words"))
    await chat(client, temperature=0.5)
    assert messages(model) == [("system", "Rhyme."), ("user", "four little words")]
    sent = model.requests[-1].document
    assert (sent["model"], sent["temperature"]) == ("other", 0.5)
    call = call_of(gate)
    assert call.attributes["freehold.replay.changed"] is True
    assert (call.name, call.attributes["gen_ai.request.model"]) == ("chat other", "other")
    assert "four little words" in call.attributes["freehold.exchange.request"]


async def test_a_change_that_has_no_place_in_what_is_asked_is_refused_in_words(
    gate: Gate, client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    gate.records.says.append(LiveModel(prompt="four little words"))
    with pytest.raises(openai.BadRequestError, match="no message of a user's"):
        await client.chat.completions.create(model="gpt", messages=SAID[:1])  # type: ignore[arg-type]
    assert len(model.requests) == 0
    assert call_of(gate).status is Status.ERROR


async def test_a_call_that_is_none_of_the_records_is_a_conflict(
    gate: Gate, client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    gate.records.says.append(Conflict("the record has no such call before the step"))
    with pytest.raises(openai.ConflictError, match="the record has no such call"):
        await chat(client.with_options(max_retries=2))
    assert len(gate.records.models) == 1, "it is no better the next time"
    assert len(model.requests) == 0
    call = call_of(gate)
    assert (call.status, call.attributes[FORK_ID]) == (Status.ERROR, FORK)
    assert REPLAY not in call.attributes


async def test_for_nobody_else_the_record_is_asked(
    gate: Gate, client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    gate.session = gate.session_of("an-agents-session-0123456789012345")
    assert (await chat(client)).choices[0].message.content == "said live"
    assert (len(model.requests), gate.records.models) == (1, [])
    assert not {REPLAY, FORK_ID} & set(call_of(gate).attributes)
