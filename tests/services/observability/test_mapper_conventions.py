"""What the conventions say that no library at hand writes: read from their specifications."""

import json
from typing import Any

import pytest

from freehold.ports.spans import Facts, SpanEvent, SpanRecord
from freehold.ports.telemetry import LogRecord
from freehold.services.observability import mapper
from freehold.services.observability.conventions import MAPPER_VERSION
from freehold.services.observability.messages import Message, Part, messages
from freehold.services.observability.model import MemoryRead, PolicyVerdict, Tokens


def span(
    attributes: dict[str, Any], *events: tuple[str, dict[str, Any]], name: str = "a span"
) -> SpanRecord:
    return SpanRecord(
        tenant="1", trace_id="1" * 32, span_id="2" * 16, name=name, started_ns=0, ended_ns=1,
        origin="agent", attributes=attributes,
        events=[SpanEvent(called, 0, inside) for called, inside in events],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "operation"),
    [
        ({"gen_ai.operation.name": "plan"}, "plan"),
        ({"gen_ai.operation.name": "upsert_memory"}, "upsert_memory"),
        ({"gen_ai.operation.name": "memory.search"}, "search_memory"),
        ({"gen_ai.operation.name": "brew_coffee"}, ""),
        ({"gen_ai.operation.name": 7}, ""),
        ({"openinference.span.kind": "RETRIEVER"}, "retrieval"),
        ({"openinference.span.kind": "CHAIN"}, ""),
        ({"llm.request.type": "embedding"}, "embeddings"),
        ({"traceloop.span.kind": "tool"}, "execute_tool"),
        ({"mcp.method.name": "tools/call"}, "execute_tool"),
        ({"mcp.method.name": "tools/list"}, ""),
        ({"freehold.policy.decision": "deny"}, "policy"),
        ({"freehold.credential.provider": "github"}, "credential"),
        ({"http.request.method": "GET"}, ""),
        ({}, ""),
    ],
)
def test_an_operation_has_one_name_whoever_says_it(
    attributes: dict[str, Any], operation: str
) -> None:
    assert mapper.facts("a span", attributes).operation == operation
    assert mapper.normalised(span(attributes)).operation == operation


def test_a_span_of_something_else_has_no_facts_and_no_family() -> None:
    read = mapper.normalised(span({"http.request.method": "GET"}))
    assert (read.family, read.mapper, read.captured) == ("", MAPPER_VERSION, False)
    assert (read.tool, read.tokens, read.content) == (None, None, None)


def test_tokens_of_a_cache_left_out_of_the_input_are_added() -> None:
    told = {
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 900,
        "gen_ai.usage.cache_creation.input_tokens": 40,
        "gen_ai.usage.output_tokens": 5,
    }
    assert mapper.tokens(told) == Tokens(input=950, output=5, cache_read=900, cache_write=40)


@pytest.mark.parametrize("wrong", [-5, "many", "12x", float("inf"), 2**40, None, [1]])
def test_a_count_that_cannot_be_true_is_none(wrong: Any) -> None:
    assert mapper.tokens({"gen_ai.usage.input_tokens": wrong}).input == 0


def test_messages_in_events_of_a_span_are_read() -> None:
    """semantic-conventions 1.28 to 1.36."""
    read = mapper.normalised(
        span(
            {"gen_ai.system": "openai", "gen_ai.operation.name": "chat"},
            ("gen_ai.system.message", {"content": "You are brief."}),
            ("gen_ai.user.message", {"content": "What is it worth?"}),
            (
                "gen_ai.assistant.message",
                {
                    "tool_calls": json.dumps(
                        [
                            {
                                "id": "c1",
                                "type": "function",
                                "function": {"name": "quote", "arguments": '{"of": "it"}'},
                            }
                        ]
                    )
                },
            ),
            ("gen_ai.tool.message", {"content": "12", "id": "c1"}),
            (
                "gen_ai.choice",
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": json.dumps({"role": "assistant", "content": "Twelve."}),
                },
            ),
        )
    )
    assert read.family == "gen_ai_legacy"
    assert read.content is not None
    assert read.content.system == [Part(type="text", text="You are brief.")]
    assert read.content.input == [
        Message(role="user", parts=[Part(type="text", text="What is it worth?")]),
        Message(
            role="assistant",
            parts=[Part(type="tool_call", id="c1", name="quote", arguments={"of": "it"})],
        ),
        Message(role="tool", parts=[Part(type="tool_result", id="c1", result="12")]),
    ]
    assert read.content.output == [
        Message(role="assistant", parts=[Part(type="text", text="Twelve.")], finish_reason="stop")
    ]


