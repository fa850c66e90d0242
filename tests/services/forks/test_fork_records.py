"""A session out of its spans: which are steps, in which turn, and why others are none."""

import msgspec
import pytest
from recorded_spans import Told

from freehold.ports.spans import SpanRecord
from freehold.services.forks.keeping import CannotFork, kept, step_of
from freehold.services.forks.model import ForkStep, Until
from freehold.services.forks.record import Record, name_of


def record(told: Told, *others: Told) -> Record:
    spans = [span for each in (told, *others) for span in each.spans]
    return Record(reversed(spans), agent_id=told.agent, session_id=told.session)


def outline(found: Record) -> list[tuple[int, list[str]]]:
    return [(turn.number, [name_of(call) for call in turn.calls]) for turn in found]


def refused(told: Told, span: SpanRecord, *others: Told, until: Until = "turn") -> str:
    found = record(told, *others)
    with pytest.raises(CannotFork) as caught:
        kept(found, step_of(found, span), until)
    return caught.value.message


def rows(told: Told, span: SpanRecord, until: Until = "turn") -> list[tuple[str, str]]:
    found = record(told)
    return [(row.lane, row.place) for row in kept(found, step_of(found, span), until).calls]


def test_turns_and_their_calls_come_by_their_start() -> None:
    told = Told()
    told.turn()
    told.model(model="one")
    told.tool("bank___pay")
    told.turn()
    told.model(model="two")
    assert outline(record(told)) == [(1, ["one", "bank___pay"]), (2, ["two"])]


def test_a_step_says_where_it_is() -> None:
    told = Told()
    told.turn()
    told.model()
    turn = told.turn()
    told.model()
    tool = told.tool("bank___pay")
    found = record(told)
    assert step_of(found, turn) == ForkStep(kind="turn", name="greeter", turn=2, position=0)
    assert step_of(found, tool) == ForkStep(kind="tool", name="bank___pay", turn=2, position=2)


def test_calls_below_an_agents_own_spans_are_of_the_turn_above_those() -> None:
    told = Told()
    told.turn()
    thought = told.span("think", origin="agent")
    told.model(under=thought)
    assert outline(record(told)) == [(1, ["gpt-4o"])]


def test_what_an_agent_hides_the_parent_of_is_of_the_turn_under_way() -> None:
    told = Told()
    told.turn()
    told.turn()
    lost = msgspec.structs.replace(told.span("gone", origin="agent"), trace_id="ab" * 16)
    told.spans.pop()
    told.model(under=lost)
    assert outline(record(told)) == [(1, []), (2, ["gpt-4o"])]


def test_a_session_within_a_larger_trace_has_its_own_calls_alone() -> None:
    outer = Told()
    turn = outer.turn()
    outer.model(model="outer")
    inner = Told(agent="agent-y", began_ns=outer.spans[-1].started_ns)
    inner.span(
        "invoke_agent", under=turn,
        attributes={"gen_ai.operation.name": "invoke_agent", "freehold.exchange.response": "x"},
    )  # fmt: skip
    inner.model(under=inner.spans[-1], model="inner")
    spans = [*outer.spans, *inner.spans]
    of_inner = Record(spans, agent_id="agent-y", session_id=inner.session)
    assert outline(of_inner) == [(1, ["inner"])]
    of_outer = Record(spans, agent_id=outer.agent, session_id=outer.session)
    assert outline(of_outer) == [(1, ["outer"])]
    [called] = of_outer.turns[0].beside.agents
    assert called.agent_id == "agent-y"


def test_models_behind_gateways_are_calls_too() -> None:
    told = Told()
    told.turn()
    path = told.span(
        "gateway", attributes={"freehold.operation": "bedrock-agentcore:InvokeGateway"}
    )
    told.model(under=path, attributes={"freehold.operation": "gateway:/v1/chat/completions"})
    [(_, _, call)] = record(told).calls
    assert call.attributes["freehold.operation"] == "gateway:/v1/chat/completions"


def test_what_came_before_is_kept_with_its_answers_and_what_comes_after_without() -> None:
    told = Told()
    told.turn()
    told.model(answered="one")
    told.turn()
    told.model(answered="two")
    step = told.tool("bank___pay")
    told.model(answered="three")
    told.turn()
    told.model()
    found = record(told)
    whole = kept(found, step_of(found, step), "turn")
    assert [(row.turn, row.place, row.answer is None) for row in whole.calls] == [
        (1, "before", False), (2, "before", False), (2, "step", True), (2, "after", True),
    ]  # fmt: skip
    assert [turn.number for turn in whole.turns] == [1, 2]
    assert [turn.number for turn in kept(found, whole.step, "session").turns] == [1, 2, 3]


def test_of_a_turn_nothing_is_kept_but_what_came_before_it() -> None:
    told = Told()
    told.turn()
    told.model()
    turn = told.turn()
    told.model()
    assert rows(told, turn) == [("model ChatCompletions", "before")]


