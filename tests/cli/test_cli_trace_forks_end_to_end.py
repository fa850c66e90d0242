"""`freehold trace fork` against a real platform, and an agent whose content is captured."""

from collections.abc import Iterator

import pytest
from cli_doubles import Command

import asking_agent
from freehold.testing.scripted_model import MODEL_NAME
from running import Agent, RunningPlatform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def agent(platform: RunningPlatform) -> Iterator[Agent]:
    agent = asking_agent.deploy(platform, "forked_by_cli")
    yield agent
    agent.delete()


PROMPT = "count the euros"


def test_a_session_is_forked_at_a_model_call_and_compared(
    platform: RunningPlatform, freehold: Command, agent: Agent
) -> None:
    trace, (_, second) = asking_agent.recorded(platform, agent, PROMPT)
    done = freehold("trace", "fork", trace, second["spanId"], "--prompt", "count the dollars")
    assert done.code == 0, done.err
    assert "completed" in done.out and "1 from the record, 1 live" in done.out
    assert "dollars" in done.out and "Turn 1 answers otherwise" in done.out
    found = freehold("trace", "compare", "latest", "--json").document
    rows = [row for row in found["turns"][0]["rows"] if row["kind"] == "model"]
    assert [(row["source"], row["verdict"]) for row in rows] == [
        ("recorded", "same"), ("live", "differs"),
    ]  # fmt: skip
    assert "count the dollars" in rows[1]["fork"]["asked"]
    assert found["totals"]["fork"]["inputTokens"] < found["totals"]["recorded"]["inputTokens"]
    side_by_side = freehold("trace", "compare", found["fork"]["forkId"][:12])
    assert "recorded" in side_by_side.out and "live" in side_by_side.out
    [listed] = freehold("trace", "forks", "--trace", trace, "--json").document["forks"]
    assert (listed["status"], listed["change"]) == ("COMPLETED", {"prompt": "count the dollars"})
    assert freehold("trace", "unfork", listed["forkId"]).code == 0
    assert freehold("trace", "compare", listed["forkId"]).code == 1


def test_an_invocation_is_forked_with_another_payload_and_model(
    platform: RunningPlatform, freehold: Command, agent: Agent
) -> None:
    trace, _ = asking_agent.recorded(platform, agent, PROMPT)
    spans = freehold("trace", "show", trace, "--json").document["spans"]
    turn = next(one for one in spans if one["is"].get("operation") == "invoke_agent")
    done = freehold(
        "trace", "fork", trace, turn["spanId"], "--payload", "count the crowns",
        "--model", f"{MODEL_NAME}-next", "--json",
    )  # fmt: skip
    assert done.document["status"] == "COMPLETED"
    assert done.document["calls"]["live"] == 2
    found = freehold("trace", "compare", done.document["forkId"], "--json").document
    assert "count the crowns" in found["turns"][0]["answer"]["fork"]
    models = [row["fork"]["model"] for row in found["turns"][0]["rows"] if row["kind"] == "model"]
    assert models == [f"{MODEL_NAME}-next"] * 2


def test_without_captured_content_the_reason_says_which_tag_to_set(
    platform: RunningPlatform, freehold: Command
) -> None:
    agent = asking_agent.deploy(platform, "not_captured_by_cli", captured=False)
    try:
        trace, (_, second) = asking_agent.recorded(platform, agent, PROMPT)
        done = freehold("trace", "fork", trace, second["spanId"], "--model", "other")
        assert done.code == 1
        assert "freehold:content-capture" in done.err
    finally:
        agent.delete()