@pytest.mark.parametrize(
    "logs",
    [
        [
            ("gen_ai.user.message", {"content": "Hello?"}),
            ("gen_ai.choice", {"index": 0, "message": {"content": "Hi.", "role": "assistant"}}),
        ],
        [
            (
                "",
                {
                    "input": {"messages": [{"role": "user", "content": "Hello?"}]},
                    "output": {"messages": [{"role": "assistant", "content": "Hi."}]},
                },
            )
        ],
        [
            (
                "gen_ai.client.inference.operation.details",
                {
                    "gen_ai.input.messages": [
                        {"role": "user", "parts": [{"type": "text", "content": "Hello?"}]}
                    ],
                    "gen_ai.output.messages": [
                        {"role": "assistant", "parts": [{"type": "text", "content": "Hi."}]}
                    ],
                },
            )
        ],
    ],
    ids=["events of 1.36", "one log a call", "details of 1.38"],
)
def test_messages_in_logs_that_name_the_span_are_read(logs: list[tuple[str, Any]]) -> None:
    records = [
        LogRecord(tenant="1", at_ns=at, origin="agent", event=event, body=body)
        for at, (event, body) in enumerate(logs)
    ]
    read = mapper.normalised(span({"gen_ai.operation.name": "chat"}), records)
    assert read.content is not None
    [heard], [said] = read.content.input, read.content.output
    assert (heard.role, heard.parts[0].text) == ("user", "Hello?")
    assert (said.role, said.parts[0].text) == ("assistant", "Hi.")


def test_memory_of_the_new_repository_and_of_ours_reads_the_same() -> None:
    theirs = {
        "gen_ai.operation.name": "search_memory",
        "gen_ai.memory.store.id": "store-1",
        "gen_ai.memory.query.text": "diet",
        "gen_ai.memory.records": json.dumps([
            {"id": "mem-1", "content": "vegetarian", "score": 0.9}
        ]),
    }  # fmt: skip
    assert mapper.normalised(span(theirs)).memory == MemoryRead(
        memory_id="store-1",
        query="diet",
        record_ids=["mem-1"],
        records=[{"id": "mem-1", "content": "vegetarian", "score": 0.9}],
    )
    ours = {
        "gen_ai.operation.name": "search_memory",
        "freehold.memory.id": "diet-0123456789",
        "freehold.memory.record_ids": ["mem-1", "mem-2"],
        "freehold.memory.namespace": "/people/anna",
    }
    assert mapper.normalised(span(ours)).memory == MemoryRead(
        memory_id="diet-0123456789", record_ids=["mem-1", "mem-2"], namespaces=["/people/anna"]
    )


def test_a_decision_is_read_with_the_policies_that_determined_it() -> None:
    read = mapper.normalised(
        span({
            "freehold.policy.decision": "deny",
            "freehold.policy.ids": ["only_small_refunds-0123456789"],
            "freehold.policy.mode": "LOG_ONLY",
            "freehold.decision.id": "d-1",
        })
    )  # fmt: skip
    assert (read.family, read.operation) == ("freehold", "policy")
    assert read.policy == PolicyVerdict(
        decision="deny",
        policies=["only_small_refunds-0123456789"],
        mode="LOG_ONLY",
        decision_id="d-1",
    )


