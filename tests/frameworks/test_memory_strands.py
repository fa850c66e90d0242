"""Strands' sessions in a memory, by AWS's session manager for it, as it is."""

import re
from typing import Any

import pytest
from memory_framework_ground import MemoryAgents, somebody

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TURNS = "/turns/actors/{actorId}/"


def texts(messages: list[Any]) -> list[str]:
    return [
        block["text"].strip() for each in messages for block in each["content"] if "text" in block
    ]


@pytest.mark.parametrize("batch_size", [1, 10])
def test_a_conversation_goes_on_after_a_restart(
    memory_agents: MemoryAgents, batch_size: int
) -> None:
    """Every message in its order, those of tools too, and the agent's own state."""
    who = {"actor": somebody(), "session": "s1", "batch_size": batch_size}
    said = [f"Word {n}." for n in range(6)]
    first = memory_agents.do(
        "strands", "ask", prompts=[*said, "Please roll a die with a billion sides."], **who
    )
    assert first["restored"] == []
    assert re.fullmatch(r"You rolled \d+\.", first["answers"][-1])
    second = memory_agents.restarted("strands", "ask", prompts=["And on."], **who)
    kinds = [next(iter(block)) for each in second["restored"] for block in each["content"]]
    assert kinds == ["text"] * 13 + ["toolUse", "toolResult", "text"]
    expected = [text for word in said for text in (word, f"I heard: {word}")]
    assert texts(second["restored"])[:12] == expected
    assert texts(second["restored"]) == texts(first["messages"])
    assert second["asked"] == 8


def test_a_message_too_large_for_a_text_is_kept_too(memory_agents: MemoryAgents) -> None:
    who = {"actor": somebody(), "session": "s1"}
    large = "Word. " * 30_000
    memory_agents.do("strands", "ask", prompts=[large], **who)
    again = memory_agents.do("strands", "ask", prompts=["And on."], **who)
    assert texts(again["restored"])[0] == large.strip()


def test_what_was_said_before_is_put_before_a_question(memory_agents: MemoryAgents) -> None:
    """In another conversation; what is retrieved is what was said, not the document around it."""
    anna, ben = somebody(), somebody()
    memory_agents.do(
        "strands", "ask", actor=anna, session="s1", prompts=["My dog is called Bella."]
    )
    assert memory_agents.found(f"/turns/actors/{anna}/", "dog")[0] == "My dog is called Bella."
    asked = {"session": "s2", "prompts": ["What is my dog called?"], "where": [TURNS]}
    known = memory_agents.do("strands", "ask", actor=anna, **asked)
    assert known["answers"] == ["It is Bella, is it not?"]
    unknown = memory_agents.do("strands", "ask", actor=ben, **asked)
    assert unknown["answers"] == ["You never told me."]


def test_what_was_recalled_is_not_kept_as_said(memory_agents: MemoryAgents) -> None:
    anna = somebody()
    memory_agents.do(
        "strands", "ask", actor=anna, session="s1", prompts=["My dog is called Bella."]
    )
    asked = {"actor": anna, "session": "s2", "where": [TURNS]}
    memory_agents.do("strands", "ask", prompts=["What is my dog called?"], **asked)
    again = memory_agents.do("strands", "ask", prompts=["Thanks!"], **asked)
    assert texts(again["restored"]) == ["What is my dog called?", "It is Bella, is it not?"]


def test_its_memory_stores_write_and_search(memory_agents: MemoryAgents) -> None:
    found = memory_agents.do(
        "strands", "note", actor=somebody(), session="s1", query="violin",
        where="/turns/actors/{actorId}/sessions/{sessionId}/",
        texts=["I play the violin.", "It rains."],
    )  # fmt: skip
    assert found[0] == "I play the violin."
