"""Recorded sessions forked on a real platform: what is run again, what comes from the record, and
what never goes out."""

import copy
import json
import os
import signal
import uuid
from collections.abc import Iterator

import pytest
from forking_ground import AGENT, Forking, Recorded, forking

from gateway_upstreams import Json
from running import RunningPlatform, until
from served_model import ServedModel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ground(platform: RunningPlatform, scripted_model: ServedModel) -> Iterator[Forking]:
    with forking(platform, scripted_model) as ground:
        yield ground


@pytest.fixture(scope="module")
def recorded(ground: Forking) -> Recorded:
    """A turn of a model's call, a tool's and a model's; then a second one of the same."""
    return ground.recorded(ground.steps("first", "second"), ground.steps("third", "fourth"))


def said(ground: Forking, fork: Json, turn: int = 0) -> list[str]:
    """By the agent, in that turn of the fork: an item a step."""
    answer = ground.compared(fork)["turns"][turn]["answer"]["fork"]
    return list(json.loads(answer)["said"])


def sources(ground: Forking, fork: Json, turn: int = 0) -> list[str]:
    rows = ground.compared(fork)["turns"][turn]["rows"]
    return [row["source"] for row in rows if row["fork"] and row["kind"] in ("model", "tool")]


def test_a_model_call_is_made_with_another_model_other_instructions_and_another_prompt(
    ground: Forking, recorded: Recorded
) -> None:
    asked, called = len(ground.asked()), ground.called()
    prompt = f"say something else {ground.mark}"
    change = {"model": "another-model", "system": "Be loud.", "prompt": prompt}
    fork = ground.fork(recorded, "chat", number=1, change=change)
    assert (fork["status"], fork["reason"]) == ("COMPLETED", "")
    assert fork["calls"] == {"recorded": 2, "given": 0, "live": 1, "differing": 0, "waiting": 0}
    # Nothing but the step reached the model, and nothing the tool's backend.
    [request] = ground.asked()[asked:]
    assert ground.called() == called
    assert request["model"] == "another-model"
    messages = request["messages"]
    assert messages[0] == {"role": "system", "content": "Be loud."}
    assert messages[-1] == {"role": "user", "content": prompt}
    # What the agent says it got is the record's, but for the step.
    answers = said(ground, fork)
    assert answers[:2] == recorded.answers[0]["said"][:2]
    assert prompt in answers[2]
    assert sources(ground, fork) == ["recorded", "recorded", "live"]
    assert ground.compared(fork)["firstDifference"] == {"turn": 1, "row": 3}


def test_a_tool_answers_what_it_is_given_and_is_not_called(
    ground: Forking, recorded: Recorded
) -> None:
    asked, called = len(ground.asked()), ground.called()
    fork = ground.fork(recorded, "execute_tool", change={"toolAnswer": "nothing was found"})
    assert (fork["status"], fork["reason"]) == ("COMPLETED", "")
    assert ground.called() == called
    [request] = ground.asked()[asked:]
    assert "nothing was found" in json.dumps(request)
    assert said(ground, fork)[1] == "nothing was found"
    assert sources(ground, fork) == ["recorded", "given", "live"]


def test_without_a_change_the_step_is_made_again(ground: Forking, recorded: Recorded) -> None:
    asked, called = len(ground.asked()), ground.called()
    fork = ground.fork(recorded, "execute_tool")
    assert fork["status"] == "COMPLETED"
    assert (len(ground.asked()) - asked, ground.called() - called) == (1, 1)
    assert said(ground, fork)[1] != recorded.answers[0]["said"][1]


def test_an_engine_that_forbids_is_obeyed_from_the_step_on(
    ground: Forking, recorded: Recorded
) -> None:
    control = ground.platform.client("bedrock-agentcore-control")
    engine = control.create_policy_engine(name=f"e{uuid.uuid4().hex[:8]}")  # which permits nothing
    which = {"policyEngineId": engine["policyEngineId"]}
    until(lambda: control.get_policy_engine(**which)["status"] == "ACTIVE")
    called = ground.called()
    fork = ground.fork(recorded, "execute_tool", change=which)
    assert (fork["status"], fork["reason"]) == ("COMPLETED", "")
    assert ground.called() == called
    assert said(ground, fork)[1] != recorded.answers[0]["said"][1]
    row = ground.compared(fork)["turns"][0]["rows"][2]
    assert (row["kind"], row["source"], row["verdict"]) == ("tool", "live", "differs")
    assert row["fork"]["status"] == "error"
    spans = ground.platform.own(f"/traces/{fork['turns'][0]['traceId']}")["spans"]
    assert "policy deny" in [span["name"] for span in spans]
    control.delete_policy_engine(**which)


def test_a_turn_gets_another_payload_after_those_before_it(
    ground: Forking, recorded: Recorded
) -> None:
    asked, called = len(ground.asked()), ground.called()
    payload = ground.steps("something else")
    fork = ground.fork(recorded, "invoke_agent", turn=1, change={"payload": payload})
    assert (fork["status"], fork["reason"]) == ("COMPLETED", "")
    assert fork["calls"]["recorded"] == 3
    assert (len(ground.asked()) - asked, ground.called() - called) == (1, 1)
    assert said(ground, fork) == recorded.answers[0]["said"]
    assert "something else" in said(ground, fork, 1)[0]
    assert (sources(ground, fork), sources(ground, fork, 1)) == (["recorded"] * 3, ["live"] * 2)


