"""What a framework wrapped is searched and learned from by the words alone; the event keeps it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_ground import RecordGround

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.said import said_in

MOMENT = "2026-11-22T00:59:12.621855+00:00"


def of_strands(*blocks: Any, role: str = "user", **more: Any) -> str:
    """As AWS's session manager of Strands writes a message."""
    message = {"role": role, "content": list(blocks), "metadata": {"usage": {"inputTokens": 5}}}
    return json.dumps(
        {
            "message": message, "message_id": 0, "redact_message": None,
            "created_at": MOMENT, "updated_at": MOMENT, **more,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
async def ground(
    database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RecordGround]:
    async with RecordGround(database, tmp_path_factory.mktemp("said"), "said").open() as opened:
        yield opened


async def test_a_turn_is_its_words_and_the_event_stays_as_it_came(
    ground: RecordGround, tenant: str
) -> None:
    mine = ground.of(ground.memory(tenant, turns=True))
    wrapped = of_strands({"text": "My dog is called Bella."})
    event = await mine.say(wrapped)
    assert await mine.found("dog", namespacePath="/turns/") == ["My dog is called Bella."]
    assert await mine.found("inputTokens", namespacePath="/turns/") == []
    kept = await mine.get_event(actorId="anna", sessionId="s1", eventId=event)
    assert kept["event"]["payload"][0]["conversational"]["content"]["text"] == wrapped


async def test_a_tools_answer_is_not_the_users_words(ground: RecordGround, tenant: str) -> None:
    mine = ground.of(ground.memory(tenant, turns=True))
    result = {"toolUseId": "t1", "status": "success", "content": [{"text": "It is 21 degrees."}]}
    await mine.say(of_strands({"toolResult": result}))
    answer = await mine.retrieve_memory_records(
        namespacePath="/turns/", searchCriteria={"searchQuery": "degrees"}
    )
    [found] = answer["memoryRecordSummaries"]
    assert found["content"] == {"text": "It is 21 degrees."}
    assert found["metadata"]["freehold:role"] == {"stringValue": "TOOL"}


def test_words_calls_and_answers_are_what_is_left() -> None:
    use = {"toolUse": {"toolUseId": "t1", "name": "add", "input": {"a": 1}}}
    said = of_strands({"reasoningContent": {}}, {"text": "I add."}, use, role="assistant")
    assert said_in(said) == ('I add.\n[add {"a":1}]', False)
    result = {"toolUseId": "t1", "content": [{"json": {"sum": 3}}, {"image": {}}]}
    assert said_in(of_strands({"toolResult": result})) == ('{"sum":3}', True)
    gone = {"role": "user", "content": [{"text": "[redacted]"}]}
    assert said_in(of_strands({"text": "my secret"}, redact_message=gone)) == ("[redacted]", False)


def test_the_form_of_openai_is_known_too() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert said_in(json.dumps(asked)) == ('[add {"a": 1}]', False)
    told = {"role": "tool", "tool_call_id": "1", "content": "3"}
    assert said_in(json.dumps(told)) == ("3", True)
    assert said_in(json.dumps({"role": "user", "content": "Hello."})) == ("Hello.", False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "My dog is called Bella.",
        '{"message": "a document of somebody\'s own"}',
        '{"message": {"role": "user"}, "message_id": 0, "created_at": ""}',
        '{"message": {"role": "user", "content": "x"}, "message_id": 0, "created_at": ""}',
        '{"role": "user", "content": "x", "salary": 3}',
        '{"role": "boss", "content": "x"}',
        '{"role": "user"}',
        '{"role": "user", "content": "x", "role": {}}',
        '{"role": "user", "content": "x"',
        '{"message": {' + '"a": {' * 5000,
    ],
)
def test_any_other_text_is_itself(text: str) -> None:
    assert said_in(text) == (text, False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["text", "toolUse", "toolResult", "content", "name", "input"]), json_values
    ),
    json_values,
)
def test_no_document_is_too_odd(block: Any, content: Any) -> None:
    for odd in ([block, content], [{"toolResult": {"content": [block, content]}}]):
        words, _ = said_in(of_strands(*odd))
        assert isinstance(words, str)
    for chat in ({"role": "tool", "content": content, "tool_calls": [block, {"function": block}]},):
        assert isinstance(said_in(json.dumps(chat))[0], str)
    assert isinstance(said_in(json.dumps({"role": block, "content": content}))[0], str)
