"""One memory, agents of different frameworks: what one was told, the other knows."""

import pytest
from memory_framework_ground import MemoryAgents, somebody

from running import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TOLD, QUESTION, KNOWN = (
    "My dog is called Bella.",
    "What is my dog called?",
    "It is Bella, is it not?",
)
TURNS = "/turns/actors/{actorId}/"


def test_strands_is_told_and_langgraph_knows(memory_agents: MemoryAgents) -> None:
    anna = somebody()
    memory_agents.do("strands", "ask", actor=anna, session="s1", prompts=[TOLD])
    heard = memory_agents.do(
        "langgraph", "ask", actor=anna, thread="t1", prompt=QUESTION,
        where=["turns", "actors", anna],
    )  # fmt: skip
    assert heard == [QUESTION, KNOWN]


def test_langgraph_is_told_and_strands_knows(memory_agents: MemoryAgents) -> None:
    anna = somebody()
    memory_agents.do("langgraph", "ask", actor=anna, thread="t1", prompt=TOLD)
    heard = memory_agents.do(
        "strands", "ask", actor=anna, session="s1", prompts=[QUESTION], where=[TURNS]
    )
    assert heard["answers"] == [KNOWN]


def test_llamaindex_is_told_and_both_know(memory_agents: MemoryAgents) -> None:
    anna = somebody()
    memory_agents.do("llamaindex", "ask", actor=anna, session="s1", prompts=[TOLD])
    strands = memory_agents.do(
        "strands", "ask", actor=anna, session="s2", prompts=[QUESTION], where=[TURNS]
    )
    langgraph = memory_agents.do(
        "langgraph", "ask", actor=anna, thread="t1", prompt=QUESTION,
        where=["turns", "actors", anna],
    )  # fmt: skip
    assert strands["answers"] == [langgraph[-1]] == [KNOWN]


def test_a_fact_learned_from_one_is_known_to_the_others(memory_agents: MemoryAgents) -> None:
    """A strategy learns it from the words of a person in the form that Strands keeps them in. They
    are long, so that nothing waits for the conversation to fall silent."""
    anna = somebody()
    long = f"{TOLD} " + "It is a fine day. " * 600
    fact = "The person has a dog of the name Bella."
    with memory_agents.learning() as (memory, facts):
        of = {"actor": anna, "memory": memory}
        memory_agents.do("strands", "ask", session="s1", prompts=[long], **of)
        where = ["strategies", facts, "actors", anna]
        path = f"/{'/'.join(where)}/"
        assert until(lambda: memory_agents.found(path, "dog", memory)) == [fact]
        heard = memory_agents.do(
            "langgraph", "ask", thread="t1", prompt=QUESTION, where=where, **of
        )
        assert heard == [QUESTION, KNOWN]
        own = {"session": "s2", "where": path, **of}
        memory_agents.do("llamaindex", "put", messages=[["user", "Hello."]], **own)
        system = memory_agents.do("llamaindex", "get", query=QUESTION, **own)
        assert fact in system[0][1]
