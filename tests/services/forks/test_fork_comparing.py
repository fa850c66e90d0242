"""A fork beside its record."""

import json
from typing import Any

import pytest
from fork_ground import Agent, Ground, ground
from recorded_spans import Told

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.forks.ports import Turn

Json = dict[str, Any]


@pytest.fixture
def forks(database: PostgresDatabase, tenant: str) -> Ground:
    return ground(database, tenant)


async def recorded(forks: Ground) -> Told:
    told = Told(forks.tenant)
    told.turn('{"ask": "one"}')
    told.model("one", "1")
    told.inner("add_up")
    told.tool("bank___pay", {"to": "anna"}, "paid")
    told.model("two", "2")
    return await forks.written(told)


async def as_recorded(agent: Agent, turn: Turn) -> None:
    await agent.model(turn, "one")
    agent.told.inner("add_up")
    await agent.tool(turn, arguments={"to": "anna"})
    await agent.model(turn, "two")


def lines(compared: Json, turn: int = 0) -> list[tuple[str, str, str, str]]:
    return [
        (row["kind"], row["name"], row["source"], row["verdict"])
        for row in compared["turns"][turn]["rows"]
    ]


async def test_each_step_stands_beside_its_own(forks: Ground) -> None:
    told = await recorded(forks)
    forks.agent.acts = as_recorded
    fork = await forks.forked(told.spans[-1])
    compared = await forks.ask("CompareFork", forkId=fork["forkId"])
    assert lines(compared) == [
        ("turn", "greeter", "", "same"),
        ("model", "chat", "recorded", "same"),
        ("inner", "add_up", "live", "same"),
        ("tool", "bank___pay", "recorded", "same"),
        ("model", "chat", "live", "differs"),
    ]
    assert compared["firstDifference"] == {"turn": 1, "row": 4}
    row = compared["turns"][0]["rows"][4]
    assert row["recorded"]["spanId"] == told.spans[-1].span_id
    assert row["recorded"]["asked"] == row["fork"]["asked"]
    answers = [json.loads(row[side]["answered"]) for side in ("recorded", "fork")]
    assert [each["choices"][0]["message"]["content"] for each in answers] == ["2", "now"]
    assert (row["recorded"]["model"], row["recorded"]["inputTokens"]) == ("gpt-4o", 10)
    assert compared["turns"][0]["payload"] == dict.fromkeys(("recorded", "fork"), '{"ask": "one"}')
    assert compared["totals"]["recorded"]["cost"] == 1.0
    assert [compared["totals"]["fork"][name] for name in ("modelCalls", "toolCalls")] == [2, 1]
    assert compared["fork"]["forkId"] == fork["forkId"]
    assert compared["truncated"] is False


async def test_what_only_one_side_did_stands_alone(forks: Ground) -> None:
    told = await recorded(forks)

    async def otherwise(agent: Agent, turn: Turn) -> None:
        await agent.model(turn, "one")
        await agent.tool(turn, "bank___ask")

    forks.agent.acts = otherwise
    fork = await forks.forked(told.spans[1])
    compared = await forks.ask("CompareFork", forkId=fork["forkId"])
    assert lines(compared) == [
        ("turn", "greeter", "", "same"),
        ("model", "chat", "live", "differs"),
        ("inner", "add_up", "", "only_recorded"),
        ("tool", "bank___pay", "", "only_recorded"),
        ("model", "chat", "", "only_recorded"),
        ("tool", "bank___ask", "live", "only_fork"),
    ]
    alone = compared["turns"][0]["rows"][5]
    assert alone["recorded"] is None
    assert alone["fork"]["status"] == "ok"


async def test_another_payload_is_the_first_difference(forks: Ground) -> None:
    told = await recorded(forks)
    forks.agent.acts = as_recorded
    fork = await forks.forked(told.spans[0], change={"payload": '{"ask": "more"}'})
    compared = await forks.ask("CompareFork", forkId=fork["forkId"])
    assert compared["firstDifference"] == {"turn": 1, "row": 0}
    assert compared["turns"][0]["payload"]["fork"] == '{"ask": "more"}'


