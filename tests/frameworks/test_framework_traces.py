"""What an instrumented agent of each framework tells of itself, and what the platform adds.

The examples, which are instrumented, asked once as they are and once with content captured; their
traces, read from our own API. FREEHOLD_WRITE_MATRIX=1 writes what was seen into
docs/observability-frameworks.md.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from framework_ground import EXAMPLES, PROMPT, Deployed, ask, deploy

from running import RunningPlatform, layer_cache, new_session, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PAGE = Path(__file__).parents[2] / "docs" / "observability-frameworks.md"
FRAMEWORKS = {
    "strands": "Strands Agents",
    "langgraph": "LangGraph",
    "crewai": "CrewAI",
    "llamaindex": "LlamaIndex",
    "google_adk": "Google ADK",
    "openai_agents": "OpenAI Agents SDK",
    "microsoft_agent_framework": "Microsoft Agent Framework",
    "plain": "none (Anthropic's SDK)",
}
ITS_OWN = {"strands": "its own", "google_adk": "its own", "microsoft_agent_framework": "its own"}
_MODEL_CALLS = ("chat", "generate_content")
_AGENTS = ("invoke_agent", "invoke_workflow")
_INSTRUMENTATION = re.compile(
    r"(?:openinference|opentelemetry)-instrumentation-[a-z-]+|aws-.*distro"
)
_SERVERS_OWN = "opentelemetry-instrumentation-starlette"
_CALLS = 2  # of the model, in each answer: for the tool, and with what it said

Spans = list[dict[str, Any]]


class Trace(NamedTuple):
    summary: dict[str, Any]
    spans: Spans

    def told(self, *operations: str, origin: str = "agent") -> Spans:
        return [
            span
            for span in self.spans
            if span["origin"] == origin and span["is"].get("operation") in operations
        ]

    @property
    def is_one_tree(self) -> bool:
        roots = [span for span in self.spans if not span.get("depth")]
        return len(roots) == 1 and not any(span.get("orphan") for span in self.spans)


class Seen(NamedTuple):
    deployed: Deployed
    answers: tuple[str, str]
    plain: Trace
    captured: Trace


@pytest.fixture(scope="module")
def seen(
    frameworks: RunningPlatform, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Seen]:
    """Deploys an example, and asks it without and with content captured; once."""
    done: dict[str, Seen] = {}

    def see(folder: str) -> Seen:
        if folder not in done:
            deployed = deploy(frameworks, folder, tmp_path_factory.mktemp(folder))
            answer, plain = asked(deployed)
            deployed.agent.control.tag_resource(
                resourceArn=deployed.agent.arn, tags={"freehold:content-capture": "on"}
            )
            answer_again, captured = asked(deployed)
            done[folder] = Seen(deployed, (answer, answer_again), plain, captured)
        return done[folder]

    return see


def asked(deployed: Deployed) -> tuple[str, Trace]:
    """The answer of a new session, and its trace."""
    session = new_session()
    answer = ask(deployed, session)
    trace = traced(deployed.agent.platform, session)
    deployed.agent.stop(session)
    return answer, trace


def traced(platform: RunningPlatform, session: str) -> Trace:
    """Once all of it has come, which follows the answer by a moment. Of the agent's spans
    its server's ends last, and those before it are sent before it or with it."""

    def found() -> Trace | None:
        traces = platform.own("/traces", sessionId=session)["traces"]
        if not traces:
            return None
        got = platform.own(f"/traces/{traces[0]['traceId']}", content="true", raw="true")
        trace = Trace(got["trace"], got["spans"])
        metered = trace.told(*_MODEL_CALLS, origin="platform")
        whole = trace.summary["complete"] and len(metered) >= _CALLS
        return trace if whole and any(map(is_of_the_server, trace.spans)) else None

    trace: Trace = until(found, seconds_max=60, every=0.2)
    return trace


def is_of_the_server(span: Mapping[str, Any]) -> bool:
    return (span["origin"], span["kind"]) == ("agent", "server")


def content_of(spans: Iterable[Mapping[str, Any]]) -> str:
    """Everything that any of them holds of what was said."""
    return "".join(str(span["raw"]) + str(span["is"].get("content", "")) for span in spans)


@pytest.mark.parametrize("folder", FRAMEWORKS)
def test_its_model_and_tool_calls_are_in_one_trace_with_the_platforms(
    seen: Callable[[str], Seen], folder: str
) -> None:
    trace = seen(folder).plain
    assert trace.is_one_tree
    assert trace.told(*_MODEL_CALLS)
    metered = trace.told("chat", "generate_content", origin="platform")
    assert [span["is"]["metered"] for span in metered] == [True] * _CALLS
    assert all(span["is"].get("tokens", {}).get("output") for span in metered)
    if folder != "plain":  # no framework, so that nobody knows of an agent or of tools
        assert trace.told(*_AGENTS)
        assert [s["is"]["tool"]["name"] for s in trace.told("execute_tool")] == ["roll_die"]