def test_model_calls_that_failed_are_left_out_and_tool_calls_are_not() -> None:
    told = Told()
    told.turn()
    told.model(status=2, attributes={"http.response.status_code": 429})
    told.tool("bank___pay", result=None, status=2, message="JSON-RPC -32602")
    step = told.model()
    found = record(told)
    whole = kept(found, step_of(found, step), "turn")
    assert [(row.lane, row.place) for row in whole.calls] == [
        ("tool gw-1 bank___pay", "before"), ("model ChatCompletions", "step"),
    ]  # fmt: skip
    answer = msgspec.json.decode(whole.calls[0].answer or b"")
    assert answer == {"content": [{"type": "text", "text": "JSON-RPC -32602"}], "isError": True}
    assert any("1 calls of models that failed" in note for note in whole.notes)


def test_what_is_run_again_beside_the_record_is_told_beforehand() -> None:
    told = Told()
    told.turn()
    told.inner("add_up")
    told.memory()
    told.model(operation="Embeddings")
    step = told.model()
    found = record(told)
    notes = " ".join(kept(found, step_of(found, step), "turn").notes)
    assert "add_up" in notes
    assert "Memory" in notes
    assert "Embeddings" in notes


def test_a_frameworks_own_account_of_a_gateways_tool_is_no_tool_of_its_own() -> None:
    told = Told()
    told.turn()
    around = told.inner("pay")
    told.tool("bank___pay", under=around)
    told.inner("add_up")
    assert [name_of(span) for span in record(told).turns[0].beside.inner] == ["add_up"]


# -- why not


def test_without_content_it_says_which_tag_to_set() -> None:
    told = Told(captured=False)
    told.turn()
    reason = refused(told, told.model())
    assert "turn 1" in reason
    assert "freehold:content-capture: on" in reason


def test_a_call_without_content_before_the_step_is_named() -> None:
    told = Told()
    told.turn()
    told.captured = False
    told.tool("bank___pay")
    told.captured = True
    reason = refused(told, told.model())
    assert "call 1 of turn 1 (bank___pay)" in reason
    assert "freehold:content-capture: on" in reason


def test_an_answer_that_was_cut_is_no_answer() -> None:
    told = Told()
    told.turn()
    long = {"freehold.exchange.response": "x" * (256 << 10), "freehold.exchange.truncated": True}
    told.model(attributes=long)
    assert "Take a step before it" in refused(told, told.model())
    told = Told()
    told.turn()
    told.tool("bank___pay", attributes={"gen_ai.tool.call.result": '{"content": [{"te'})
    assert "Take a step before it" in refused(told, told.model())


def test_a_request_that_was_cut_is_enough_where_its_answer_is_whole() -> None:
    told = Told()
    told.turn()
    long = {"freehold.exchange.request": "x" * (256 << 10), "freehold.exchange.truncated": True}
    told.model(attributes=long)
    assert [place for _, place in rows(told, told.model())] == ["before", "step"]


def test_a_payload_that_was_cut_cannot_be_sent_again() -> None:
    told = Told()
    long = {"freehold.exchange.request": "x" * (256 << 10), "freehold.exchange.truncated": True}
    told.turn(attributes=long)
    assert "shorter payloads" in refused(told, told.model())


def test_a_turn_over_a_websocket_has_no_payload() -> None:
    told = Told()
    operation = "bedrock-agentcore:InvokeAgentRuntimeWithWebSocketStream"
    turn = told.turn(attributes={"freehold.operation": operation})
    assert "WebSocket" in refused(told, turn)


def test_too_much_is_refused_with_how_much_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freehold.services.forks.keeping.RECORD_BYTES_MAX", 1 << 20)
    told = Told()
    told.turn()
    for _ in range(6):
        told.model(answered="x" * 200_000)
    assert "has 1 MiB, and a fork keeps at most 1" in refused(told, told.model())


def test_a_tool_in_the_agents_process_is_no_step_and_the_model_that_asked_for_it_is_named() -> None:
    told = Told()
    told.turn()
    told.model(model="early")
    asked = told.model(model="late")
    reason = refused(told, told.inner("add_up"))
    assert "add_up ran in the agent's own process" in reason
    assert f"{asked.span_id} (late)" in reason


def test_what_an_agent_tells_of_a_model_call_names_the_call_itself() -> None:
    told = Told()
    told.turn()
    account = told.span("chat gpt-4o", origin="agent")
    call = told.model(under=account)
    assert call.span_id in refused(told, account)


def test_a_part_of_a_step_names_the_step() -> None:
    told = Told()
    told.turn()
    tool = told.tool("bank___pay")
    assert tool.span_id in refused(told, told.span("policy allow", under=tool))


def test_another_agents_call_is_forked_in_its_own_session() -> None:
    told = Told()
    turn = told.turn()
    other = Told(agent="agent-y")
    called = other.span(
        "invoke_agent", under=turn, attributes={"gen_ai.operation.name": "invoke_agent"}
    )
    assert "another agent" in refused(told, called, other)


def test_without_an_invocation_there_is_nothing_to_run_again() -> None:
    told = Told()
    assert "no recorded invocation" in refused(told, told.model())


def test_embeddings_are_no_step() -> None:
    told = Told()
    told.turn()
    assert "embeddings" in refused(told, told.model(operation="Embeddings"))