async def test_ids_that_a_model_makes_anew_are_no_difference(forks: Ground) -> None:
    told = Told(forks.tenant)
    told.turn()
    call = {"id": "call_1", "function": {"name": "pay", "arguments": '{"id": 1}'}}
    step = told.model(
        "one", attributes={"freehold.exchange.response": json.dumps({"tool_calls": [call]})}
    )
    other = told.model({"messages": [{"role": "tool", "tool_call_id": "call_1"}]})
    await forks.written(told)

    async def again(agent: Agent, turn: Turn) -> None:
        await agent.model(turn, "one")
        await agent.model(turn, {"messages": [{"role": "tool", "tool_call_id": "call_2"}]})
        for span in agent.told.spans[1:]:
            said = {**call, "id": "call_2"}
            span.attributes["freehold.exchange.response"] = json.dumps({"tool_calls": [said]})
        agent.told.spans[2].attributes["freehold.exchange.response"] = other.attributes[
            "freehold.exchange.response"
        ]

    forks.agent.acts = again
    fork = await forks.forked(step)
    compared = await forks.ask("CompareFork", forkId=fork["forkId"])
    assert [verdict for *_, verdict in lines(compared)] == ["same", "same", "same"]
    assert compared["firstDifference"] is None


async def test_what_a_tool_is_asked_is_compared_with_all_of_its_ids(forks: Ground) -> None:
    told = Told(forks.tenant)
    told.turn()
    step = told.model()
    told.tool("bank___pay", {"id": 1}, "paid")
    await forks.written(told)

    async def another(agent: Agent, turn: Turn) -> None:
        await agent.model(turn, "hello")
        await agent.tool(turn, arguments={"id": 2})

    forks.agent.acts = another
    fork = await forks.forked(step)
    compared = await forks.ask("CompareFork", forkId=fork["forkId"])
    assert lines(compared)[2] == ("tool", "bank___pay", "live", "differs")


async def test_one_under_way_is_compared_so_far_as_it_is(forks: Ground) -> None:
    told = await recorded(forks)
    told.turn('{"ask": "two"}')
    step = told.model("three", "3")
    await forks.spans.write(told.spans[-2:])
    seen: list[Json] = []

    async def while_it_runs(agent: Agent, turn: Turn) -> None:
        if b"two" not in turn.payload:
            await as_recorded(agent, turn)
            return
        await agent.model(turn, "three")
        await agent.spans.write(agent.told.spans[1:])  # the turn's own span comes at its end
        seen.append(await forks.ask("CompareFork", forkId=turn.session_id))

    forks.agent.acts = while_it_runs
    await forks.forked(step)
    [compared] = seen
    assert compared["fork"]["status"] == "RUNNING"
    assert [verdict for *_, verdict in lines(compared)] == ["same"] * 5
    assert lines(compared, 1) == [
        ("turn", "greeter", "", "only_recorded"), ("model", "chat", "live", "differs"),
    ]  # fmt: skip
    assert compared["firstDifference"] == {"turn": 2, "row": 1}
    assert compared["truncated"] is False


async def test_before_it_has_begun_there_is_the_record_alone(forks: Ground) -> None:
    told = await recorded(forks)
    made = await forks.fork(told.spans[-1])
    compared = await forks.ask("CompareFork", forkId=made["forkId"])
    assert {verdict for *_, verdict in lines(compared)} == {"only_recorded"}
    assert compared["firstDifference"] is None
    assert compared["totals"]["fork"]["modelCalls"] == 0


async def test_long_texts_are_shortened_and_it_is_said(forks: Ground) -> None:
    told = Told(forks.tenant)
    told.turn()
    step = told.model("x" * 100_000)
    await forks.written(told)
    fork = await forks.forked(step)
    compared = await forks.ask("CompareFork", forkId=fork["forkId"])
    assert compared["truncated"] is True
    assert len(compared["turns"][0]["rows"][1]["recorded"]["asked"]) == 64 << 10


async def test_when_the_records_spans_are_gone_that_is_said(forks: Ground) -> None:
    told = await recorded(forks)
    forks.agent.acts = as_recorded
    fork = await forks.forked(told.spans[-1])
    await forks.spans.erase_session(forks.tenant, told.session)
    compared = await forks.ask("CompareFork", forkId=fork["forkId"])
    assert compared["truncated"] is True
    assert {verdict for *_, verdict in lines(compared)} == {"only_fork"}


async def test_a_fork_can_be_forked_again(forks: Ground) -> None:
    told = await recorded(forks)
    forks.agent.acts = as_recorded
    fork = await forks.forked(told.spans[-1])
    spans = forks.agent.told.spans
    again = await forks.forked(spans[-1])
    assert again["status"] == "COMPLETED"
    assert again["recordedSessionId"] == fork["forkId"]
    assert again["calls"]["recorded"] == 2
