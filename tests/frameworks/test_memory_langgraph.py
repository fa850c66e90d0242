"""LangGraph's checkpoints and store in a memory, by AWS's package for it, as it is."""

import hashlib
import uuid

import pytest
from memory_framework_ground import MemoryAgents, somebody

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

FORMATS = ("legacy", "snapshot")
LARGE = 3_000_000


@pytest.mark.parametrize("kind", FORMATS)
def test_a_thread_that_waits_for_an_answer_goes_on_after_a_restart(
    memory_agents: MemoryAgents, kind: str
) -> None:
    """Its state is larger than a message may be, and whole again in another process."""
    id = uuid.uuid4().hex
    asked = memory_agents.do("langgraph", "begin", kind=kind, id=id, blob_bytes=LARGE)
    assert asked == [2]
    state = memory_agents.restarted("langgraph", "resume", kind=kind, id=id, value="yes")
    assert state == {
        "waited for": ["ask"], "n": 20, "log": ["one", "said yes", "two"],
        "blob": [LARGE, hashlib.sha256(b"x" * LARGE).hexdigest()],
        "history": [20, 2, 2, 1, None],
    }  # fmt: skip
    left = memory_agents.do("langgraph", "forget", kind=kind, id=id)
    assert left == {"values": {}, "history": []}
    sessions = memory_agents.data.list_sessions(
        memoryId=memory_agents.memory, actorId="anna", filter={"eventFilter": "HAS_EVENTS"}
    )
    assert id not in str(sessions["sessionSummaries"])


@pytest.mark.parametrize("what", ["travel", "work", "inner"])
def test_it_does_what_langgraphs_own_saver_does(memory_agents: MemoryAgents, what: str) -> None:
    """Time travel, branches and histories; writes of tasks beside one that fails; graphs within
    graphs: compared with the saver that keeps everything in its process."""
    own = memory_agents.do("langgraph", what, kind="in memory")
    for kind in FORMATS:
        assert memory_agents.do("langgraph", what, kind=kind) == own
    if what == "travel":
        assert own["branched"] == [70, ["one", "said else", "two"]]
        assert own["updates"] == 1 and own["limited"] == 2
    else:
        assert own["log"] == (["said ok"] if what == "inner" else [*range(20)])


@pytest.mark.parametrize("kind", FORMATS)
def test_it_keeps_langgraphs_rules_for_checkpointers(
    memory_agents: MemoryAgents, kind: str
) -> None:
    """Those that it fails it fails by itself: it writes the same again as one more event, and it
    deletes a thread without the sessions of the graphs within it. docs/memory-frameworks.md says
    so."""
    found = memory_agents.do("langgraph", "checks", kind=kind)
    assert found["passed"].keys() == {"put", "put_writes", "get_tuple", "list", "delete_thread"}
    assert sum(found["passed"].values()) >= 56
    assert set(found["failed"]) <= {
        "test_put_writes_idempotent",
        "test_delete_thread_removes_all_namespaces",
    }


def test_what_is_said_in_one_thread_is_known_in_another(memory_agents: MemoryAgents) -> None:
    anna, ben = somebody(), somebody()
    where = ["turns", "actors", anna]
    told = memory_agents.do(
        "langgraph", "ask", actor=anna, thread="t1", prompt="My dog is called Bella.", where=where
    )
    assert told[-1] == "I heard: My dog is called Bella."
    question = "What is my dog called?"
    asked = {"thread": "t2", "prompt": question}
    again = memory_agents.do("langgraph", "ask", actor=anna, where=where, **asked)
    assert again == [question, "It is Bella, is it not?"]
    other = memory_agents.do("langgraph", "ask", actor=ben, where=["turns", "actors", ben], **asked)
    assert other == [question, "You never told me."]
    longer = memory_agents.do(
        "langgraph", "ask", actor=anna, thread="t2", prompt="Thanks!", where=where
    )
    assert longer == [*again, "Thanks!", "I heard: Thanks!"]


def test_an_agent_of_langchains_remembers_its_thread_and_looks_up_others(
    memory_agents: MemoryAgents,
) -> None:
    anna = somebody()
    memory_agents.do("langgraph", "ask", actor=anna, thread="t1", prompt="My dog is called Bella.")
    who = {"actor": anna, "thread": "t2"}
    first = memory_agents.do("langgraph", "assist", prompt="What is my dog called?", **who)
    assert first[2:] == [["tool", "My dog is called Bella."], ["ai", "It is Bella, is it not?"]]
    second = memory_agents.do("langgraph", "assist", prompt="Thanks!", **who)
    assert second == [*first, ["human", "Thanks!"], ["ai", "I heard: Thanks!"]]


def test_its_store_searches_one_namespace_or_all_below(memory_agents: MemoryAgents) -> None:
    anna = somebody()
    for thread, text in (("t1", "I play the violin."), ("t2", "A violin is dear.")):
        memory_agents.do("langgraph", "ask", actor=anna, thread=thread, prompt=text)
    where = ["turns", "actors", anna]
    below = memory_agents.do("langgraph", "search", where=where, query="violin", limit=10)
    assert {"I play the violin.", "A violin is dear."} < set(below)
    one = [*where, "sessions", "t1"]
    exact = memory_agents.do("langgraph", "search", where=one, query="violin", exactly=True)
    assert set(exact) == {"I play the violin.", "I heard: I play the violin."}
    search = {"where": where, "query": "violin"}
    assert memory_agents.do("langgraph", "search", exactly=True, **search) == []
    assert len(memory_agents.do("langgraph", "search", limit=1, **search)) == 1


def test_our_store_keeps_documents_as_langgraphs_own_does(memory_agents: MemoryAgents) -> None:
    root = f"/store/{uuid.uuid4().hex}/"
    ours = memory_agents.do("langgraph", "documents", root=root)
    own = memory_agents.do("langgraph", "documents")
    anna = ["users", "anna"]
    # LangGraph's own lists namespaces that are empty, too.
    assert (ours.pop("namespaces"), own.pop("namespaces")[2:4]) == (
        [["users", "ann"], anna, [*anna, "of old"]], [anna, [*anna, "of old"]],
    )  # fmt: skip
    assert (ours.pop("shallow"), own.pop("shallow")[1:2]) == ([["users", "ann"], anna], [anna])
    assert ours == own
    found = memory_agents.restarted("langgraph", "look_up", root=root, query="tea")
    assert found[0] == "green tea"
