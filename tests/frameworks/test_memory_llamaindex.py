"""LlamaIndex's memory by its own package for AgentCore, as it is."""

import json

import pytest
from memory_framework_ground import MemoryAgents, somebody

from served_model import ServedModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SAID = [["user", "My dog is called Bella."], ["assistant", "How lovely!"], ["user", "Yes."]]


def test_what_was_put_is_got_after_a_restart(memory_agents: MemoryAgents) -> None:
    who = {"actor": somebody(), "session": "s1"}
    assert memory_agents.do("llamaindex", "put", messages=SAID, **who) == SAID
    more = [["assistant", "Indeed."]]
    assert memory_agents.do("llamaindex", "add", messages=more, **who) == [*SAID, *more]
    assert memory_agents.restarted("llamaindex", "get", **who)[1:] == [*SAID, *more]
    assert memory_agents.do("llamaindex", "forget", **who) == []


def test_an_agent_goes_on_after_a_restart(memory_agents: MemoryAgents) -> None:
    who = {"actor": somebody(), "session": "s1"}
    first = memory_agents.do("llamaindex", "ask", prompts=["One.", "Two."], **who)
    assert first["answers"] == ["I heard: One.", "I heard: Two."]
    second = memory_agents.restarted("llamaindex", "ask", prompts=["Three."], **who)
    assert [text for _, text in second["messages"]] == [
        "One.", "I heard: One.", "Two.", "I heard: Two.", "Three.", "I heard: Three.",
    ]  # fmt: skip


def test_what_was_said_before_is_in_the_system_message(
    memory_agents: MemoryAgents, dice_model: ServedModel
) -> None:
    """It asks for one namespace exactly: that of a session, or of a strategy's facts."""
    anna = somebody()
    memory_agents.do("llamaindex", "put", actor=anna, session="s1", messages=SAID)
    where = f"/turns/actors/{anna}/sessions/s1/"
    question = f"What is my dog called, says {anna}?"
    memory_agents.do("llamaindex", "ask", actor=anna, session="s2", where=where, prompts=[question])
    requests = [each.document for each in dice_model.model.requests]  # of other tests too
    asked = [each["messages"] for each in requests if question in json.dumps(each)]
    (system, _), *_ = asked
    assert system["role"] == "system"
    assert "My dog is called Bella." in json.dumps(system["content"])
