"""Forks in our own API: made, refused, listed, deleted; and nobody else's."""

from datetime import timedelta
from typing import Any

import pytest
from fork_ground import Ground, ground, session_of
from recorded_spans import Told

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, Conflict
from freehold.services.forks.service import Given

STRANGER = "999900001111"


@pytest.fixture
def forks(database: PostgresDatabase, tenant: str) -> Ground:
    return ground(database, tenant)


async def recorded(forks: Ground, **more: Any) -> Told:
    told = Told(forks.tenant, **more)
    told.turn()
    told.model()
    told.tool("bank___pay")
    told.model()
    return await forks.written(told)


def place(told: Told, number: int) -> dict[str, str]:
    return {"traceId": told.spans[number].trace_id, "spanId": told.spans[number].span_id}


async def test_a_fork_begins_as_it_was_asked_for(forks: Ground) -> None:
    told = await recorded(forks)
    made = await forks.fork(told.spans[2], change={"toolAnswer": "no"}, endpoint="next")
    assert made["forkId"] == made["sessionId"]
    assert len(made["forkId"]) == 37
    assert made["status"] == "PENDING"
    assert made["step"] == {"kind": "tool", "name": "bank___pay", "turn": 1, "position": 2}
    assert (made["change"], made["until"]) == ({"toolAnswer": "no"}, "turn")
    assert (made["endpoint"], made["agentId"]) == ("next", told.agent)
    assert made["recordedSessionId"] == told.session
    assert made["createdBy"] == "tests"
    assert made["calls"]["waiting"] == 1
    assert list(forks.jobs.waiting.values()) == [{"tenant": forks.tenant, "fork": made["forkId"]}]


async def test_a_point_says_what_can_be_done_there(forks: Ground) -> None:
    told = await recorded(forks)
    found = await forks.ask("GetForkPoint", **place(told, 3))
    assert found == {
        "possible": True, "reason": "", "turns": 1, "callsBefore": 2, "forks": 0, "notes": [],
        "step": {"kind": "model", "name": "gpt-4o", "turn": 1, "position": 3},
        "changes": ["model", "system", "prompt", "policyEngineId"],
    }  # fmt: skip
    await forks.fork(told.spans[3])
    assert (await forks.ask("GetForkPoint", **place(told, 3)))["forks"] == 1
    assert (await forks.ask("GetForkPoint", **place(told, 2)))["forks"] == 0


async def test_a_point_without_content_says_why_not(forks: Ground) -> None:
    told = await recorded(forks, captured=False)
    found = await forks.ask("GetForkPoint", **place(told, 1))
    assert (found["possible"], found["changes"]) == (False, [])
    assert "freehold:content-capture: on" in found["reason"]
    status, reason = await forks.refusal(forks.fork(told.spans[1]))
    assert (status, reason) == (409, found["reason"])
    assert forks.jobs.waiting == {}


async def test_a_span_of_no_session_can_only_be_looked_at(forks: Ground) -> None:
    told = Told(forks.tenant, session="-")
    told.spans.append(told.span("GET example.com", session_id="", agent_id=""))
    await forks.written(told)
    found = await forks.ask("GetForkPoint", **place(told, 0))
    assert "of no session of an agent" in found["reason"]


@pytest.mark.parametrize(
    ("number", "change", "named"),
    [
        (1, {"toolAnswer": "x"}, "change.toolAnswer: can be changed at a gateway's tool call"),
        (1, {"payload": "x"}, "change.payload: can be changed at a turn"),
        (2, {"prompt": "x"}, "change.prompt: can be changed at a model's call"),
        (0, {"toolAnswer": "x"}, "Here there are payload, model, system, policyEngineId"),
        (1, {"model": ""}, "change.model"),
        (1, {"system": "x" * (300 << 10)}, "change.system: more than"),
        (2, {"toolAnswer": {"text": "x"}}, "MCP's CallToolResult"),
        (2, {"toolAnswer": {"content": [{"text": "x"}]}}, "MCP's CallToolResult"),
        (1, {"policyEngineId": "engine-2"}, "no policy engine engine-2"),
    ],
)
async def test_a_change_that_does_not_fit_is_named(
    forks: Ground, number: int, change: dict[str, Any], named: str
) -> None:
    told = await recorded(forks)
    status, reason = await forks.refusal(forks.fork(told.spans[number], change=change))
    assert status == 400
    assert named in reason


