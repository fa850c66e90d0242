"""Forks run over the real store: what the agent is answered at each place, and how a fork ends."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fork_ground import Agent, Ground, ground, session_of, together
from recorded_spans import Told, answer, request, tool_result

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import Conflict
from freehold.ports.replay import LiveModel, LiveTool, ModelAnswer, ToolAnswer
from freehold.ports.web import Unreachable
from freehold.services.forks.ports import Turn

Acts = Callable[[Agent, Turn], Awaitable[None]]


@pytest.fixture
def forks(database: PostgresDatabase, tenant: str) -> Ground:
    return ground(database, tenant)


async def recorded(forks: Ground) -> Told:
    """Two turns, of which the second pays between two calls of a model."""
    told = Told(forks.tenant)
    told.turn('{"ask": "one"}')
    told.model("one", "1")
    told.turn('{"ask": "two"}')
    told.model("two", "2")
    told.tool("bank___pay", {"to": "anna"}, "paid")
    told.model("three", "3")
    return await forks.written(told)


async def as_recorded(agent: Agent, turn: Turn) -> None:
    if json.loads(turn.payload)["ask"] == "one":
        await agent.model(turn, "one")
        return
    await agent.model(turn, "two")
    await agent.tool(turn, arguments={"to": "anna"})
    await agent.model(turn, "three")


def by_name(told: Told, name: str, number: int = 0) -> Any:
    return [span for span in told.spans if span.name.startswith(name)][number]


async def test_before_the_step_the_record_answers_and_the_change_comes_with_it(
    forks: Ground,
) -> None:
    told = await recorded(forks)
    forks.agent.acts = as_recorded
    change = {"model": "m", "system": "s", "prompt": "p"}
    fork = await forks.forked(by_name(told, "chat", 1), change=change)
    assert (fork["status"], fork["reason"]) == ("COMPLETED", "")
    assert forks.agent.found == [
        ModelAnswer(body=answer("1").encode(), content_type="application/json"),
        LiveModel(model="m", system="s", prompt="p"),
        LiveTool(),
        LiveModel(model="m", system="s"),
    ]
    assert fork["calls"] == {"recorded": 1, "given": 0, "live": 3, "differing": 0, "waiting": 0}
    payloads = [turn.payload for turn in forks.agent.turns]
    assert payloads == [b'{"ask": "one"}', b'{"ask": "two"}']
    assert {turn.session_id for turn in forks.agent.turns} == {fork["forkId"]}
    assert forks.agent.stopped == [fork["forkId"]]
    assert (fork["recordedVersion"], fork["version"]) == ("3", "3")
    assert [turn["status"] for turn in fork["turns"]] == ["COMPLETED", "COMPLETED"]
    assert all(turn["traceId"] for turn in fork["turns"])


@pytest.mark.parametrize("given", ["refused", tool_result("refused") | {"isError": True}])
async def test_a_tool_answers_what_it_is_given(forks: Ground, given: Any) -> None:
    told = await recorded(forks)
    forks.agent.acts = as_recorded
    fork = await forks.forked(by_name(told, "execute_tool"), change={"toolAnswer": given})
    expected = given if isinstance(given, dict) else tool_result(given)
    assert forks.agent.found[2] == ToolAnswer(result=expected, given=True)
    assert isinstance(forks.agent.found[3], LiveModel)
    assert fork["calls"]["given"] == 1


async def test_an_engine_decides_from_the_step_on(forks: Ground) -> None:
    told = await recorded(forks)
    forks.agent.acts = as_recorded
    await forks.forked(by_name(told, "execute_tool"), change={"policyEngineId": "engine-1"})
    assert forks.agent.found[2] == LiveTool(engine_arn="arn:engine/engine-1")


async def test_another_engine_is_for_who_may_change_what_engines_do(forks: Ground) -> None:
    told = await recorded(forks)
    step, change = by_name(told, "execute_tool"), {"policyEngineId": "engine-1"}
    made = await forks.fork(step, change=change)
    forks.authorizer.refuses = "freehold:ChangePolicyMode"
    status, reason = await forks.refusal(forks.fork(step, change=change))
    assert status == 403
    assert "change.policyEngineId" in reason
    await forks.fork(step)  # without one it is nobody's business
    # Who may not any more when it runs, neither.
    fork = await forks.run(made)
    assert (fork["status"], forks.agent.turns) == ("FAILED", [])


async def test_a_turn_has_another_payload_and_all_after_it_is_live(forks: Ground) -> None:
    told = await recorded(forks)
    forks.agent.acts = as_recorded
    fork = await forks.forked(
        by_name(told, "invoke_agent", 1), change={"payload": {"ask": "two", "loud": True}}
    )
    assert json.loads(forks.agent.turns[1].payload) == {"ask": "two", "loud": True}
    assert isinstance(forks.agent.found[0], ModelAnswer)
    assert forks.agent.found[1:] == [LiveModel(), LiveTool(), LiveModel()]
    assert fork["calls"] == {"recorded": 1, "given": 0, "live": 3, "differing": 0, "waiting": 0}


async def test_the_rest_of_the_session_is_sent_too_where_that_is_wanted(forks: Ground) -> None:
    told = await recorded(forks)
    forks.agent.acts = as_recorded
    fork = await forks.forked(by_name(told, "chat"), until="session")
    assert fork["status"] == "COMPLETED"
    assert [turn["number"] for turn in fork["turns"]] == [1, 2]
    assert forks.agent.found == [LiveModel(), LiveModel(), LiveTool(), LiveModel()]


async def test_other_words_are_answered_too_and_counted(forks: Ground) -> None:
    told = await recorded(forks)

    async def in_other_words(agent: Agent, turn: Turn) -> None:
        if json.loads(turn.payload)["ask"] == "two":
            await agent.model(turn, "two, please")
            await agent.tool(turn, arguments={"to": "Anna"})
            await agent.model(turn, "and three")
        else:
            await agent.model(turn, "one, please")

    forks.agent.acts = in_other_words
    fork = await forks.forked(by_name(told, "chat", 2))
    answers = [found.differs for found in forks.agent.found if hasattr(found, "differs")]
    assert answers == [True, True, True]
    assert fork["calls"] == {"recorded": 3, "given": 0, "live": 1, "differing": 3, "waiting": 0}
    assert fork["status"] == "COMPLETED"


async def test_a_call_that_nobody_recorded_goes_nowhere_and_ends_it(forks: Ground) -> None:
    told = await recorded(forks)
    said: list[str] = []

    async def elsewhere(agent: Agent, turn: Turn) -> None:
        with pytest.raises(Conflict) as refused:
            await agent.tool(turn, "bank___close_account")
        said.append(refused.value.message)

    forks.agent.acts = elsewhere
    fork = await forks.forked(by_name(told, "chat", 2))
    assert fork["status"] == "DIVERGED"
    assert fork["reason"].startswith("turn 1: the call of the tool bank___close_account")
    assert "not in the record" in said[0]
    assert len(forks.agent.turns) == 1
    assert fork["calls"]["live"] == 0
    assert fork["calls"]["waiting"] == 3


async def test_names_that_no_database_has_are_names_all_the_same(forks: Ground) -> None:
    told = Told(forks.tenant)
    told.turn('{"ask": "one"}')
    told.tool("odd\ufffdname", {"a": "\0"}, "answered")
    step = told.model("two \0", "2")
    await forks.written(told)

    async def oddly(agent: Agent, turn: Turn) -> None:
        await agent.tool(turn, "odd\0name", {"a": "\0"})
        with pytest.raises(Conflict):
            await agent.tool(turn, "other\0name\ud800")

    forks.agent.acts = oddly
    fork = await forks.forked(step, change={"prompt": "three \0"})
    assert fork["change"] == {"prompt": "three \0"}
    assert isinstance(forks.agent.found[0], ToolAnswer)
    assert not forks.agent.found[0].differs
    assert fork["status"] == "DIVERGED"
    assert "other\ufffdname" in fork["reason"]


async def test_an_agent_that_does_not_come_to_the_step_diverged(forks: Ground) -> None:
    told = await recorded(forks)
    fork = await forks.forked(by_name(told, "chat", 2))
    assert fork["status"] == "DIVERGED"
    assert "did not come to the step" in fork["reason"]


async def test_what_leaves_nothing_behind_is_asked_anew_wherever_the_fork_is(
    forks: Ground,
) -> None:
    told = await recorded(forks)

    async def looks_around(agent: Agent, turn: Turn) -> None:
        for operation in ("ListModels", "Embeddings", "gateway:/v1/embeddings"):
            assert await agent.model(turn, "x", operation) == LiveModel()
        await as_recorded(agent, turn)

    forks.agent.acts = looks_around
    fork = await forks.forked(by_name(told, "chat", 1), change={"model": "m"})
    assert fork["status"] == "COMPLETED"


async def test_two_that_ask_at_once_never_get_the_same_answer(forks: Ground) -> None:
    told = Told(forks.tenant)
    told.turn()
    for number in range(20):
        told.model("the same", str(number))
    step = told.model("the last")
    await forks.written(told)

    async def all_at_once(agent: Agent, turn: Turn) -> None:
        await together(*(agent.model(turn, "the same") for _ in range(20)))
        await agent.model(turn, "the last")

    forks.agent.acts = all_at_once
    fork = await forks.forked(step)
    answers = [found.body for found in forks.agent.found if isinstance(found, ModelAnswer)]
    assert sorted(answers) == sorted(answer(str(number)).encode() for number in range(20))
    assert fork["calls"]["recorded"] == 20


# -- ends


async def test_a_turn_that_fails_ends_it_with_the_reason(forks: Ground) -> None:
    told = await recorded(forks)
    forks.agent.status = 424
    fork = await forks.forked(by_name(told, "chat", 2))
    assert (fork["status"], fork["reason"]) == ("FAILED", "turn 1: the agent is unwell")
    assert [turn["status"] for turn in fork["turns"]] == ["FAILED", "PENDING"]


async def test_a_turn_that_failed_in_the_record_may_fail_again(forks: Ground) -> None:
    told = Told(forks.tenant)
    told.turn('{"ask": "one"}', status=2)
    told.turn('{"ask": "two"}')
    step = told.model("two")
    await forks.written(told)

    async def once(agent: Agent, turn: Turn) -> None:
        agent.status = 424 if b"one" in turn.payload else 200
        if b"two" in turn.payload:
            await agent.model(turn, "two")

    forks.agent.acts = once
    fork = await forks.forked(step)
    assert (fork["status"], fork["reason"]) == ("COMPLETED", "")


async def test_who_is_let_in_no_more_invokes_nothing(forks: Ground) -> None:
    told = await recorded(forks)
    made = await forks.fork(by_name(told, "chat", 2))
    forks.creators.refused = "the key is not good any more"
    fork = await forks.run(made)
    assert (fork["status"], fork["reason"]) == ("FAILED", "the key is not good any more")
    assert forks.agent.turns == []


async def test_one_that_was_cut_short_is_not_begun_anew(forks: Ground) -> None:
    told = await recorded(forks)

    class Killed(BaseException):
        pass

    forks.agent.problem = Killed()
    made = await forks.fork(by_name(told, "chat", 2))
    with pytest.raises(Killed):
        await forks.run(made)
    forks.agent.problem = None
    fork = await forks.run(made)
    assert fork["status"] == "INTERRUPTED"
    assert "nothing is invoked a second time" in fork["reason"]
    assert len(forks.agent.turns) == 1
    assert forks.agent.stopped == [fork["forkId"]]
    assert await forks.run(made) == fork


async def test_a_platform_that_breaks_off_its_answer_interrupts_it(forks: Ground) -> None:
    told = await recorded(forks)
    forks.agent.problem = Unreachable("the platform broke off its answer", sent=True)
    fork = await forks.forked(by_name(told, "chat", 2))
    assert fork["status"] == "INTERRUPTED"


async def test_when_it_is_over_its_session_is_answered_nothing_any_more(forks: Ground) -> None:
    told = await recorded(forks)
    forks.agent.acts = as_recorded
    made = await forks.fork(by_name(told, "chat", 1))
    turn = Turn(
        tenant=forks.tenant, agent_id="agent-x", endpoint="DEFAULT", session_id=made["forkId"],
        payload=b"", content_type="",
    )  # fmt: skip

    async def refused() -> None:
        with pytest.raises(Conflict, match="not under way"):
            await forks.agent.model(turn, "one")
        with pytest.raises(Conflict, match="not under way"):
            await forks.agent.tool(turn)

    await refused()  # it has not begun
    assert (await forks.run(made))["status"] == "COMPLETED"
    await refused()
    await forks.ask("DeleteFork", forkId=made["forkId"])
    await refused()


async def test_a_session_that_is_no_fork_is_not_looked_for(forks: Ground) -> None:
    told = await recorded(forks)
    made = await forks.fork(by_name(told, "chat", 2))
    for session in (told.session, "fork-" + "0" * 32, f"{made['forkId']}0"):
        asked = session_of(forks.tenant, session)
        body = request("one").encode()
        found = await forks.replays.model(
            asked, operation="ChatCompletions", model="gpt-4o", body=body
        )
        assert found is None
    of_other_tenant = session_of("999900001111", made["forkId"])
    found = await forks.replays.model(
        of_other_tenant, operation="ChatCompletions", model="gpt-4o", body=b"{}"
    )
    assert found is None


async def test_another_agents_session_of_the_same_id_gets_nothing(forks: Ground) -> None:
    told = await recorded(forks)

    async def from_elsewhere(agent: Agent, turn: Turn) -> None:
        other = session_of(turn.tenant, turn.session_id, agent="agent-y")
        with pytest.raises(Conflict, match="another agent"):
            await agent.replays.model(other, operation="ChatCompletions", model="", body=b"{}")
        await as_recorded(agent, turn)

    forks.agent.acts = from_elsewhere
    assert (await forks.forked(by_name(told, "chat", 2)))["status"] == "COMPLETED"
