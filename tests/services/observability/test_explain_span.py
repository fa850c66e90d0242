"""What led to a tool call, how sure each link is, and what could not be told."""

from typing import Any

import pytest
from told_spans import Trace, answered, asks, of_library, text

from freehold.services.observability.explaining import ExplainedStep, Explaining, SpanExplanation


def explained(trace: Trace, span_id: str) -> SpanExplanation:
    target = next(span for span in trace.spans if span.span_id == span_id)
    return Explaining(trace.spans, {}).explain(target)


def step(explanation: SpanExplanation, kind: str) -> ExplainedStep:
    [found] = [each for each in explanation.steps if each.kind == kind]
    return found


def kinds(explanation: SpanExplanation) -> list[str]:
    return [each.kind for each in explanation.steps]


def _refund(**tool: Any) -> tuple[Trace, str]:
    """Memory is searched, an order looked up, and a refund asked for, which a policy allows."""
    trace = Trace("1")
    root = trace.span("InvokeAgentRuntime", ms=900, origin="platform")
    agent = trace.span(
        "invoke_agent shop", under=root, at=1, ms=890,
        attributes={"gen_ai.operation.name": "invoke_agent"},
    )  # fmt: skip
    trace.span(
        "search_memory", under=agent, at=5, ms=20, origin="platform",
        attributes={
            "gen_ai.operation.name": "search_memory", "freehold.memory.id": "shop-0123456789",
            "freehold.memory.record_ids": ["mem-1"], "freehold.memory.namespace": "/people/anna",
        },
    )  # fmt: skip
    trace.chat(
        under=agent, at=30, ms=50, heard=[text("user", "I want my money back for order 7.")],
        said=[asks("order", {"id": 7}, id="c1")],
    )  # fmt: skip
    trace.tool(
        "order", under=agent, at=90, ms=20, call_id="c1", arguments={"id": 7}, result="9 EUR"
    )
    trace.chat(
        under=agent, at=120, ms=60,
        heard=[
            text("user", "I want my money back for order 7."),
            asks("order", {"id": 7}, id="c1"),
            answered("c1", "9 EUR"),
        ],
        said=[asks("refund", {"order": 7}, id="c2", thinks="Nine euros are within the rules.")],
    )  # fmt: skip
    fields = {"call_id": "c2", "arguments": {"order": 7}, **tool}
    call = trace.tool("refund", under=agent, at=200, ms=80, **fields)
    gateway = trace.tool(
        "shop___refund", under=call, at=205, ms=70, origin="platform",
        attributes={"freehold.gateway.id": "g-1"},
    )  # fmt: skip
    trace.span(
        "policy", under=gateway, at=206, ms=1, origin="platform",
        attributes={
            "freehold.policy.decision": "allow", "freehold.policy.ids": ["small-0123456789"],
        },
    )  # fmt: skip
    trace.span(
        "credential", under=gateway, at=208, ms=1, origin="platform",
        attributes={"freehold.credential.provider": "shop-key"},
    )  # fmt: skip
    trace.chat(under=agent, at=300, ms=50, said=[asks("refund", {"order": 7}, id="c9")])
    return trace, call


def test_the_whole_chain_is_told_in_the_order_of_time() -> None:
    trace, call = _refund()
    told = explained(trace, call)
    assert kinds(told) == [
        "request", "memory", "tool_result", "model_call", "policy", "credential", "explained",
    ]  # fmt: skip
    model = step(told, "model_call")
    assert (model.sure, model.why) == ("id", "it asked for tool call c2")
    assert model.reasoning == ["Nine euros are within the rules."]
    assert step(told, "request").messages[0].parts[0].text == "I want my money back for order 7."
    earlier = step(told, "tool_result")
    assert (earlier.sure, earlier.tool and earlier.tool.result) == ("id", "9 EUR")
    memory = step(told, "memory").memory
    assert memory is not None
    assert (memory.record_ids, memory.namespaces) == (["mem-1"], ["/people/anna"])
    decided = step(told, "policy")
    assert decided.policy is not None
    assert (decided.sure, decided.policy.policies) == ("tree", ["small-0123456789"])
    assert step(told, "credential").credential == "shop-key"
    assert told.missing == ["The texts of retrieved memory were not captured; their ids were."]


def test_a_gateways_own_span_is_explained_by_the_agents_call_around_it() -> None:
    trace, _ = _refund()
    [gateway] = [span for span in trace.spans if span.name == "execute_tool shop___refund"]
    told = explained(trace, gateway.span_id)
    assert step(told, "model_call").sure == "id"
    assert step(told, "policy").policy is not None


def test_a_decision_is_explained_as_the_call_it_is_of() -> None:
    trace, _ = _refund()
    [decision] = [span for span in trace.spans if span.name == "policy"]
    told = explained(trace, decision.span_id)
    assert told.span.name == "policy"
    assert told.steps[-1].name == "execute_tool shop___refund"
    assert step(told, "model_call").sure == "id"


def test_without_an_id_the_nearest_with_equal_arguments_asked() -> None:
    trace, call = _refund(call_id="")
    model = step(explained(trace, call), "model_call")
    assert model.sure == "arguments"
    assert model.reasoning == ["Nine euros are within the rules."], "not the call that came later"


