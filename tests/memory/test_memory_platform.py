"""Memories on a running platform, and from inside a session by the unmodified SDK."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import agents
from running import Agent, RunningPlatform, refusal, until

pytestmark = pytest.mark.timeout(300)

SDK = """
from bedrock_agentcore.memory import MemoryClient
client = MemoryClient(region_name="us-east-1")
memory = {memory!r}
client.create_event(
    memory_id=memory, actor_id="ben", session_id="inside",
    messages=[("My sister Clara plays the cello.", "USER"), ("How nice!", "ASSISTANT")],
)
turns = client.get_last_k_turns(memory_id=memory, actor_id="ben", session_id="inside", k=1)
answer = [message["content"]["text"] for turn in turns for message in turn]
"""


@pytest.fixture
def memory(platform: RunningPlatform) -> Iterator[str]:
    control = platform.client("bedrock-agentcore-control")
    made = control.create_memory(
        name=f"m{uuid.uuid4().hex[:8]}", eventExpiryDuration=30, tags={"freehold:turns": "on"}
    )["memory"]["id"]
    yield made
    control.delete_memory(memoryId=made)


def say(platform: RunningPlatform, memory: str, text: str, *, actor: str = "anna") -> str:
    event = platform.client("bedrock-agentcore").create_event(
        memoryId=memory, actorId=actor, sessionId="s1", eventTimestamp=datetime.now(UTC),
        payload=[{"conversational": {"role": "USER", "content": {"text": text}}}],
    )["event"]  # fmt: skip
    return str(event["eventId"])


def found(platform: RunningPlatform, memory: str, query: str, path: str) -> list[str]:
    answer = platform.client("bedrock-agentcore").retrieve_memory_records(
        memoryId=memory, namespacePath=path, searchCriteria={"searchQuery": query, "topK": 3}
    )
    return [record["content"]["text"] for record in answer["memoryRecordSummaries"]]


def test_what_was_said_is_found_as_it_was_said(platform: RunningPlatform, memory: str) -> None:
    for text in (
        "I moved from Rostock to Leipzig for a job at the zoo.",
        "My dog Bella loves the beach.",
        "I cannot stand coriander.",
    ):
        say(platform, memory, text)
    path = "/turns/actors/anna/"
    question = "Which animal does she keep? A dog?"
    # Once all have their vectors, which follow in the background.
    until(lambda: found(platform, memory, question, path)[:1] == ["My dog Bella loves the beach."])
    assert found(platform, memory, "dog", "/turns/actors/somebody-else/") == []


def test_i_am_the_actor_whose_turns_are_searched(platform: RunningPlatform, memory: str) -> None:
    say(platform, memory, "My flight to Rome is early.", actor="anna/guide")
    say(platform, memory, "My flight to Oslo is early.", actor="anna")
    for path, first in (("anna/", "Oslo"), ("anna/guide/sessions/s1/", "Rome")):
        best = found(platform, memory, "How early is my flight?", f"/turns/actors/{path}")
        assert best[0] == f"My flight to {first} is early."


def test_an_agent_remembers_without_a_secret(platform: RunningPlatform, memory: str) -> None:
    """The SDK's own client, in a session."""
    agent: Agent = platform.deploy(agents.obeying("bedrock-agentcore==1.25.0\n"))
    said = agent.invoke({"run": SDK.format(memory=memory)})
    assert said == ["My sister Clara plays the cello.", "How nice!"]
    texts = [
        item["conversational"]["content"]["text"]
        for event in platform.client("bedrock-agentcore").list_events(
            memoryId=memory, actorId="ben", sessionId="inside"
        )["events"]
        for item in event["payload"]
    ]
    assert texts == ["My sister Clara plays the cello.", "How nice!"]
    agent.delete()


def test_a_memory_that_is_deleted_takes_everything_along(platform: RunningPlatform) -> None:
    control: Any = platform.client("bedrock-agentcore-control")
    made = control.create_memory(
        name=f"m{uuid.uuid4().hex[:8]}", eventExpiryDuration=30, tags={"freehold:turns": "on"}
    )["memory"]["id"]
    say(platform, made, "gone soon")
    control.delete_memory(memoryId=made)
    assert refusal(lambda: say(platform, made, "too late")).status == 404
    until(lambda: made not in [each["id"] for each in control.list_memories()["memories"]])


def test_the_status_says_what_waits(platform: RunningPlatform, memory: str) -> None:
    status = platform.own(f"/memories/{memory}/status")
    assert (status["status"], status["turns"], status["waiting"]) == ("ACTIVE", True, [])