async def test_what_is_no_id_is_said_to_be_none(forks: Ground) -> None:
    told = await recorded(forks)
    body = {"traceId": "xyz", "spanId": told.spans[1].span_id}
    assert (await forks.refusal(forks.ask("CreateFork", body)))[0] == 400
    asking = forks.ask("GetForkPoint", traceId=told.spans[0].trace_id, spanId="1")
    assert (await forks.refusal(asking))[0] == 400


async def test_a_span_that_is_not_there_is_not_found(forks: Ground) -> None:
    nowhere = {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1"}
    assert (await forks.refusal(forks.ask("GetForkPoint", **nowhere)))[0] == 404
    assert (await forks.refusal(forks.ask("CreateFork", nowhere)))[0] == 404


async def test_code_in_a_session_forks_nothing(forks: Ground) -> None:
    told = await recorded(forks)
    inside = Caller(tenant=forks.tenant, principal="s", kind=CallerKind.SESSION)
    given = Given(trace_id=told.spans[1].trace_id, span_id=told.spans[1].span_id)
    with pytest.raises(AccessDenied):
        await forks.service.create(inside, forks.tenant, given)


async def test_lists_are_newest_first_and_by_what_they_are_of(forks: Ground) -> None:
    told, other = await recorded(forks), await recorded(forks, agent="agent-y")
    made = [await forks.fork(each.spans[1]) for each in (told, told, other)]
    ids = [each["forkId"] for each in made]

    async def listed(**given: Any) -> list[str]:
        found = await forks.ask("ListForks", **given)
        return [each["forkId"] for each in found["forks"]]

    assert await listed() == ids[::-1]
    assert await listed(traceId=told.spans[0].trace_id) == ids[1::-1]
    assert await listed(sessionId=other.session) == ids[2:]
    assert await listed(agentId="agent-y") == ids[2:]
    await forks.run(made[0])
    assert await listed(status="PENDING") == ids[:0:-1]
    first = await forks.ask("ListForks", limit=2)
    rest = await forks.ask("ListForks", limit=2, nextToken=first["nextToken"])
    assert [each["forkId"] for each in first["forks"] + rest["forks"]] == ids[::-1]
    assert rest["nextToken"] is None
    assert (await forks.refusal(forks.ask("ListForks", nextToken="x")))[0] == 400


async def test_lists_show_the_beginning_of_a_long_change(forks: Ground) -> None:
    told = await recorded(forks)
    answer = {"content": [{"type": "text", "text": "x" * 5000}]}
    made = await forks.fork(told.spans[2], change={"toolAnswer": answer, "model": "m"})
    assert made["change"] == {"toolAnswer": answer, "model": "m"}
    [shown] = (await forks.ask("ListForks"))["forks"]
    assert shown["change"]["model"] == "m"
    assert shown["change"]["toolAnswer"].startswith('{"content":[{"type":"text","text":"xxx')
    assert len(shown["change"]["toolAnswer"]) == 1003


async def test_a_deleted_one_is_gone_and_its_session_stopped(forks: Ground) -> None:
    told = await recorded(forks)
    made = await forks.fork(told.spans[3])
    await forks.ask("DeleteFork", forkId=made["forkId"])
    assert forks.agent.stopped == [made["forkId"]]
    for name in ("GetFork", "CompareFork", "DeleteFork"):
        assert (await forks.refusal(forks.ask(name, forkId=made["forkId"])))[0] == 404
    assert (await forks.ask("ListForks"))["forks"] == []
    assert (await forks.ask("GetForkPoint", **place(told, 3)))["forks"] == 0
    await forks.runner.work({"tenant": forks.tenant, "fork": made["forkId"]})
    assert forks.agent.turns == []


async def test_of_a_deleted_one_nothing_of_the_record_is_left(
    forks: Ground, database: PostgresDatabase
) -> None:
    told = Told(forks.tenant)
    told.turn('{"secret": "canary"}')
    told.model(answered="canary")
    step = told.model()
    await forks.written(told)
    made = await forks.fork(step, change={"prompt": "canary"})
    assert await _canaries(database, forks.tenant) > 0
    await forks.ask("DeleteFork", forkId=made["forkId"])
    assert await _canaries(database, forks.tenant) == 0


async def _canaries(database: PostgresDatabase, tenant: str) -> int:
    found = 0
    async with database.connection() as connection:
        for table in ("forks", "fork_turns", "fork_calls"):
            rows = await connection.execute(
                f"SELECT row_to_json(t)::text, {_BYTES[table]} FROM {table} t WHERE tenant = %s",
                (tenant,),
            )
            for text, raw in await rows.fetchall():
                found += "canary" in text or b"canary" in bytes(raw or b"")
    return found


_BYTES = {"forks": "NULL::bytea", "fork_turns": "payload", "fork_calls": "answer"}


async def test_in_the_end_a_deleted_one_is_forgotten(
    forks: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await recorded(forks)
    made = await forks.fork(told.spans[3])
    await forks.ask("DeleteFork", forkId=made["forkId"])
    call = {"operation": "ChatCompletions", "model": "", "body": b"{}"}
    session = session_of(forks.tenant, made["forkId"])
    await forks.service.sweep()
    with pytest.raises(Conflict):
        await forks.replays.model(session, **call)
    monkeypatch.setattr("freehold.services.forks.service._FORGOTTEN_AFTER", timedelta(0))
    await forks.service.sweep()
    assert await forks.replays.model(session, **call) is None


async def test_a_session_that_is_too_long_says_so(
    forks: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freehold.services.forks.reading.SESSION_TRACES_MAX", 1)
    told = await recorded(forks)
    assert (await forks.ask("GetForkPoint", **place(told, 1)))["possible"]
    told.turn()
    await forks.spans.write(told.spans[-1:])
    found = await forks.ask("GetForkPoint", **place(told, 1))
    assert "more than 1 traces" in found["reason"]


async def test_what_was_under_way_is_taken_up_at_the_next_start(forks: Ground) -> None:
    told = await recorded(forks)
    made = await forks.fork(told.spans[3])
    forks.jobs.waiting.clear()  # as if the process had ended before it was enqueued
    await forks.service.take_up()
    assert {"tenant": forks.tenant, "fork": made["forkId"]} in forks.jobs.waiting.values()


async def test_there_are_not_more_than_a_tenant_may_have(
    forks: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freehold.services.forks.service.FORKS_MAX", 1)
    told = await recorded(forks)
    await forks.fork(told.spans[3])
    status, reason = await forks.refusal(forks.fork(told.spans[3]))
    assert status == 402
    assert "delete some" in reason


async def test_another_tenants_are_not_there(forks: Ground) -> None:
    told = await recorded(forks)
    made = await forks.fork(told.spans[3])
    for name in ("GetFork", "CompareFork", "DeleteFork"):
        asking = forks.ask(name, tenant=STRANGER, forkId=made["forkId"])
        assert (await forks.refusal(asking))[0] == 404
    asking = forks.ask("GetForkPoint", tenant=STRANGER, **place(told, 3))
    assert (await forks.refusal(asking))[0] == 404
    asking = forks.ask("CreateFork", place(told, 3), tenant=STRANGER)
    assert (await forks.refusal(asking))[0] == 404
    assert (await forks.ask("ListForks", tenant=STRANGER))["forks"] == []
    assert (await forks.ask("GetFork", forkId=made["forkId"]))["status"] == "PENDING"
