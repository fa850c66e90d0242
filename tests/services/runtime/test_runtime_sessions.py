"""A session is one sandbox: same id, same process and files; another id, nothing in common."""

import pytest

from running import Agent, RunningPlatform, new_session, refusal, together, until

pytestmark = pytest.mark.timeout(300)


def test_the_same_session_is_the_same_process_with_its_memory_and_files(plain: Agent) -> None:
    session = new_session()
    assert plain.invoke({"do": "tell", "text": "one"}, session)["told"] == ["one"]
    assert plain.invoke({"do": "tell", "text": "two"}, session)["told"] == ["one", "two"]
    seen = plain.invoke(session=session)
    assert {"one", "two"} <= set(seen["home"]) & set(seen["tmp"])


def test_another_session_shares_no_process_no_file_and_no_environment(plain: Agent) -> None:
    one, other = new_session(), new_session()
    plain.invoke({"do": "tell", "text": "secret"}, one)
    assert plain.invoke({"do": "tell", "text": "mine"}, other)["told"] == ["mine"]
    first, second = plain.invoke(session=one), plain.invoke(session=other)
    assert first["boot"] != second["boot"]
    assert "secret" in first["home"]
    assert "secret" not in second["home"] + second["tmp"]
    # Each is alone in its own process namespace.
    assert first["pid"] == second["pid"] == 2


@pytest.mark.parametrize("path", ["/var/task/x", "/opt/x", "/usr/x", "/x"])
def test_what_sessions_share_cannot_be_written(plain: Agent, path: str) -> None:
    assert "refused" in plain.invoke({"do": "write", "path": path})


def test_no_session_id_is_a_session_of_its_own(plain: Agent) -> None:
    answers = [
        plain.data.invoke_agent_runtime(agentRuntimeArn=plain.arn, payload=b"{}") for _ in range(2)
    ]
    assert len({answer["runtimeSessionId"] for answer in answers}) == 2
    assert len({answer["response"].read() for answer in answers}) == 2


def test_the_same_id_at_another_endpoint_is_another_session(plain: Agent) -> None:
    plain.control.create_agent_runtime_endpoint(
        agentRuntimeId=plain.id, name="beside", agentRuntimeVersion="1"
    )
    session = new_session()
    first = plain.invoke(session=session)
    assert plain.invoke(session=session, qualifier="DEFAULT")["boot"] == first["boot"]
    assert plain.invoke(session=session, qualifier="beside")["boot"] != first["boot"]
    plain.stop(session, qualifier="beside")
    assert plain.invoke(session=session)["boot"] == first["boot"]


def test_many_calls_at_once_start_one_sandbox(plain: Agent) -> None:
    session = new_session()
    seen = together(*[lambda: plain.invoke(session=session) for _ in range(12)])
    assert len({answer["boot"] for answer in seen}) == 1
    found = plain.platform.own("/sessions", sessionId=session, status="all")["sessions"]
    assert len(found) == 1


def test_many_sessions_at_once_are_all_answered_and_none_mixed_up(plain: Agent) -> None:
    sessions = [new_session() for _ in range(16)]
    together(*[
        lambda s=session: plain.invoke({"do": "tell", "text": s}, s)  # type: ignore[misc]
        for session in sessions
    ])  # fmt: skip
    told = together(*[
        lambda s=session: plain.invoke({"do": "tell", "text": "again"}, s)["told"]  # type: ignore[misc]
        for session in sessions
    ])  # fmt: skip
    assert told == [[session, "again"] for session in sessions]
    together(*[lambda s=session: plain.stop(s) for session in sessions])  # type: ignore[misc]


def test_a_stopped_session_is_over_and_its_id_begins_afresh(plain: Agent) -> None:
    session = new_session()
    plain.invoke({"do": "tell", "text": "before"}, session)
    first = plain.invoke(session=session)
    answer = plain.stop(session)
    assert (answer["runtimeSessionId"], answer["statusCode"]) == (session, 200)
    record = plain.platform.session(session)
    assert record["status"] == "ENDED"
    assert record["endReason"] == "StopRuntimeSession was called"
    second = plain.invoke(session=session)
    assert second["boot"] != first["boot"]
    assert "before" not in second["home"] + second["tmp"]
    assert plain.platform.session(session)["sandboxId"] != record["sandboxId"]


def test_to_stop_a_session_that_is_not_there_is_not_found(plain: Agent) -> None:
    session = new_session()
    assert refusal(lambda: plain.stop(session)).kind == "ResourceNotFoundException"
    plain.invoke(session=session)
    assert refusal(lambda: plain.stop(session, qualifier="other")).status == 404
    plain.stop(session)
    assert refusal(lambda: plain.stop(session)).status == 404
    nobody = Agent(plain.platform, plain.id, plain.arn[:-1] + "X")
    assert refusal(lambda: nobody.stop(session)).status == 404


def test_a_session_can_be_stopped_while_it_starts(platform: RunningPlatform) -> None:
    """Its caller hears why, nothing of it is left, and the id is free again."""
    slow = platform.deploy({"main.py": "import time\nprint('asleep', flush=True)\ntime.sleep(600)"})
    session = new_session()

    def stop() -> None:
        until(lambda: platform.own("/sessions", sessionId=session)["sessions"])
        slow.stop(session)

    refused, _ = together(lambda: slow.refusal(session=session), stop)
    assert refused.kind == "RuntimeClientError"
    assert "StopRuntimeSession was called" in refused.message
    assert platform.session(session)["status"] == "ENDED"
    assert refusal(lambda: slow.stop(session)).status == 404


def test_an_agent_that_ends_between_calls_is_started_again(plain: Agent) -> None:
    session = new_session()
    first = plain.invoke(session=session)
    plain.invoke({"do": "die_after_answer", "code": 3}, session)
    second = plain.invoke(session=session)
    assert second["boot"] != first["boot"]
    page = plain.platform.own("/sessions", sessionId=session, status="ended")["sessions"]
    assert "exit code 3" in page[0]["endReason"]


def test_another_tenant_finds_nothing(plain: Agent, second_tenant: RunningPlatform) -> None:
    session = new_session()
    plain.invoke(session=session)
    theirs = Agent(second_tenant, plain.id, plain.arn)
    assert theirs.refusal(session=session).status == 404
    assert refusal(lambda: theirs.stop(session)).status == 404
    control = theirs.control
    assert refusal(lambda: control.get_agent_runtime(agentRuntimeId=plain.id)).status == 404
    assert refusal(lambda: control.delete_agent_runtime(agentRuntimeId=plain.id)).status == 404
    assert refusal(lambda: control.list_tags_for_resource(resourceArn=plain.arn)).status == 404
    assert control.list_agent_runtimes()["agentRuntimes"] == []
    # An ARN that names their own account, and our runtime's id.
    disguised = Agent(
        second_tenant, plain.id, plain.arn.replace(plain.platform.account, second_tenant.account)
    )
    assert disguised.refusal(session=session).status == 404
    assert second_tenant.own("/sessions", sessionId=session, status="all")["sessions"] == []
    assert second_tenant.own("/costs")["rows"] == []
    with second_tenant.open("GET", f"/runtimes/{plain.id}/logs") as answer:
        assert answer.status == 404
    assert plain.invoke(session=session)["pid"] == 2
