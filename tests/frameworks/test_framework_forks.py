"""A recorded session of each framework's agent, forked at its last call of a model.

Over every wire, streamed or not, what came before is answered from the record, and the tool in its
process runs again.
"""

import json
from typing import Any

import pytest
from framework_ground import ask, deploy

from running import RunningPlatform, new_session, until
from served_model import ServedModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MODEL = "gemini-another"  # ADK goes by the name
PLAIN = "plain"
"""No framework, so that nobody tells of the tool."""
ENDED = ("COMPLETED", "FAILED", "DIVERGED", "INTERRUPTED")
_CHATS = ("chat", "generate_content")


@pytest.mark.parametrize(
    "folder",
    [
        "strands", "strands_a2a", "langgraph", "crewai", "llamaindex", "google_adk",
        "openai_agents", "microsoft_agent_framework", PLAIN,
    ],
)  # fmt: skip
def test_it_is_run_again_from_its_last_model_call(
    frameworks: RunningPlatform,
    dice_model: ServedModel,
    tmp_path_factory: pytest.TempPathFactory,
    folder: str,
) -> None:
    deployed = deploy(frameworks, folder, tmp_path_factory.mktemp(folder))
    control, session = deployed.agent.control, new_session()
    capture = {"freehold:content-capture": "on"}
    control.tag_resource(resourceArn=deployed.agent.arn, tags=capture)
    ask(deployed, session)
    first, last = until(lambda: model_calls(frameworks, session, told=folder != PLAIN))
    deployed.agent.stop(session)

    asked = len(dice_model.model.requests)
    body = {"traceId": last["traceId"], "spanId": last["spanId"], "change": {"model": MODEL}}
    fork = ended(frameworks, frameworks.own("/forks", method="POST", body=body)["forkId"])
    assert (fork["status"], fork["reason"]) == ("COMPLETED", ""), fork["reason"]
    assert fork["calls"] == {"recorded": 1, "given": 0, "live": 1, "differing": 0, "waiting": 0}
    assert len(dice_model.model.requests) - asked == 1
    if folder != PLAIN:
        assert "roll_die" in " ".join(fork["notes"])

    rows = frameworks.own(f"/forks/{fork['forkId']}/comparison")["turns"][0]["rows"]
    models = [row for row in rows if row["kind"] == "model"]
    assert [(row["source"], row["verdict"]) for row in models] == [
        ("recorded", "same"), ("live", "differs"),
    ]  # fmt: skip
    assert models[1]["fork"]["model"] == MODEL
    assert (first["spanId"], last["spanId"]) == tuple(row["recorded"]["spanId"] for row in models)
    deployed.agent.delete()


def model_calls(platform: RunningPlatform, session: str, *, told: bool) -> list[Any]:
    """The platform's own spans of them, once their turn is there as well; and the tool, where the
    agent tells of it."""
    traces = platform.own("/traces", sessionId=session)["traces"]
    if not traces:
        return []
    with platform.open("GET", f"/traces/{traces[0]['traceId']}") as answer:
        got = json.loads(answer.read())
    if not got["trace"]["complete"]:
        return []
    spans = [
        span
        for span in got["spans"]
        if span["origin"] == "platform" and span["is"].get("operation") in _CHATS
    ]
    tools = [span for span in got["spans"] if span["is"].get("operation") == "execute_tool"]
    return spans if len(spans) >= 2 and len(tools) >= int(told) else []


def ended(platform: RunningPlatform, fork_id: str) -> Any:
    seen: list[Any] = []

    def over() -> bool:
        seen[:] = [platform.own(f"/forks/{fork_id}")]
        return seen[0]["status"] in ENDED

    until(over)
    return seen[0]