@pytest.mark.parametrize("folder", FRAMEWORKS)
def test_what_was_said_is_kept_only_where_the_runtime_says_so(
    seen: Callable[[str], Seen], folder: str
) -> None:
    got = seen(folder)
    assert PROMPT not in content_of(got.plain.spans)
    assert got.answers[0].strip() not in content_of(got.plain.spans)
    assert PROMPT in content_of(got.captured.told(*_MODEL_CALLS))
    assert got.answers[1].strip() in content_of(got.captured.told(*_MODEL_CALLS))


@pytest.mark.parametrize("folder", ["strands", "langgraph"])
def test_a_session_that_is_forked_tells_the_same(seen: Callable[[str], Seen], folder: str) -> None:
    got = seen(folder)

    def forked() -> Trace | None:
        session = new_session()
        ask(got.deployed, session)
        trace = traced(got.deployed.agent.platform, session)
        start = got.deployed.agent.platform.session(session)["start"]
        got.deployed.agent.stop(session)
        return trace if start == "forked" else None

    trace: Trace = until(forked, seconds_max=120, every=1)
    assert trace.is_one_tree
    assert kinds(trace) == kinds(got.captured)


def kinds(trace: Trace) -> list[tuple[str, str]]:
    return sorted(
        (s["is"].get("operation", ""), s["name"])
        for s in trace.told(*_AGENTS, *_MODEL_CALLS, "execute_tool")
    )


def test_the_documentation_shows_what_was_seen(seen: Callable[[str], Seen]) -> None:
    matrix = matrix_of({folder: seen(folder) for folder in FRAMEWORKS})
    versions = versions_of(FRAMEWORKS)
    print(f"\n{matrix}\n\n{versions}")
    page = PAGE.read_text()
    if os.environ.get("FREEHOLD_WRITE_MATRIX"):
        page = with_part(with_part(page, "matrix", matrix), "versions", versions)
        PAGE.write_text(page)
    assert part_of(page, "matrix") == matrix


def matrix_of(rows: Mapping[str, Seen]) -> str:
    lines = [
        "| framework | spans come from | agent | model calls | tool calls | tokens |"
        " content, captured | one tree |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for folder, got in rows.items():
        calls = got.plain.told(*_MODEL_CALLS)
        metered = got.plain.told(*_MODEL_CALLS, origin="platform")
        with_tokens = [span for span in calls if span["is"].get("tokens", {}).get("output")]
        said, noted = (
            PROMPT in content_of(got.captured.told(*_MODEL_CALLS, origin=origin))
            for origin in ("agent", "platform")
        )
        cells = (
            f"[{FRAMEWORKS[folder]}](../examples/frameworks/{folder}/requirements.txt)",
            ITS_OWN.get(folder) or ", ".join(f"`{name}`" for name in instrumentations(folder)),
            first(got.plain.told(*_AGENTS), got.plain.told(*_AGENTS, origin="platform")),
            both(bool(calls), bool(metered)),
            "yes" if got.plain.told("execute_tool") else "none",
            both(bool(with_tokens), bool(metered)),
            first(said, noted),
            "yes" if got.plain.is_one_tree else "no",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def first(framework: object, platform: object) -> str:
    return "yes" if framework else "the platform's" if platform else "none"


def both(framework: bool, platform: bool) -> str:
    found = [name for name, there in (("yes", framework), ("the platform's", platform)) if there]
    return " and ".join(found) or "none"


def instrumentations(folder: str) -> list[str]:
    text = (EXAMPLES / folder / "requirements.txt").read_text()
    names = [line.partition(">")[0] for line in text.splitlines() if _INSTRUMENTATION.match(line)]
    return [name for name in names if name != _SERVERS_OWN]


def versions_of(folders: Iterable[str]) -> str:
    """Of what the layers of the examples have."""
    found: dict[str, str] = {}
    for path in layer_cache().glob("layers/*/*.dist-info"):
        name, version = path.name.removesuffix(".dist-info").rsplit("-", 1)
        found[name.replace("_", "-")] = version
    names = {name for folder in folders for name in instrumentations(folder)} | {
        "opentelemetry-distro", "bedrock-agentcore", "strands-agents", "langgraph", "crewai",
        "llama-index-core", "google-adk", "openai-agents", "agent-framework-core", "anthropic",
    }  # fmt: skip
    return "\n".join(
        ["| package | version |", "|---|---|", *(f"| {n} | {found[n]} |" for n in sorted(names))]
    )


def part_of(page: str, name: str) -> str:
    return page.split(f"<!-- {name} -->\n", 1)[1].split(f"\n<!-- /{name} -->", 1)[0]


def with_part(page: str, name: str, text: str) -> str:
    before, _, rest = page.partition(f"<!-- {name} -->\n")
    after = rest.partition(f"<!-- /{name} -->")[2]
    return f"{before}<!-- {name} -->\n{text}\n<!-- /{name} -->{after}"