def test_the_rest_of_the_session_follows_where_that_is_wanted(
    ground: Forking, recorded: Recorded
) -> None:
    fork = ground.fork(recorded, "chat", number=1, until="session")
    assert fork["status"] == "COMPLETED"
    assert (sources(ground, fork), sources(ground, fork, 1)) == (
        ["recorded", "recorded", "live"], ["live"] * 3,
    )  # fmt: skip


def test_a_call_that_was_never_recorded_goes_nowhere(ground: Forking) -> None:
    wandering = [{"call": "desk___delete_all", "gateway": ground.gateway.id}]
    payload = {**ground.steps("first", "second"), "only_in_forks": wandering}
    recorded = ground.recorded(payload)
    asked, called = len(ground.asked()), ground.called()
    fork = ground.fork(recorded, "chat", number=1)
    assert fork["status"] == "DIVERGED"
    assert "desk___delete_all" in fork["reason"]
    assert ground.called() == called
    assert "not in the record" in said(ground, fork)[0]
    # It went on all the same: what it asked after that was in the record, up to the step.
    assert len(ground.asked()) - asked <= 1


def test_what_was_recorded_without_content_is_refused_with_what_to_do(
    ground: Forking,
) -> None:
    silent = ground.platform.deploy({"main.py": AGENT})
    payload = ground.steps("first")
    recorded = ground.recorded(payload, agent=silent)
    point = ground.point(recorded, recorded.span("chat"))
    assert point["possible"] is False
    assert "freehold:content-capture: on" in point["reason"]
    status, reason = ground.refused(recorded, recorded.span("chat"))
    assert (status, reason) == (409, point["reason"])
    silent.delete()


def test_an_answer_that_streams_comes_from_the_record_as_it_came(ground: Forking) -> None:
    payload = {"steps": [*ground.steps("first")["steps"], *ground.steps("second")["steps"][:1]]}
    for step in payload["steps"]:
        step["stream"] = True
    recorded = ground.recorded(payload)
    asked = len(ground.asked())
    fork = ground.fork(recorded, "chat", number=1)
    assert (fork["status"], fork["reason"]) == ("COMPLETED", "")
    assert said(ground, fork)[0] == recorded.answers[0]["said"][0]
    assert "data: [DONE]" in said(ground, fork)[0]
    assert len(ground.asked()) - asked == 1


def test_a_fork_runs_as_who_made_it_and_is_its_own_session(
    ground: Forking, recorded: Recorded
) -> None:
    fork = ground.fork(recorded, "chat")
    assert fork["createdBy"].endswith(ground.platform.access_key_id)
    assert ground.platform.session(fork["forkId"])["endedAt"] is not None
    spans = ground.platform.own(f"/traces/{fork['turns'][0]['traceId']}", raw="true")["spans"]
    turn = next(span for span in spans if span["name"].startswith("invoke_agent"))
    assert turn["sessionId"] == fork["forkId"]
    assert turn["raw"]["attributes"]["freehold.fork.id"] == fork["forkId"]
    lines = ground.platform.own("/audit", operation="bedrock-agentcore:InvokeAgentRuntime")
    assert fork["createdBy"] in json.dumps(lines)


def test_who_may_only_read_forks_nothing(ground: Forking, recorded: Recorded) -> None:
    key = ground.platform.own("/keys", method="POST", body={"roles": ["auditor"]})
    platform = copy.copy(ground.platform)
    platform.access_key_id, platform.secret_access_key = key["accessKeyId"], key["secretAccessKey"]
    step = {"traceId": recorded.traces[0], "spanId": recorded.span("chat")}
    with platform.open("POST", "/forks", body=step) as answer:
        assert answer.status == 403
    assert platform.own(f"/traces/{step['traceId']}/spans/{step['spanId']}/fork-point")["possible"]


@pytest.fixture
def running(ground: Forking) -> Json:
    """A fork whose agent has asked a model and called the tool, and waits."""
    waiting = {"steps": [*ground.steps("first")["steps"], {"wait_in_forks": 600}]}
    fork = ground.begin(ground.recorded(waiting), "invoke_agent")
    path = f"/forks/{fork['forkId']}"
    until(lambda: ground.platform.own(path)["calls"]["live"] == 2)
    return fork


def test_one_that_runs_is_stopped_when_it_is_deleted(ground: Forking, running: Json) -> None:
    fork, path = running, f"/forks/{running['forkId']}"
    ground.platform.own(path, method="DELETE")
    assert "StopRuntimeSession" in ground.platform.ended(fork["forkId"])
    with ground.platform.open("GET", path) as answer:
        assert answer.status == 404


def test_one_whose_worker_dies_is_not_begun_anew(ground: Forking, running: Json) -> None:
    asked, called = len(ground.asked()), ground.called()
    for worker in ground.platform.pids("api"):
        os.kill(worker, signal.SIGKILL)
    fork = ground.ended(running["forkId"])
    assert fork["status"] == "INTERRUPTED"
    assert "nothing is invoked a second time" in fork["reason"]
    assert (len(ground.asked()), ground.called()) == (asked, called)
    assert ground.platform.ended(fork["forkId"])
