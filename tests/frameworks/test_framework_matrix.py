"""Each framework's example, as it is, calls its tool through a model that configuration names.

FREEHOLD_WRITE_MATRIX=1 writes what was seen into docs/frameworks.md; with =measured also what
was measured, which no test compares: for a run without a layer cache (FREEHOLD_TEST_LAYER_CACHE
names an empty folder).
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from framework_ground import Deployed, ask, deploy, newly_rolled, wire_of

from running import RunningPlatform, layer_cache, new_session
from served_model import MODEL_KEY, ServedModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"


class Framework(NamedTuple):
    """`beside`: a package that tells its layer from that of another example."""

    name: str
    package: str
    beside: str = "bedrock-agentcore"


FRAMEWORKS = {
    "langgraph": Framework("LangGraph", "langgraph"),
    "strands": Framework("Strands Agents", "strands-agents"),
    "strands_a2a": Framework("Strands Agents", "strands-agents", "a2a-sdk"),
    "crewai": Framework("CrewAI", "crewai"),
    "llamaindex": Framework("LlamaIndex", "llama-index-core"),
    "google_adk": Framework("Google ADK", "google-adk", "a2a-sdk"),
    "openai_agents": Framework("OpenAI Agents SDK", "openai-agents"),
    "microsoft_agent_framework": Framework("Microsoft Agent Framework", "agent-framework-core"),
    "plain": Framework("none (Anthropic's SDK)", "anthropic"),
}
SERVERS = {"HTTP": "`bedrock-agentcore`, HTTP", "A2A": "the framework's own, A2A"}


class Seen(NamedTuple):
    """A row of the matrix, and what is only measured."""

    deployed: Deployed
    answer: str
    rolled: list[str]
    requests: list[tuple[str, str]]
    keys: set[str]
    first_answer_ms: float

    @property
    def works(self) -> bool:
        return len(self.rolled) == 1 and f"You rolled {self.rolled[0]}." in self.answer


@pytest.fixture(scope="module")
def seen(
    frameworks: RunningPlatform,
    dice_model: ServedModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Seen]:
    """Deploys an example and asks it once; what came of it, at every later call too."""
    done: dict[str, Seen] = {}

    def see(folder: str) -> Seen:
        if folder not in done:
            deployed = deploy(frameworks, folder, tmp_path_factory.mktemp(folder))
            done[folder] = _asked(deployed, dice_model)
        return done[folder]

    return see


def _asked(deployed: Deployed, dice_model: ServedModel) -> Seen:
    model, session = dice_model.model, new_session()
    model.requests.clear()
    started = time.monotonic()
    answer = ask(deployed, session)
    took = (time.monotonic() - started) * 1e3
    requests = list(model.requests)
    seen = Seen(
        deployed=deployed,
        answer=answer,
        rolled=newly_rolled(deployed.agent, []),
        requests=[(request.path, json.dumps(request.document)) for request in requests],
        keys={key for request in requests if (key := _key(request.headers))},
        first_answer_ms=took,
    )
    deployed.agent.stop(session)
    return seen


def _key(headers: dict[str, str]) -> str:
    names = ("authorization", "x-api-key", "x-goog-api-key")
    return next((headers[n].removeprefix("Bearer ") for n in names if n in headers), "")


@pytest.mark.parametrize("folder", FRAMEWORKS)
def test_an_agent_answers_with_what_its_tool_said(seen: Callable[[str], Seen], folder: str) -> None:
    """The tool's own log says what it rolled: the answer has it, and no request had it before."""
    got = seen(folder)
    [number] = got.rolled
    assert f"You rolled {number}." in got.answer
    (_, asked), (_, told) = got.requests
    assert number not in asked
    assert number in told
    assert got.keys == {MODEL_KEY}


def test_the_documentation_shows_what_was_seen(seen: Callable[[str], Seen]) -> None:
    rows = {folder: seen(folder) for folder in FRAMEWORKS}
    matrix, measured = _matrix(rows), _measured(rows)
    print(f"\n{matrix}\n\n{measured}")
    page = PAGE.read_text()
    if wanted := os.environ.get("FREEHOLD_WRITE_MATRIX"):
        page = _with(page, "matrix", matrix)
        page = _with(page, "measured", measured) if wanted == "measured" else page
        PAGE.write_text(page)
    assert _part(page, "matrix") == matrix


def _matrix(rows: dict[str, Seen]) -> str:
    lines = [
        "| framework | example | server | the model's wire | calls its tool, answers |",
        "|---|---|---|---|---|",
    ]
    for folder, got in rows.items():
        link = f"[{folder}](../examples/frameworks/{folder}/main.py)"
        wires = ", ".join(dict.fromkeys(wire_of(path) for path, _ in got.requests))
        lines.append(
            f"| {FRAMEWORKS[folder].name} | {link} | {SERVERS[got.deployed.protocol]} | {wires}"
            f" | {'yes' if got.works else 'no'} |"
        )
    return "\n".join(lines)


def _measured(rows: dict[str, Seen]) -> str:
    lines = [
        "| example | version | installed, MiB | deployed in, s | new session to whole answer, ms |",
        "|---|---|---|---|---|",
    ]
    for folder, got in rows.items():
        version, mib = _installed(FRAMEWORKS[folder])
        lines.append(
            f"| {folder} | {FRAMEWORKS[folder].package} {version} | {mib} |"
            f" {got.deployed.seconds:.0f} | {got.first_answer_ms:.0f} |"
        )
    return "\n".join(lines)


def _installed(framework: Framework) -> tuple[str, int]:
    """Version, and size in MiB, of the smallest layer with it."""
    named, beside = (name.replace("-", "_") for name in (framework.package, framework.beside))
    layers = [
        (_mib(found.parent), found.name.removeprefix(f"{named}-").removesuffix(".dist-info"))
        for found in layer_cache().glob(f"layers/*/{named}-*.dist-info")
        if any(found.parent.glob(f"{beside}-*.dist-info"))
    ]
    mib, version = min(layers)
    return version, mib


def _mib(layer: Path) -> int:
    return sum(path.lstat().st_size for path in layer.rglob("*") if not path.is_dir()) >> 20


def _part(page: str, name: str) -> str:
    return page.split(f"<!-- {name} -->\n", 1)[1].split(f"\n<!-- /{name} -->", 1)[0]


def _with(page: str, name: str, text: str) -> str:
    before, _, rest = page.partition(f"<!-- {name} -->\n")
    return (
        f"{before}<!-- {name} -->\n{text}\n<!-- /{name} -->{rest.partition(f'<!-- /{name} -->')[2]}"
    )
