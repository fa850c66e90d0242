"""Agents of several frameworks with one memory, and restarts of them."""

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from freehold import integrations
from freehold.testing.scripted_model import Rule, ScriptedToolCall
from running import SETTLED, Agent, RunningPlatform, new_session, until

AGENTS = Path(__file__).parent / "memory_agents"
OURS = Path(integrations.__file__).parent
REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "langgraph": (
        "bedrock-agentcore>=1.25,<2",
        "langchain>=1.4,<2",
        "langchain-openai>=1.7,<2",
        "langgraph>=1.2,<2",
        "langgraph-checkpoint-aws>=1.2,<2",
        "langgraph-checkpoint-conformance==0.0.2",
    ),
    "strands": ("bedrock-agentcore>=1.25,<2", "openai", "strands-agents>=1.62,<2"),
    "llamaindex": (
        "bedrock-agentcore>=1.25,<2",
        "llama-index-core>=0.14,<0.15",
        "llama-index-llms-openai-like>=0.8,<0.9",
        "llama-index-memory-bedrock-agentcore>=0.2,<0.3",
    ),
}
_DEPLOY_SECONDS_MAX = 900
# A pet's name cannot be guessed: whoever says it has it from the memory.
MEMORY_RULES = (
    Rule(
        when=r'(?s)"n":.*dog is called (\w+)',
        reply=r'{"items": [{"text": "The person has a dog of the name \1.", "from": [1]}]}',
    ),
    Rule(when='(?s)^{.*"messages":', reply='{"items": [], "decisions": []}'),
    Rule(
        when=r"(?s)<(?:user_context|remembered)>.*dog (?:is called|of the name) (\w+)"
        r".*What is my dog",
        reply=r"It is \1, is it not?",
    ),
    Rule(when=r"(?s)What is my dog", tool_call=ScriptedToolCall("recall", {"query": "dog"})),
    Rule(when=r"(?s)What is my dog", reply="You never told me."),
    Rule(role="tool", when=r"dog is called (\w+)", reply=r"It is \1, is it not?"),
    Rule(when=r"(?s)^(?:.*</(?:user_context|remembered)>\s*)?(.{0,200})", reply=r"I heard: \1"),
)


class MemoryAgents:
    """One memory of raw turns, and an agent of each framework, deployed as an agent runtime when
    it is first asked."""

    def __init__(self, platform: RunningPlatform) -> None:
        self.platform = platform
        self._control = platform.client("bedrock-agentcore-control")
        self.data = platform.client("bedrock-agentcore")
        self.memory, _ = self._made()
        self._agents: dict[str, Agent] = {}
        self._sessions: dict[str, str] = {}

    def _made(self, *strategies: Any) -> tuple[str, list[str]]:
        made = self._control.create_memory(
            name=f"shared{uuid.uuid4().hex[:8]}", eventExpiryDuration=30,
            memoryStrategies=strategies, tags={"freehold:turns": "on"},
        )["memory"]  # fmt: skip

        def active() -> bool:
            shown = self._control.get_memory(memoryId=made["id"])["memory"]
            return bool(shown["status"] == "ACTIVE")

        until(active)
        return made["id"], [each["strategyId"] for each in made["strategies"]]

    @contextlib.contextmanager
    def learning(self) -> Iterator[tuple[str, str]]:
        """A memory with a strategy that notes facts: (its id, the strategy's). Afterwards it asks
        the model nothing more, whose requests other tests look at."""
        memory, [facts] = self._made({"semanticMemoryStrategy": {"name": "facts"}})
        try:
            yield memory, facts
        finally:
            self._control.delete_memory(memoryId=memory)

    def _deploy(self, framework: str) -> Agent:
        files = {
            "main.py": (AGENTS / f"{framework}_agent.py").read_text(),
            **{path.name: path.read_text() for path in OURS.glob("*_store.py")},
            "requirements.txt": "\n".join((*REQUIREMENTS[framework], "")),
        }
        agent = self.platform.create(files, name=f"{framework}_{uuid.uuid4().hex[:6]}")

        def settled() -> Any:
            shown = agent.control.get_agent_runtime(agentRuntimeId=agent.id)
            return shown["status"] in SETTLED and shown

        shown = until(settled, seconds_max=_DEPLOY_SECONDS_MAX)
        assert shown["status"] == "READY", shown
        return agent

    def do(self, framework: str, do: str, **asked: Any) -> Any:
        """What the agent answers, in the session that it has."""
        if framework not in self._agents:
            self._agents[framework] = self._deploy(framework)
        agent = self._agents[framework]
        session = self._sessions.setdefault(framework, new_session())
        answer = agent.invoke({"do": do, **{"memory": self.memory, **asked}}, session)
        assert isinstance(answer, dict), answer
        return answer["answer"]

    def restarted(self, framework: str, do: str, **asked: Any) -> Any:
        """In a new session: a sandbox and a process that know nothing of others."""
        self._agents[framework].stop(self._sessions.pop(framework))
        return self.do(framework, do, **asked)

    def found(self, path: str, query: str, memory: str = "") -> list[str]:
        """By boto3, below a path."""
        answer = self.data.retrieve_memory_records(
            memoryId=memory or self.memory,
            namespacePath=path,
            searchCriteria={"searchQuery": query},
        )
        return [record["content"]["text"] for record in answer["memoryRecordSummaries"]]


def somebody() -> str:
    return f"anna-{uuid.uuid4().hex[:8]}"