def test_openinference_shows_what_went_in_and_out_of_a_tool() -> None:
    read = mapper.normalised(
        span(
            {
                "openinference.span.kind": "TOOL",
                "tool.name": "quote",
                "tool.parameters": '{"type": "object", "properties": {"of": {"type": "string"}}}',
                "input.value": '{"of": "it"}',
                "output.value": "12",
            }
        )
    )
    assert read.tool is not None
    assert (read.tool.name, read.tool.arguments, read.tool.result) == ("quote", {"of": "it"}, "12")
    assert mapper.facts("x", {"openinference.span.kind": "TOOL", "tool.name": "quote"}) == Facts(
        operation="execute_tool", tool="quote"
    )


@pytest.mark.parametrize(
    ("shape", "part"),
    [
        ({"type": "thinking", "thinking": "hm"}, Part(type="reasoning", text="hm")),
        ({"text": "hm", "thought": True}, Part(type="reasoning", text="hm")),
        (
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            Part(type="reasoning", text="hm"),
        ),
        (
            {"type": "tool_use", "id": "t", "name": "add", "input": {"a": 1}},
            Part(type="tool_call", id="t", name="add", arguments={"a": 1}),
        ),
        (
            {"type": "function_call", "call_id": "t", "name": "add", "arguments": '{"a": 1}'},
            Part(type="tool_call", id="t", name="add", arguments={"a": 1}),
        ),
        (
            {"functionCall": {"name": "add", "args": {"a": 1}}},
            Part(type="tool_call", name="add", arguments={"a": 1}),
        ),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "2"}]},
            Part(type="tool_result", id="t", result="2"),
        ),
        (
            {"toolResult": {"toolUseId": "t", "content": [{"json": {"sum": 2}}]}},
            Part(type="tool_result", id="t", result={"sum": 2}),
        ),
        (
            {"type": "function_call_output", "call_id": "t", "output": "2"},
            Part(type="tool_result", id="t", result="2"),
        ),
        (
            {"type": "uri", "modality": "image", "uri": "https://example.com/a.png"},
            Part(type="image", uri="https://example.com/a.png"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            Part(type="image"),
        ),
        ({"type": "riddle", "of": "it"}, Part(type="other", raw={"type": "riddle", "of": "it"})),
    ],
)
def test_a_part_reads_the_same_from_every_wire(shape: dict[str, Any], part: Part) -> None:
    [message] = messages([{"role": "assistant", "content": [shape]}], role="user")
    assert message == Message(role="assistant", parts=[part])


@pytest.mark.parametrize(
    "value",
    [
        "[",
        "{]",
        '[{"role": 1}]',
        "[[[[1]]]]",
        [None, 3],
        {"messages": "x"},
        "[" * 5000 + "]" * 5000,
    ],
)
def test_what_is_no_message_breaks_nothing(value: Any) -> None:
    mapper.normalised(
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.input.messages": value,
                "gen_ai.prompt.0": "x",
                "gen_ai.prompt.0.content": "y",
                "gen_ai.prompt.zero.content": "z",
                "gcp.vertex.agent.llm_request": value,
                "gcp.vertex.agent.llm_response": value,
                "gen_ai.memory.records": value,
                "gen_ai.response.finish_reasons": value,
            },
            ("gen_ai.user.message", {"content": value}),
            ("gen_ai.choice", {"message": value}),
        )
    )


def test_roles_and_names_that_are_left_without_content_are_read_and_not_called_captured() -> None:
    read = mapper.normalised(
        span(
            {
                "llm.request.type": "chat",
                "gen_ai.prompt.0.role": "user",
                "gen_ai.completion.0.role": "assistant",
                "gen_ai.completion.0.tool_calls.0.id": "c1",
                "gen_ai.completion.0.tool_calls.0.name": "refund",
            },
            ("gen_ai.choice", {"finish_reason": "stop"}),
        )
    )
    assert read.captured is False
    assert read.content is not None
    assert read.content.output[0].parts == [Part(type="tool_call", id="c1", name="refund")]


def test_what_is_not_asked_for_is_not_decoded() -> None:
    said = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.call.arguments": '{"order": 7}',
        "gen_ai.tool.call.id": "c1",
    }
    read = mapper.normalised(span(said), content=False)
    assert read.captured is True
    assert read.content is None
    assert read.tool is not None
    assert (read.tool.call_id, read.tool.arguments) == ("c1", None)
