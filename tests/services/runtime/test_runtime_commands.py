"""InvokeAgentRuntimeCommand: a command in the session, told piece by piece through boto3."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

import agents
from running import Agent, RunningPlatform, new_session, refusal, until

pytestmark = pytest.mark.timeout(300)


def contents(
    agent: Agent, command: str, session: str | None = None, **more: Any
) -> Iterator[dict[str, Any]]:
    body: dict[str, Any] = {"command": command, **more}
    answer = agent.data.invoke_agent_runtime_command(
        agentRuntimeArn=agent.arn, runtimeSessionId=session or new_session(), body=body
    )
    with contextlib.closing(answer["stream"]) as stream:
        for event in stream:
            yield event["chunk"]


def run(agent: Agent, command: str, session: str | None = None, **more: Any) -> dict[str, Any]:
    """stdout, stderr and the end."""
    seen: dict[str, Any] = {"stdout": "", "stderr": ""}
    first, *rest = contents(agent, command, session, **more)
    assert first == {"contentStart": {}}
    for content in rest:
        for stream, text in content.get("contentDelta", {}).items():
            seen[stream] += text
    return {**seen, **rest[-1]["contentStop"]}


def test_a_command_tells_both_streams_and_its_exit_code(plain: Agent) -> None:
    seen = run(plain, "echo out; echo err >&2; exit 7")
    assert seen == {"stdout": "out\n", "stderr": "err\n", "exitCode": 7, "status": "COMPLETED"}


def test_it_runs_where_the_agent_runs(plain: Agent) -> None:
    session = new_session()
    plain.invoke({"do": "tell", "text": "mine"}, session)
    assert "mine" in run(plain, "cat $HOME/*; ls $HOME", session)["stdout"]
    rows = plain.platform.own("/sessions", sessionId=session, status="all")["sessions"]
    assert len(rows) == 1


def test_output_comes_while_the_command_runs(plain: Agent) -> None:
    found = contents(plain, "echo first; read -t 5 nothing </dev/zero; sleep 20; echo last")
    started = time.monotonic()
    assert next(found) == {"contentStart": {}}
    assert next(found) == {"contentDelta": {"stdout": "first\n"}}
    assert time.monotonic() - started < 15
    found.close()


def test_characters_that_were_cut_in_two_arrive_whole(plain: Agent) -> None:
    seen = run(plain, "printf '\\342\\202'; sleep 0.3; printf '\\254'; printf '\\377'")
    assert seen["stdout"] == "€\ufffd"


def test_much_output_arrives_whole(plain: Agent) -> None:
    seen = run(plain, "head -c 3000000 /dev/zero | tr '\\0' x")
    assert (len(seen["stdout"]), seen["exitCode"]) == (3_000_000, 0)


def test_a_command_that_takes_too_long_is_ended(plain: Agent) -> None:
    session = new_session()
    seen = run(plain, "echo begun; sleep 60", session, timeout=1)
    assert (seen["stdout"], seen["status"], seen["exitCode"]) == ("begun\n", "TIMED_OUT", 124)
    until(lambda: "sleep" not in run(plain, _processes(), session)["stdout"])


def test_a_client_that_leaves_takes_its_command_with_it(plain: Agent) -> None:
    session = new_session()
    found = contents(plain, "echo begun; sleep 77", session)
    next(found)
    next(found)
    found.close()
    until(lambda: "sleep" not in run(plain, _processes(), session)["stdout"])


def _processes() -> str:
    return "for p in /proc/[0-9]*; do cat $p/comm; done 2>/dev/null"


async def test_a_session_that_ends_is_an_error_in_the_stream(plain: Agent) -> None:
    session = new_session()
    found = contents(plain, "echo begun; sleep 60", session)

    def read() -> Exception:
        try:
            for content in found:
                if "contentDelta" in content:
                    plain.stop(session)
        except plain.data.exceptions.ClientError as error:
            return error
        raise AssertionError("the stream ended as if nothing had happened")

    error = await asyncio.wait_for(asyncio.to_thread(read), 60)
    assert "StopRuntimeSession" in str(error)


@pytest.mark.slow
def test_a_command_counts_as_use_of_the_session(hasty: RunningPlatform) -> None:
    agent = hasty.deploy(agents.plain())
    session = new_session()
    assert run(agent, "sleep 3; echo there", session)["stdout"] == "there\n"
    assert "idle" in hasty.ended(session)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"command": "true", "timeout": 0}, 400),
        ({"command": "true", "timeout": 3601}, 400),
        ({"command": "a\0b"}, 400),
        ({"command": "x" * 65537}, 400),
    ],
)
def test_what_cannot_be_is_refused(plain: Agent, body: dict[str, Any], status: int) -> None:
    assert (
        refusal(
            lambda: plain.data.invoke_agent_runtime_command(agentRuntimeArn=plain.arn, body=body)
        ).status
        == status
    )


def test_another_tenant_runs_nothing(plain: Agent, second_tenant: RunningPlatform) -> None:
    other = Agent(second_tenant, plain.id, plain.arn)
    assert refusal(lambda: run(other, "true")).status == 404


@pytest.mark.slow
def test_an_agent_may_run_no_command_through_its_doorway(hosted: Any) -> None:
    agent = hosted("inside")
    answer = agent.invoke(
        {
            "do": "boto",
            "service": "bedrock-agentcore",
            "operation": "invoke_agent_runtime_command",
            "parameters": {"agentRuntimeArn": agent.arn, "body": {"command": "true"}},
        }
    )
    assert answer["error"] == "AccessDeniedException"
