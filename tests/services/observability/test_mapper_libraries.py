"""What libraries really wrote of one conversation, read as the same."""

import pytest
from told_spans import of_library

from freehold.ports.spans import Facts, SpanRecord
from freehold.services.observability import mapper
from freehold.services.observability.messages import Message, Part
from freehold.services.observability.model import Content, Normalised, ToolUse

WITH_CONTENT = (
    "strands_legacy", "strands_latest", "adk_v1", "adk_latest", "traceloop_openai_040",
    "traceloop_openai", "openinference_openai",
)  # fmt: skip
FAMILIES = {
    "strands_legacy": "strands", "strands_latest": "strands", "adk_v1": "adk",
    "adk_latest": "adk", "traceloop_openai_040": "openllmetry", "traceloop_openai": "gen_ai",
    "openinference_openai": "openinference",
}  # fmt: skip
# ADK says the inputs twice in its first schema: in `call_llm`, and without content below it.
CALLS = {"adk_v1": "call_llm"}
REASONING = ("strands_legacy", "strands_latest", "adk_v1")


def _calls(library: str) -> list[tuple[SpanRecord, Normalised]]:
    read = [(span, mapper.normalised(span)) for span in of_library(library)]
    named = CALLS.get(library)
    return [
        (span, is_)
        for span, is_ in read
        if (span.name == named if named else is_.operation in ("chat", "generate_content"))
    ]


def _content(read: Normalised) -> Content:
    assert read.content is not None
    return read.content


@pytest.mark.parametrize("library", WITH_CONTENT)
def test_the_first_model_call_hears_the_person_and_asks_for_the_tool(library: str) -> None:
    [(_, first), _] = _calls(library)
    content = _content(first)
    assert [p.text for p in content.system if p.text.startswith("You are brief.")]
    assert content.input == [
        Message(role="user", parts=[Part(type="text", text="Weather in Utrecht?")])
    ]
    [said] = content.output
    [call] = [part for part in said.parts if part.type == "tool_call"]
    assert said.role == "assistant"
    assert (call.name, call.arguments) == ("get_weather", {"city": "Utrecht"})
    assert call.id in ("tooluse_1", "fc-1", "call_7Rk")
    assert first.captured


@pytest.mark.parametrize("library", REASONING)
def test_reasoning_is_a_part_of_its_own(library: str) -> None:
    [(_, first), _] = _calls(library)
    [said] = _content(first).output
    assert said.parts[0] == Part(type="reasoning", text="The user wants the weather.")


@pytest.mark.parametrize("library", WITH_CONTENT)
def test_the_second_model_call_hears_the_tools_result_and_answers(library: str) -> None:
    [_, (_, second)] = _calls(library)
    heard = [part for message in _content(second).input for part in message.parts]
    [result] = [part for part in heard if part.type == "tool_result"]
    assert result.result in ("rain, 9 C", {"weather": "rain, 9 C"})
    assert [part.id for part in heard if part.type == "tool_call"] == [result.id]
    [said] = _content(second).output
    assert said.parts == [Part(type="text", text="It rains in Utrecht.")]


@pytest.mark.parametrize("library", WITH_CONTENT)
def test_tokens_are_read_with_those_of_the_cache(library: str) -> None:
    for _, read in _calls(library):
        assert read.tokens is not None
        # ADK adds the five of its reasoning to what was put out.
        assert (read.tokens.input, read.tokens.cache_read) == (120, 64)
        assert read.tokens.output - read.tokens.reasoning == 18


@pytest.mark.parametrize("library", WITH_CONTENT)
def test_the_family_that_decided_is_told(library: str) -> None:
    assert {read.family for _, read in _calls(library)} == {FAMILIES[library]}


@pytest.mark.parametrize("library", ["strands_legacy", "strands_latest", "adk_v1", "adk_latest"])
def test_the_tool_call_has_its_arguments_and_its_result(library: str) -> None:
    [tool] = [tool for span in of_library(library) if (tool := mapper.normalised(span).tool)]
    id, result = ("tooluse_1", "rain, 9 C") if "strands" in library else (
        "fc-1", {"weather": "rain, 9 C"}
    )  # fmt: skip
    assert tool == ToolUse(
        name="get_weather", call_id=id, arguments={"city": "Utrecht"}, result=result
    )


@pytest.mark.parametrize("library", WITH_CONTENT)
def test_each_model_call_counts_once(library: str) -> None:
    facts = [mapper.facts(s.name, s.attributes, scope=s.scope) for s in of_library(library)]
    counted = [each for each in facts if each.operation in ("chat", "generate_content")]
    assert [each.input_tokens for each in counted] == [120, 120]
    assert {each.model for each in counted} <= {
        "gpt-4o", "gpt-4o-2024-08-06", "claude-sonnet-4-5", "gemini-2.5-flash"
    }  # fmt: skip


def test_an_agents_own_loop_is_no_operation() -> None:
    facts = {
        span.name: mapper.facts(span.name, span.attributes, scope=span.scope)
        for span in of_library("strands_legacy")
    }
    assert facts["execute_event_loop_cycle"] == Facts()
    assert facts["execute_tool get_weather"] == Facts(operation="execute_tool", tool="get_weather")
    assert facts["invoke_agent weather"].input_tokens == 240, "the sum of its calls"