def test_with_other_arguments_or_none_it_is_told_by_time_alone() -> None:
    trace, call = _refund(call_id="", arguments={"order": 8})
    model = step(explained(trace, call), "model_call")
    assert (model.sure, model.why) == (
        "time", "the nearest that asked for this tool, with other arguments",
    )  # fmt: skip
    trace, call = _refund(call_id="", arguments="")
    told = explained(trace, call)
    assert step(told, "model_call").sure == "time"


def test_without_content_the_nearest_model_call_is_named_and_the_gap_said() -> None:
    trace = Trace("1")
    root = trace.span("invoke_agent", ms=500)
    trace.chat(under=root, at=1, ms=10)
    nearest = trace.chat(under=root, at=20, ms=10)
    call = trace.tool("refund", under=root, at=40, call_id="c1")
    told = explained(trace, call)
    model = step(told, "model_call")
    assert (model.span_id, model.sure) == (nearest, "time")
    assert told.missing == [
        "What the model was sent and said was not captured: content capture is off, or the "
        "instrumentation leaves it out.",
        "What the tool was called with was not captured.",
        "The request was not captured.",
    ]


def test_a_call_that_no_model_asked_for_says_so() -> None:
    trace = Trace("1")
    call = trace.tool("refund", under="f" * 16, at=40, arguments={})
    told = explained(trace, call)
    assert kinds(told) == ["explained"]
    assert told.missing == [
        "No model call comes before it in this trace.",
        "The request was not captured.",
        f"Its parent {'f' * 16} never came: what was above is unknown.",
    ]


def test_memory_whose_text_the_model_was_sent_is_surer_than_time() -> None:
    trace = Trace("1")
    searched = {
        "gen_ai.operation.name": "search_memory",
        "gen_ai.memory.records": '[{"id": "m1", "content": "Anna eats no meat."},'
        ' {"id": "m2", "content": "Unused words."}]',
    }
    trace.span("search", attributes=searched)
    trace.span("search", at=1, attributes={
        **searched, "gen_ai.memory.records": '[{"id": "m3", "content": "Something else."}]',
    })  # fmt: skip
    heard = [text("user", "Known: Anna eats no meat. What shall I order?")]
    trace.chat(at=20, heard=heard, said=[asks("order", {}, id="c1")])
    call = trace.tool("order", at=40, call_id="c1", arguments={})
    remembered = [each for each in explained(trace, call).steps if each.kind == "memory"]
    assert [(each.memory and each.memory.record_ids, each.sure) for each in remembered] == [
        (["m1", "m2"], "content"), (["m3"], "time"),
    ]  # fmt: skip


def test_memory_that_was_written_led_to_nothing() -> None:
    trace = Trace("1")
    trace.span("create_memory", attributes={
        "gen_ai.operation.name": "create_memory", "freehold.memory.record_ids": ["m1"],
    })  # fmt: skip
    call = trace.tool("order", at=40, arguments={})
    assert "memory" not in kinds(explained(trace, call))


def test_another_agent_called_by_the_tool_keeps_its_decisions_to_itself() -> None:
    trace = Trace("1")
    trace.chat(said=[asks("ask_colleague", {}, id="c1")])
    call = trace.tool("ask_colleague", at=20, ms=400, call_id="c1", arguments={})
    other = trace.span(
        "invoke_agent other", under=call, at=30, ms=300,
        attributes={"gen_ai.operation.name": "invoke_agent"},
    )  # fmt: skip
    inner = trace.tool("erase", under=other, at=40)
    trace.span(
        "policy", under=inner, at=41, origin="platform",
        attributes={"freehold.policy.decision": "deny"},
    )  # fmt: skip
    assert "policy" not in kinds(explained(trace, call))
    assert "policy" in kinds(explained(trace, inner))


def test_a_model_call_is_explained_too() -> None:
    trace, _ = _refund()
    second = [span for span in trace.spans if span.name == "chat"][1]
    told = explained(trace, second.span_id)
    assert kinds(told) == ["request", "memory", "tool_result", "explained"]


@pytest.mark.parametrize("library", ["strands_legacy", "strands_latest", "adk_v1", "adk_latest"])
def test_what_libraries_really_write_is_explained_by_the_id_of_the_call(library: str) -> None:
    spans = of_library(library)
    [call] = [span for span in spans if span.name.startswith("execute_tool")]
    told = Explaining(spans, {}).explain(call)
    model = step(told, "model_call")
    assert model.sure == "id"
    assert step(told, "request").messages[0].parts[0].text == "Weather in Utrecht?"


def test_spans_by_the_thousand_are_explained() -> None:
    trace = Trace("1")
    for at in range(2_000):
        trace.chat(at=at, ms=0.5, heard=[text("user", f"{at}?")], said=[asks("a", at, id=f"c{at}")])
    call = trace.tool("a", at=3_000, call_id="c1999", arguments=1999)
    old = trace.tool("a", at=3_001, call_id="c5", arguments=5)
    assert step(explained(trace, call), "model_call").sure == "id"
    assert step(explained(trace, old), "model_call").sure == "time", "it looks no further back"
